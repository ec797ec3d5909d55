"""Bugs of the peers that concern the plugin (docs/reliability.md): each rule as a test that a planted copy of it fails.

test_seeded_bugs.py plants them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest
from grpc import aio

from dra_driver.pb import dra_v1_pb2 as dra
from dra_driver.pb import dra_v1_pb2_grpc as stubs
from dra_driver.plugin.caller import RpcCaller
from dra_driver.plugin.errors import SocketError
from dra_driver.prepare.model import ClaimRef
from dra_driver.roots import DRIVER_NAME
from tests.dra_driver.kubelet import NotReadyError, Pod, until
from tests.dra_driver.plugin.test_sockets import bound
from tests.dra_driver.plugin.world import FOREVER, World, new_world, played, ref

IDLE_MS = 300
"""Stands for the 30 minutes after which grpc-go and many servers give up an idle connection."""
FORGETFUL = (("grpc.max_connection_idle_ms", IDLE_MS),)
IMPATIENT = (
    ("grpc.http2.max_ping_strikes", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 600_000),
)


def in_world(story: Callable[[World], Awaitable[None]]) -> None:
    with new_world() as world:
        asyncio.run(asyncio.wait_for(story(world), 60))


def test_t06_a_claim_is_its_uid_not_its_name() -> None:
    """k/k #131513: a claim was deleted and made again under its name; neither is taken for the other."""

    async def story(world: World) -> None:
        async with world.both() as (kubelet, _):
            old = world.pod("pod")
            await kubelet.start(old)
            old_ref = ref(world, "pod")
            new = world.pod("pod", device="gpu-1")
            calls = world.calls()
            assert "was replaced" in (await calls.prepare([old_ref], FOREVER))[old_ref.uid].error
            new_ref = ref(world, "pod")
            answer = (await calls.prepare([new_ref], FOREVER))[new_ref.uid]
            assert [device.device for device in answer.devices] == ["gpu-1"]
            await kubelet.end(old)
            assert world.node.prepared() == {new_ref.uid}, "the old one's end is not the new one's"
            assert await kubelet.start(new)

    in_world(story)


def test_t07_a_claim_that_no_pod_has_reserved_is_not_prepared() -> None:
    """k/k #140212: who uses a claim stands in reservedFor; the driver does not count users itself."""

    async def story(world: World) -> None:
        async with world.both():
            world.claim("pod")
            claim = ref(world, "pod")
            assert "reserved for no pod" in (await world.calls().prepare([claim], FOREVER))[claim.uid].error
            assert world.node.prepared() == set()

    in_world(story)


def test_t08_unprepare_of_an_unknown_claim_succeeds_without_the_api_server() -> None:
    """k/k #131957: a pod whose claim was never prepared, or is long gone, must be deletable."""

    async def story(world: World) -> None:
        async with world.both() as (kubelet, plugin):
            world.api.down = True
            unknown = [
                dra.Claim(namespace="default", name="gone", uid="11111111-1111-4111-8111-111111111111"),
                dra.Claim(namespace="default", name="never", uid="22222222-2222-4222-8222-222222222222"),
                dra.Claim(namespace="", name="", uid="not-even-a-uid"),
            ]
            stub = kubelet.plugin(DRIVER_NAME).stub
            for _ in range(2):
                answer = await stub.NodeUnprepareResources(dra.NodeUnprepareResourcesRequest(claims=unknown))
                assert {uid: result.error for uid, result in answer.claims.items()} == {
                    each.uid: "" for each in unknown
                }
            assert world.api.gets == 0
            assert plugin.registered.is_set()

    in_world(story)


async def survivor(world: World, forgetful: tuple[tuple[str, int], ...]) -> tuple[bool, bool]:
    """Idle with two plugins, ours and one with a kubelet's worst fear, until the latter hangs up. Who is connected?"""
    pings = [("grpc.keepalive_time_ms", 20), ("grpc.http2.max_pings_without_data", 0)]
    pings += [("grpc.keepalive_permit_without_calls", 1)]
    with new_world() as other:
        bad = other.plugin(options=forgetful)
        async with world.plugin(), bad:
            channels = [aio.insecure_channel(f"unix:{each.paths().plugin}", options=pings) for each in (world, other)]
            good_channel, bad_channel = channels
            await stubs.DRAPluginStub(good_channel).NodePrepareResources(dra.NodePrepareResourcesRequest())
            ready = grpc.ChannelConnectivity.READY
            for _ in range(2):  # Twice, so that ours has had more time than the bad one takes.
                await stubs.DRAPluginStub(bad_channel).NodePrepareResources(dra.NodePrepareResourcesRequest())
                await asyncio.wait_for(bad_channel.wait_for_state_change(ready), 20)
            kept = good_channel.get_state() is ready, bad_channel.get_state() is ready
            await asyncio.gather(*(channel.close() for channel in channels))
    return kept


@pytest.mark.parametrize("planted", [FORGETFUL, IMPATIENT], ids=["hangs up when idle", "takes pings for an attack"])
def test_t09_an_idle_connection_stays(planted: tuple[tuple[str, int], ...]) -> None:
    """k/k #133920: after 30 idle minutes the connection was lost, taken for the driver's death, and its slices wiped.

    A plugin with the bug runs beside ours: when it has hung up, ours must still be there.
    """

    async def story(world: World) -> None:
        assert await survivor(world, planted) == (True, False)

    in_world(story)


def test_t10_stale_sockets_are_replaced_at_start() -> None:
    """k/k #128696: what a killed plugin left is in nobody's way, neither ours nor the kubelet's."""

    async def story(world: World) -> None:
        dead = world.paths("11111111-2222-4333-8444-555555555555")
        for paths in (world.paths(), dead):
            bound(paths.plugin)
            bound(paths.registration)
            paths.lock.touch()
        async with world.both() as (kubelet, _):
            assert await kubelet.start(world.pod("pod"))
            assert [path.name for path in world.paths().registration.parent.iterdir()] == [
                world.paths().registration.name
            ]

    in_world(story)


def test_t10_a_live_instance_keeps_its_sockets() -> None:
    """The other side of it: gRPC would replace any socket, also one that is served."""

    async def story(world: World) -> None:
        async with world.both() as (kubelet, _):
            with pytest.raises(SocketError, match="another instance is serving here"):
                async with world.plugin():
                    pass
            assert await kubelet.start(world.pod("pod"))

    in_world(story)


def test_i2_a_call_given_up_leaves_nothing() -> None:
    """NVIDIA 9590781c: a late Prepare after Unprepare prepared the claim again, for nobody."""

    async def story(world: World, calls) -> None:
        pod = Pod("pod", ["pod"])
        world.claim("pod", pod)
        claim = ref(world, "pod")
        late = RpcCaller(60)
        world.api.delay = asyncio.Event()
        waiting = asyncio.ensure_future(calls.prepare([claim], late))
        await until(lambda: world.api.gets, "prepare begun")
        late.leave()
        world.api.delay.set()
        await waiting
        assert world.node.prepared() == set()

    played(story)


def test_i5_every_claim_has_its_answer() -> None:
    async def story(world: World) -> None:
        async with world.both() as (kubelet, _):
            pod = world.pod("pod", "good", "bad")
            world.node.faults.append(KeyError("a bug of ours"))
            with pytest.raises(NotReadyError, match="internal error"):
                await kubelet.start(pod)
            assert len(world.node.prepared()) == 1

    in_world(story)


def test_named_by_uid_in_the_seams_too() -> None:
    assert ClaimRef(namespace="n", name="c", uid="1") != ClaimRef(namespace="n", name="c", uid="2")
