"""I2: an RPC that is cancelled, or past its deadline, has no effect, wherever it is caught; a later one starts anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dra_driver.plugin.caller import RpcCaller
from dra_driver.plugin.calls import AT_ONCE, ClaimCalls
from dra_driver.prepare.model import ClaimRef
from tests.dra_driver.kubelet import Pod, until
from tests.dra_driver.plugin.world import FOREVER, World, played, ref

POD = Pod("pod", ["pod"])


def waiting(calls: ClaimCalls, claim: ClaimRef) -> bool:
    """Whether a call waits for its turn behind another one of the claim."""
    return claim.uid in calls.turns._locks and calls.turns._locks[claim.uid][1] > 1


async def cancelled(call: Awaitable[object], begun: Callable[[], object]) -> None:
    """Cancel a call once it has begun, as gRPC does when the kubelet gives up."""
    task = asyncio.ensure_future(call)
    await until(begun, "the call begun")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_call_cancelled_while_the_api_server_is_asked_has_no_effect() -> None:
    async def story(world: World, calls: ClaimCalls) -> None:
        world.claim("pod", POD)
        world.api.delay = asyncio.Event()
        await cancelled(calls.prepare([ref(world, "pod")], RpcCaller(60)), lambda: world.api.gets)
        world.api.delay.set()
        assert world.node.calls == []

    played(story)


def test_call_cancelled_while_it_waits_for_a_lock_on_the_node_has_no_effect() -> None:
    async def story(world: World, calls: ClaimCalls) -> None:
        world.claim("pod", POD)
        world.node.locked.clear()
        task = asyncio.ensure_future(calls.prepare([ref(world, "pod")], RpcCaller(60)))
        await until(lambda: world.node.calls, "in the hands of the node")
        task.cancel()
        await asyncio.sleep(0)
        world.node.locked.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.node.prepared() == set()

    played(story)


def test_prepare_cancelled_while_it_waits_for_an_unprepare_has_no_effect() -> None:
    """The order that leaks a device: Unprepare is at work, Prepare waits behind it, the kubelet gives Prepare up."""

    async def story(world: World, calls: ClaimCalls) -> None:
        world.claim("pod", POD)
        claim = ref(world, "pod")
        await calls.prepare([claim], FOREVER)
        world.node.quick.clear()
        undoing = asyncio.ensure_future(calls.unprepare([claim], RpcCaller(60)))
        await until(lambda: world.calls_of("unprepare"), "unprepare at work")
        late = asyncio.ensure_future(calls.prepare([claim], RpcCaller(60)))
        await until(lambda: waiting(calls, claim), "it waits for its turn")
        late.cancel()
        world.node.quick.set()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert (await undoing)[claim.uid].error == ""
        assert world.node.prepared() == set()
        assert len(world.calls_of("prepare")) == 1
        assert (await calls.prepare([claim], RpcCaller(60)))[claim.uid].error == "", "a later pod may have it"

    played(story)


def test_unprepare_undoes_all_of_a_prepare_that_lost_its_caller_midway() -> None:
    async def story(world: World, calls: ClaimCalls) -> None:
        world.claim("pod", POD)
        claim = ref(world, "pod")
        world.node.quick.clear()
        preparing = asyncio.ensure_future(calls.prepare([claim], RpcCaller(60)))
        await until(lambda: world.node.calls, "prepare at work")
        preparing.cancel()
        undoing = asyncio.ensure_future(calls.unprepare([claim], RpcCaller(60)))
        await until(lambda: waiting(calls, claim) or world.calls_of("unprepare"), "unprepare has come")
        assert world.calls_of("unprepare") == [], "it waits for the end of what was begun"
        world.node.quick.set()
        assert (await undoing)[claim.uid].error == ""
        assert world.node.prepared() == set()
        with pytest.raises(asyncio.CancelledError):
            await preparing

    played(story)


def test_call_past_its_deadline_has_no_effect() -> None:
    """Also where nothing told us: the clock does."""

    async def story(world: World, calls: ClaimCalls) -> None:
        world.claim("pod", POD)
        claim = ref(world, "pod")
        answers = await calls.prepare([claim], RpcCaller(0))
        assert "gave up" in answers[claim.uid].error
        assert world.node.prepared() == set()
        assert world.reports.refusals == [], "nothing is wrong with the claim"
        await calls.prepare([claim], FOREVER)
        await calls.unprepare([claim], RpcCaller(0))
        assert world.node.prepared() == {claim.uid}

    played(story)


def test_call_that_waits_for_a_worker_is_given_up_without_effect() -> None:
    async def story(world: World, calls: ClaimCalls) -> None:
        names = [f"claim-{number}" for number in range(AT_ONCE + 1)]
        for number, name in enumerate(names):
            world.claim(name, POD, device=f"gpu-{number}")
        world.node.quick.clear()
        busy = asyncio.ensure_future(calls.prepare([ref(world, name) for name in names[:-1]], FOREVER))
        await until(lambda: len(world.node.calls) == AT_ONCE, "all workers busy")
        gets = world.api.gets
        await cancelled(calls.prepare([ref(world, names[-1])], RpcCaller(60)), lambda: world.api.gets > gets)
        world.node.quick.set()
        await busy
        assert world.node.prepared() == {world.uid(name) for name in names[:-1]}
        assert len(world.node.calls) == AT_ONCE

    played(story)
