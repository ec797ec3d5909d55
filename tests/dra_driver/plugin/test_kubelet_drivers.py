"""Claims of several devices, requests and drivers, under a kubelet: who is told what of which device."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from dra_driver.errors import RetryableError
from dra_driver.roots import DRIVER_NAME
from tests.dra_driver.kubelet import V1, FakeKubelet, NotReadyError, Pod, background, until
from tests.dra_driver.plugin.world import World, scenario

OTHER = "nic.example.com"


@contextlib.asynccontextmanager
async def two_drivers(world: World) -> AsyncIterator[tuple[FakeKubelet, World]]:
    """A kubelet with two drivers, ours and a neighbour."""
    other = world.neighbour(OTHER)
    async with world.kubelet() as kubelet, world.plugin() as first, other.plugin() as second:
        await asyncio.gather(first.registered.wait(), second.registered.wait())
        with other.released_at_end():
            yield kubelet, other


def pod_of_both(world: World, other: World) -> Pod:
    """A pod with a claim of each driver, and one that has devices of both."""
    pod = Pod("pod", ["gpu", "nic", "mixed"])
    world.claim("gpu", pod)
    other.claim("nic", pod, device="nic-0")
    world.claim_of("mixed", [world.result(device="gpu-1"), other.result(request="nic", device="nic-1")], pod)
    return pod


@scenario
async def test_two_plugins_must_prepare_and_unprepare_resources(world: World) -> None:
    """Each prepares its own devices of a claim, and no other's."""
    async with two_drivers(world) as (kubelet, other):
        pod = pod_of_both(world, other)
        uid = world.uid("mixed")
        ids = await kubelet.start(pod)
        assert sorted(each for each in ids if uid in each) == [
            f"k8s.{DRIVER_NAME}/claim={uid}-gpu-1",
            f"k8s.{OTHER}/claim={uid}-nic-1",
        ]
        assert world.node.prepared() == {world.uid("gpu"), uid}
        assert other.node.prepared() == {world.uid("nic"), uid}
        await kubelet.end(pod)
        assert world.node.prepared() == other.node.prepared() == set()


@scenario
async def test_must_run_pod_if_prepare_fails_for_one_plugin_and_then_succeeds(world: World) -> None:
    async with two_drivers(world) as (kubelet, other):
        pod = pod_of_both(world, other)
        other.node.faults.append(RetryableError("the neighbour is not ready"))
        with pytest.raises(NotReadyError, match="neighbour is not ready"):
            await kubelet.start(pod)
        assert len(await kubelet.until_started(pod)) == 4


@scenario
async def test_must_run_pod_if_unprepare_fails_for_one_plugin_and_then_succeeds(world: World) -> None:
    """Ours may be asked twice meanwhile: the second time there is nothing to undo."""
    async with two_drivers(world) as (kubelet, other):
        pod = pod_of_both(world, other)
        await kubelet.start(pod)
        other.node.faults.append(RetryableError("the neighbour is busy"))
        with pytest.raises(NotReadyError, match="busy"):
            await kubelet.end(pod)
        await kubelet.until_ended(pod)
        assert world.node.prepared() == other.node.prepared() == set()


@scenario
async def test_must_run_pod_if_prepare_is_in_progress_for_one_plugin_when_kubelet_restarts(world: World) -> None:
    other = world.neighbour(OTHER)
    async with world.plugin(), other.plugin():
        with other.released_at_end():
            pod = pod_of_both(world, other)
            other.node.quick.clear()
            async with world.kubelet() as kubelet, background(kubelet.until_started(pod)):
                await until(lambda: other.node.calls, "the neighbour's prepare")
            async with world.kubelet() as kubelet, background(kubelet.until_started(pod)) as started:
                other.node.quick.set()
                assert len(await started) == 4


@scenario
async def test_must_unprepare_again_if_it_is_in_progress_for_one_plugin_when_kubelet_restarts(world: World) -> None:
    other = world.neighbour(OTHER)
    async with world.plugin(), other.plugin():
        with other.released_at_end():
            pod = pod_of_both(world, other)
            async with world.kubelet() as kubelet:
                await kubelet.until_started(pod)
                other.node.quick.clear()
                async with background(kubelet.until_ended(pod)):
                    await until(lambda: other.calls_of("unprepare"), "the neighbour's unprepare")
            async with world.kubelet() as kubelet, background(kubelet.until_ended(pod)) as ended:
                other.node.quick.set()
                await ended
            assert world.node.prepared() == other.node.prepared() == set()


@scenario
async def test_must_map_devices_to_the_right_requests(world: World) -> None:
    """Three requests of two devices each, one by an alternative; the kubelet hands them to containers by name."""
    async with world.both() as (kubelet, _):
        pod = Pod("pod", ["claim"])
        names = ["a", "b", "c/small"]
        results = [
            world.result(request=request, device=f"gpu-{2 * number + half}")
            for number, request in enumerate(names)
            for half in (0, 1)
        ]
        world.claim_of("claim", results, pod)
        messages = world.version.messages
        claim = messages.Claim(namespace="default", name="claim", uid=world.uid("claim"))
        stub = kubelet.plugin(DRIVER_NAME).stub
        answer = await stub.NodePrepareResources(messages.NodePrepareResourcesRequest(claims=[claim]))
        devices = answer.claims[claim.uid].devices
        assert [(list(each.request_names), each.device_name) for each in devices] == [
            ([name.split("/")[0]], f"gpu-{2 * number + half}") for number, name in enumerate(names) for half in (0, 1)
        ]
        assert {each.pool_name for each in devices} == {world.result().pool}
        assert len({each.cdi_device_ids[0] for each in devices}) == 6


@scenario
async def test_share_ids_are_told_to_those_who_know_them(world: World) -> None:
    """Device ShareID: v1 has the field since 1.35, v1beta1 never had it."""
    async with world.both() as (kubelet, _):
        share = "99999999-8888-4777-8666-555555555555"
        pod = Pod("pod", ["shared", "whole"])
        world.claim("shared", pod, device="gpu-0-mps", share_id=share)
        world.claim("whole", pod, device="gpu-1")
        messages = world.version.messages
        claims = [messages.Claim(namespace="default", name=name, uid=world.uid(name)) for name in pod.claims]
        stub = kubelet.plugin(DRIVER_NAME).stub
        answer = await stub.NodePrepareResources(messages.NodePrepareResourcesRequest(claims=claims))
        shared, whole = (answer.claims[claim.uid].devices[0] for claim in claims)
        if world.version is V1:
            assert shared.share_id == share
            assert not whole.HasField("share_id")
        else:
            assert "share_id" not in messages.Device.DESCRIPTOR.fields_by_name
        assert (shared.device_name, whole.device_name) == ("gpu-0-mps", "gpu-1")


@scenario
async def test_daemon_set_with_admin_access(world: World) -> None:
    """Admin access comes beside the user's claim; whether the device may be used so is the node's to say."""
    async with world.both() as (kubelet, _):
        admin = Pod("admin", ["admin"])
        world.claim("admin", admin, device="gpu-0", admin_access=True)
        assert await kubelet.start(admin)


@scenario
async def test_claim_of_another_driver_alone_is_not_ours_to_prepare(world: World) -> None:
    async with two_drivers(world) as (kubelet, other):
        pod = Pod("pod", ["nic"])
        other.claim("nic", pod, device="nic-0")
        assert await kubelet.start(pod)
        assert world.node.calls == []
