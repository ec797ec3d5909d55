"""The state machine of docs/reservations.md, against random interleavings; and that it finds seeded mistakes (I7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from kube.objects import ResourceClaim
from packing.dra.model import ClaimUid
from scheduler import settle, view
from scheduler.claimwriter import ClaimWriter
from scheduler.leadership import Fence
from scheduler.reservations import Effect, PodUid, Reservations
from tests.scheduler.modelapi import deliver
from tests.scheduler.modelworld import World, WorldWithSlack

RUN = settings(max_examples=100, stateful_step_count=80, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("world", [World, WorldWithSlack])
def test_t01_no_device_is_given_twice_nothing_is_held_for_ever_and_every_pod_ends(world: type[World]) -> None:
    run_state_machine_as_test(world, settings=RUN)


@pytest.mark.soak
@pytest.mark.parametrize("world", [World, WorldWithSlack])
def test_the_same_with_new_interleavings(world: type[World]) -> None:
    run_state_machine_as_test(world, settings=settings(RUN, max_examples=10_000, derandomize=False, print_blob=True))


def lease_given_back_unheard() -> None:
    """kube-scheduler ends alone; the extender beside it has not read that, and its claim has no finalizer yet.

    Raises AssertionError where a device ends in two claims.
    """
    world = World()
    world.begin(shapes=[], lost=False)
    try:
        world.place(0, {"own": 1}, ("n0",), "new")  # its finalizer is on its way
        former = world.replicas[world.holder]
        assert [each.what for each in world.api.inflight] == ["finalize"]
        world.trouble(1, "give lease back")
        for each in [each for each in world.api.inflight if each.sender is not former]:
            deliver(world.api, each)  # the take-over, where there is one already
            world._spin()
        assert former.leadership.left() > 0, "both may write"
        world.place(0, {"own": 1}, ("n0",), "new")
        world.network(0, "all")
        world.no_device_is_in_two_claims()
    finally:
        world.teardown()


def test_a_lease_given_back_unheard_leaves_no_device_in_two_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    lease_given_back_unheard()
    monkeypatch.setattr(Fence, "alone", lambda self, now: self.ours)  # what it was before: no wait
    with pytest.raises(AssertionError):
        lease_given_back_unheard()


# Seeded mistakes: each one must be found, or the test above proves little.

HUNT = settings(
    max_examples=800,
    stateful_step_count=80,
    deadline=None,
    database=None,
    print_blob=False,
    report_multiple_bugs=False,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def drop_while_writing(patch: pytest.MonkeyPatch) -> None:
    """A deleted pod gives up its devices although their write is on its way."""

    def pod_gone(self: Reservations, pod: PodUid) -> list[Effect]:
        for claim in [claim for claim in self.writes if any(pod in each.pods for each in self.plans[claim].values())]:
            del self.writes[claim]
        return list(self._forget(pod))

    patch.setattr(Reservations, "pod_gone", pod_gone)


def read_without_touching(patch: pytest.MonkeyPatch) -> None:
    """After an unknown outcome the claim is read, and believed."""

    async def settle(self: ClaimWriter, claim: ResourceClaim, window: object) -> None:
        fresh = await self.writes.read_claim(claim.metadata.namespace, claim.metadata.name, timeout_s=1)
        self.ledger.apply(self.ledger.reservations.refused(ClaimUid(fresh.metadata.uid)))

    patch.setattr(ClaimWriter, "settle", settle)


def no_answer_taken_for_no(patch: pytest.MonkeyPatch) -> None:
    """A write without an answer is taken for one that failed."""
    patch.setattr(Reservations, "lost", Reservations.refused)


def leader_without_take_over(patch: pytest.MonkeyPatch) -> None:
    """A new leader does not touch the claims that a former one may still be writing."""
    patch.setattr(settle, "open_writes", lambda claims: [])


def older_states_believed(patch: pytest.MonkeyPatch) -> None:
    """A watch that lags overwrites what an answer has told."""
    patch.setattr(
        view, "version_of", lambda obj: 0 if isinstance(obj, ResourceClaim) and not obj.status.allocation else 1
    )


def shared_plans_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A second pod of a claim is not told where the first one's decision has put it."""
    patch.setattr(Reservations, "planned", lambda self, claim: None)


def expiry_ignores_writes(patch: pytest.MonkeyPatch) -> None:
    """A reservation expires although something is being written for it."""

    def expire(self: Reservations, now: float) -> list[Effect]:
        late = [pod for pod, each in self.pods.items() if each.expires_at <= now]
        self.writes.clear()
        return [effect for pod in late for effect in self._forget(pod)]

    patch.setattr(Reservations, "expire", expire)


def bound_pods_keep_their_reservation(patch: pytest.MonkeyPatch) -> None:
    """Nobody ends the reservation of a pod that has its node."""
    patch.setattr(Reservations, "bound", lambda self, pod: [])


MISTAKES = [
    drop_while_writing,
    read_without_touching,
    no_answer_taken_for_no,
    leader_without_take_over,
    older_states_believed,
    shared_plans_forgotten,
    expiry_ignores_writes,
    bound_pods_keep_their_reservation,
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_the_model_finds_a_seeded_mistake(
    mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(World, settings=HUNT)
