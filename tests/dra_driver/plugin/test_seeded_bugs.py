"""The named tests of the peers' bugs find them: each fails when its bug is planted (docs/reliability.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from dra_driver.plugin import calls, claims, plugin, sockets
from dra_driver.plugin.caller import RpcCaller, Turns, Workers
from dra_driver.plugin.calls import Answer, ClaimCalls
from dra_driver.prepare.model import ClaimRef
from kube.objects import ResourceClaimConsumerReference
from tests.dra_driver.plugin import test_calls, test_fuzz, test_giving_up, test_peers_bugs, test_sockets
from tests.dra_driver.plugin.world import FileNode, new_world

Patch = pytest.MonkeyPatch
Proof = Callable[[], None]


def names_for_uids(patch: Patch) -> None:
    """Whatever claim has the name is the one meant (k/k #131513)."""
    real = calls.check

    def check(claim: Any, wanted: ClaimRef, ours: claims.OurNode) -> None:
        real(claim, ClaimRef(namespace=wanted.namespace, name=wanted.name, uid=claim.metadata.uid), ours)

    patch.setattr(calls, "check", check)


def journal_by_name(patch: Patch) -> None:
    """The end of a claim is the end of its namesake (k/k #131617)."""
    real = FileNode.unprepare

    def unprepare(self: FileNode, claim: ClaimRef, caller: Any) -> None:
        for uid in self.prepared():
            real(self, ClaimRef(namespace=claim.namespace, name=claim.name, uid=uid), caller)

    patch.setattr(FileNode, "unprepare", unprepare)


def users_are_not_asked_for(patch: Patch) -> None:
    """A claim is prepared for nobody (k/k #140212)."""
    real = calls.check
    somebody = (ResourceClaimConsumerReference(uid="x", name="x"),)

    def check(claim: Any, wanted: ClaimRef, ours: claims.OurNode) -> None:
        status = msgspec.structs.replace(claim.status, reserved_for=somebody)
        real(msgspec.structs.replace(claim, status=status), wanted, ours)

    patch.setattr(calls, "check", check)


def unprepare_asks_the_api_server(patch: Patch) -> None:
    """No claim in the API, no unprepare (k/k #131957)."""
    real = ClaimCalls._unprepare

    async def unprepare(self: ClaimCalls, wanted: ClaimRef, caller: RpcCaller) -> Answer:
        await claims.fetch(self.claims, wanted)
        return await real(self, wanted, caller)

    patch.setattr(ClaimCalls, "_unprepare", unprepare)


def idle_connections_are_closed(patch: Patch) -> None:
    """An idle kubelet is given up (k/k #133920)."""
    patch.setattr(plugin.PluginSettings, "__init__", _with_options(test_peers_bugs.FORGETFUL))


def pings_are_an_attack(patch: Patch) -> None:
    """A kubelet that only asks whether we live is sent away."""
    patch.setattr(plugin.PluginSettings, "__init__", _with_options(test_peers_bugs.IMPATIENT))


def stale_sockets_stay(patch: Patch) -> None:
    """A start looks at its own names only (k/k #128696)."""
    patch.setattr(sockets, "_remove_dead", lambda ours, driver: None)


def live_sockets_are_taken(patch: Patch) -> None:
    """A start takes any socket for a stale one, as gRPC does by itself."""
    real = sockets._try_lock
    patch.setattr(sockets, "_try_lock", lambda path: path.unlink(missing_ok=True) or real(path))


def nobody_asks_who_waits(patch: Patch) -> None:
    """Calls that were given up are carried out (NVIDIA 9590781c)."""
    patch.setattr(RpcCaller, "is_gone", lambda self: False)


def calls_of_a_claim_overlap(patch: Patch) -> None:
    """Unprepare runs past a Prepare that is still at it."""

    def of(self: Turns, key: str) -> Any:
        return asyncio.Semaphore(1000)

    patch.setattr(Turns, "of", of)


def given_up_work_is_let_go(patch: Patch) -> None:
    """A cancelled call forgets its thread, which goes on alone."""

    async def run(self: Workers, work: Callable[[], Any], caller: RpcCaller) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    patch.setattr(Workers, "run", run)


def one_fault_fails_all(patch: Patch) -> None:
    """What goes wrong with a claim goes wrong with its request."""

    async def guarded(self: ClaimCalls, method: str, refs: list[ClaimRef], caller: RpcCaller, one: Any) -> Answer:
        return await one(refs[0], caller)

    patch.setattr(ClaimCalls, "_guarded", guarded)


def refused_claims_are_left_out(patch: Patch) -> None:
    """Only what was prepared is answered for."""
    real = ClaimCalls._answer

    async def answer(self: ClaimCalls, method: str, wanted: Iterable[ClaimRef], *rest: Any) -> Any:
        return {uid: each for uid, each in (await real(self, method, wanted, *rest)).items() if not each.error}

    patch.setattr(ClaimCalls, "_answer", answer)


def anybody_may_connect(patch: Patch) -> None:
    """Sockets are bound with the mask of the process."""
    patch.setattr(sockets, "SOCKET_UMASK", 0)


def idle_connection_stays() -> None:
    test_peers_bugs.test_t09_an_idle_connection_stays(test_peers_bugs.FORGETFUL)


def pinged_connection_stays() -> None:
    test_peers_bugs.test_t09_an_idle_connection_stays(test_peers_bugs.IMPATIENT)


def modes() -> None:
    with new_world() as world:
        test_sockets.test_modes(world)


def hostile_messages() -> None:
    test_fuzz.weathered(1000)


SEEDED: tuple[tuple[Callable[[Patch], None], Proof], ...] = (
    (names_for_uids, test_peers_bugs.test_t06_a_claim_is_its_uid_not_its_name),
    (journal_by_name, test_peers_bugs.test_t06_a_claim_is_its_uid_not_its_name),
    (users_are_not_asked_for, test_peers_bugs.test_t07_a_claim_that_no_pod_has_reserved_is_not_prepared),
    (
        unprepare_asks_the_api_server,
        test_peers_bugs.test_t08_unprepare_of_an_unknown_claim_succeeds_without_the_api_server,
    ),
    (idle_connections_are_closed, idle_connection_stays),
    (pings_are_an_attack, pinged_connection_stays),
    (stale_sockets_stay, test_peers_bugs.test_t10_stale_sockets_are_replaced_at_start),
    (live_sockets_are_taken, test_peers_bugs.test_t10_a_live_instance_keeps_its_sockets),
    (nobody_asks_who_waits, test_peers_bugs.test_i2_a_call_given_up_leaves_nothing),
    (calls_of_a_claim_overlap, test_giving_up.test_unprepare_undoes_all_of_a_prepare_that_lost_its_caller_midway),
    (given_up_work_is_let_go, test_giving_up.test_unprepare_undoes_all_of_a_prepare_that_lost_its_caller_midway),
    (one_fault_fails_all, test_peers_bugs.test_i5_every_claim_has_its_answer),
    (one_fault_fails_all, hostile_messages),
    (refused_claims_are_left_out, test_calls.test_one_bad_claim_never_fails_the_others),
    (anybody_may_connect, modes),
)


@pytest.mark.parametrize(("bug", "proof"), SEEDED, ids=lambda each: each.__name__)
def test_the_named_test_fails_with_its_bug(bug: Callable[[Patch], None], proof: Proof, monkeypatch: Patch) -> None:
    proof()
    bug(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        proof()


def _with_options(options: tuple[tuple[str, int], ...]) -> Callable[..., None]:
    real = plugin.PluginSettings.__init__

    def made(self: plugin.PluginSettings, **given: Any) -> None:
        real(self, **({"options": options} | given))

    return made
