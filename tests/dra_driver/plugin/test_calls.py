"""What becomes of each claim of a request: checked against the API server, answered whatever happens, on its own.

I5: every claim of a request has its answer, and fails no other's. I10: refusals can be read.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import msgspec
import pytest

from dra_driver.errors import PermanentError, RetryableError
from dra_driver.plugin.calls import AT_ONCE, ClaimCalls
from dra_driver.plugin.claims import MAX_TEXT, ApiClaims, text_of
from dra_driver.prepare.model import ClaimRef
from kube.access import Access
from kube.client import ApiClient
from kube.errors import ForbiddenError, MalformedObjectError
from tests.dra_driver.kubelet import Pod
from tests.dra_driver.plugin.world import FOREVER, NODE, POOL, World, played, ref

POD = Pod("pod", ["pod"])
NOBODY = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


def refusal(change: Callable[[World], ClaimRef]) -> str:
    """The text that a claim is refused with."""

    async def story(world: World, calls: ClaimCalls) -> str:
        wanted = change(world)
        answers = await calls.prepare([wanted], FOREVER)
        assert list(answers) == [wanted.uid]
        assert answers[wanted.uid].devices == ()
        assert world.node.calls == [], "refused before anything is asked of the node"
        return answers[wanted.uid].error

    return played(story)


def replaced(world: World) -> ClaimRef:
    world.claim("pod", POD)
    return ref(world, "pod", uid="99999999-9999-4999-8999-999999999999")


def not_allocated(world: World) -> ClaimRef:
    claim = world.claim("pod", POD)
    world.api.put(msgspec.structs.replace(claim, status=msgspec.structs.replace(claim.status, allocation=None)))
    return ref(world, "pod")


def not_reserved(world: World) -> ClaimRef:
    world.claim("pod")
    return ref(world, "pod")


def of_another_driver(world: World) -> ClaimRef:
    world.claim("pod", POD, driver="nic.example.com")
    return ref(world, "pod")


def of_another_node(world: World) -> ClaimRef:
    world.claim("pod", POD, pool="node-2/gpu.dovetail.dev")
    return ref(world, "pod")


def deleted(world: World) -> ClaimRef:
    world.claim("pod", POD)
    wanted = ref(world, "pod")
    world.api.delete("pod")
    return wanted


def api_down(world: World) -> ClaimRef:
    world.claim("pod", POD)
    world.api.down = True
    return ref(world, "pod")


def badly_named(world: World) -> ClaimRef:
    world.claim("pod", POD)
    return ref(world, "pod", name="../pod\n")


def bad_uid(world: World) -> ClaimRef:
    world.claim("pod", POD)
    return ref(world, "pod", uid="../../etc/passwd")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (replaced, ("was replaced", "99999999-9999", "delete the pod")),
        (not_allocated, ("not allocated", "scheduler")),
        (not_reserved, ("reserved for no pod",)),
        (of_another_driver, ("no device of driver gpu.dovetail.dev",)),
        (of_another_node, ("device gpu-0", "request gpu", "node-2/gpu.dovetail.dev", POOL, NODE, "delete the pod")),
        (deleted, ("gone from the API server", "created again")),
        (api_down, ("API server did not answer", "connection refused", "retried")),
        (badly_named, ("name is '../pod\\n'",)),
        (bad_uid, ("uid is '../../etc/passwd'",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_refusals_name_claim_cause_and_remedy(change: Callable[[World], ClaimRef], parts: tuple[str, ...]) -> None:
    text = refusal(change)
    assert text.startswith("claim default/")
    for part in parts:
        assert part in text
    assert text.isprintable()


@pytest.mark.parametrize("fault", [ForbiddenError("cannot get"), MalformedObjectError("C", "n", "c", "bad", "$.x")])
def test_every_fault_of_the_api_server_is_the_claims_own(fault: Exception) -> None:
    async def story(world: World, calls: ClaimCalls) -> str:
        world.claim("pod", POD)
        wanted = ref(world, "pod")

        async def get(namespace: str, name: str) -> None:
            raise fault

        world.api.get = get  # type: ignore[assignment,method-assign]
        return (await calls.prepare([wanted], FOREVER))[wanted.uid].error

    assert str(fault) in played(story)


def test_api_server_that_cannot_be_reached_is_worth_another_try() -> None:
    """The real client against a port where nobody listens."""

    async def story(world: World, calls: ClaimCalls) -> str:
        kubeconfig = world.root / "kubeconfig"
        kubeconfig.write_text(NOBODY)
        async with ApiClient(Access(kubeconfig)) as api:
            calls.claims = ApiClaims(api)
            wanted = ClaimRef(namespace="default", name="pod", uid="99999999-9999-4999-8999-999999999999")
            return (await calls.prepare([wanted], FOREVER))[wanted.uid].error

    text = played(story)
    assert "API server did not answer" in text
    assert "retried" in text


def test_one_bad_claim_never_fails_the_others() -> None:
    """I5: each has its answer: good, refused, replaced, unknown, a bug of ours, badly named, named twice."""

    async def story(world: World, calls: ClaimCalls) -> None:
        for number, name in enumerate(("good", "refused", "bug")):
            world.claim(name, POD, device=f"gpu-{number}")
        faults = {world.uid("refused"): PermanentError("device gpu-1: no"), world.uid("bug"): KeyError("oops")}
        real = world.node.prepare

        def prepare(claim, caller):
            if fault := faults.get(claim.metadata.uid):
                raise fault
            return real(claim, caller)

        world.node.prepare = prepare  # type: ignore[method-assign]
        twice = "22222222-2222-4222-8222-222222222222"
        wanted = [
            ref(world, "good"),
            ref(world, "good"),
            ref(world, "refused"),
            ref(world, "bug"),
            ref(world, "good", uid="99999999-9999-4999-8999-999999999999"),
            ClaimRef(namespace="default", name="nobody", uid="11111111-1111-4111-8111-111111111111"),
            ClaimRef(namespace="", name="", uid=""),
            ClaimRef(namespace="default", name="a", uid=twice),
            ClaimRef(namespace="default", name="b", uid=twice),
        ]
        answers = await calls.prepare(wanted, FOREVER)
        assert set(answers) == {claim.uid for claim in wanted}
        assert [uid for uid, answer in answers.items() if not answer.error] == [world.uid("good")]
        assert len(answers[world.uid("good")].devices) == 1
        assert "internal error, KeyError" in answers[world.uid("bug")].error
        assert "twice" in answers[twice].error
        assert world.reports.calls == [("NodePrepareResources", 7, 6)]
        told = [claim.name for claim, _ in world.reports.refusals]
        assert sorted(told) == ["a", "good", "nobody", "refused"], "no event about names that cannot be"

    played(story)


def test_claims_of_a_request_are_prepared_side_by_side() -> None:
    """All are in the hands of the node at the same time, as far as there are workers."""

    async def story(world: World, calls: ClaimCalls) -> None:
        together = threading.Barrier(AT_ONCE)
        real = world.node.prepare

        def prepare(claim, caller):
            together.wait(10)
            return real(claim, caller)

        world.node.prepare = prepare  # type: ignore[method-assign]
        for number in range(AT_ONCE):
            world.claim(f"claim-{number}", POD, device=f"gpu-{number}")
        answers = await calls.prepare([ref(world, f"claim-{number}") for number in range(AT_ONCE)], FOREVER)
        assert [answer.error for answer in answers.values()] == [""] * AT_ONCE

    played(story)


def test_empty_requests_have_empty_answers() -> None:
    async def story(world: World, calls: ClaimCalls) -> None:
        assert await calls.prepare([], FOREVER) == {}
        assert await calls.unprepare([], FOREVER) == {}

    played(story)


def test_turns_leave_nothing_behind() -> None:
    async def story(world: World, calls: ClaimCalls) -> None:
        for number in range(20):
            world.claim(f"claim-{number}", POD, device=f"gpu-{number}")
        claims = [ref(world, f"claim-{number}") for number in range(20)]
        await asyncio.gather(*(call(claims, FOREVER) for call in (calls.prepare, calls.unprepare) for _ in range(3)))
        assert calls.turns._locks == {}

    played(story)


def test_texts_have_an_end_and_one_line() -> None:
    claim = ClaimRef(namespace="default", name="pod", uid="")
    text = text_of(claim, RetryableError("line\none\x1b[31m" + "x" * 10_000))
    assert len(text) == MAX_TEXT
    assert text.isprintable()
    assert text.startswith("claim default/pod: line\\none")
    assert text.endswith("...")
