"""The named tests of other schedulers' bugs find them: each fails when its bug is planted (docs/reliability.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kube import pools
from kube.objects import Pod
from packing.dra.model import ClaimUid
from scheduler import view
from scheduler.bind import Binder
from scheduler.claimwriter import ClaimWriter
from scheduler.decider import Decider
from scheduler.faults import FinalFault
from scheduler.ledger import Ledger
from scheduler.reservations import Reservations
from tests.kube import test_pools
from tests.scheduler import test_bind, test_bind_shared

Patch = pytest.MonkeyPatch
Proof = Callable[[], None]


def devices_go_with_their_pod(patch: Patch) -> None:
    """A deleted pod frees its devices at once, whatever its claim says (k/k #141471)."""
    real = Ledger.pod_gone

    def pod_gone(self: Ledger, pod: Pod) -> None:
        real(self, pod)
        for claim in self.view.claims.values():
            if pod.metadata.uid in view.reserved_pods(claim):
                self.books.remove(claim)

    patch.setattr(Ledger, "pod_gone", pod_gone)


def foreign_allocations_joined_unseen(patch: Patch) -> None:
    """A claim that another scheduler allocated meanwhile is taken for ours (k/k #128980)."""
    patch.setattr(ClaimWriter, "_check", lambda self, claim, node: None)


def every_attempt_decides_anew(patch: Patch) -> None:
    """A pod that does not fit costs a decision each time it is tried (KAI #848)."""
    patch.setattr(Decider, "_cached", lambda self, key, resolved, names: None)


def promises_never_expire(patch: Patch) -> None:
    """What filter reserved stays reserved when no bind comes (HAMi #1905)."""
    patch.setattr(Reservations, "expire", lambda self, now: [])


def what_if_reserves(patch: Patch) -> None:
    """A question what an eviction would free counts as a decision (Volcano #5335)."""
    real = Decider.preempt

    def preempt(self: Decider, asked: Any) -> Any:
        self.ledger.books.put(next(iter(self.ledger.view.claims.values())))
        return real(self, asked)

    patch.setattr(Decider, "preempt", preempt)


def repeated_events_count_again(patch: Patch) -> None:
    """An event that comes twice changes the books twice (Volcano #5253)."""
    patch.setattr(view, "version_of", lambda obj: 0)


def a_bound_pod_is_a_conflict(patch: Patch) -> None:
    """A bind that had succeeded fails for ever (k/k #122494)."""

    async def conflicting(self: Binder, pod: Pod, node: str, text: str, until: float) -> None:
        raise FinalFault(text)

    patch.setattr(Binder, "_conflicting", conflicting)


def plans_are_of_pods(patch: Patch) -> None:
    """Each pod of a shared claim is decided by itself (k/k #140053)."""

    def planned(self: Reservations, claim: ClaimUid) -> None:
        return None

    patch.setattr(Reservations, "planned", planned)


def incomplete_pools_count(patch: Patch) -> None:
    """A pool is used although slices of it are missing (autoscaler #10199)."""
    patch.setattr(pools, "_fault", lambda slices, newest: "")


def an_incomplete_pool_is_told() -> None:
    test_pools.TestT38CompletenessOfPools().test_a_node_that_reaches_an_incomplete_pool_is_told()


SEEDED: list[tuple[Callable[[Patch], None], Proof]] = [
    (
        devices_go_with_their_pod,
        test_bind_shared.test_t02_devices_of_a_pod_that_was_deleted_by_force_stay_in_use_until_its_claim_lets_go,
    ),
    (
        devices_go_with_their_pod,
        test_bind_shared.test_t03_a_client_that_deletes_every_pod_by_force_gets_no_device_twice,
    ),
    (
        foreign_allocations_joined_unseen,
        test_bind_shared.test_t04_devices_that_another_took_in_the_meantime_are_not_written_over,
    ),
    (
        every_attempt_decides_anew,
        test_bind_shared.test_t21_a_pod_that_does_not_fit_is_told_the_same_again_and_costs_no_decision,
    ),
    (promises_never_expire, test_bind.test_t23_a_decision_that_is_never_bound_expires),
    (what_if_reserves, test_bind_shared.test_t32_what_if_writes_nothing_and_changes_nothing),
    (repeated_events_count_again, test_bind_shared.test_t33_events_that_come_twice_or_late_change_nothing),
    (a_bound_pod_is_a_conflict, test_bind.test_t35_a_repeated_bind_is_success),
    (incomplete_pools_count, an_incomplete_pool_is_told),
    (plans_are_of_pods, test_bind_shared.test_t36_pods_that_share_a_claim_end_on_one_node_without_a_conflict),
]


@pytest.mark.parametrize(("bug", "proof"), SEEDED, ids=lambda each: each.__name__)
def test_the_named_test_fails_with_its_bug(bug: Callable[[Patch], None], proof: Proof, monkeypatch: Patch) -> None:
    proof()
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        proof()
