"""Pods start and end under a kubelet on the real sockets: the cases of e2e_node/dra_test.go and e2e/dra/dra.go."""

from __future__ import annotations

import asyncio

import pytest

from dra_driver.errors import HeldError, PermanentError, RetryableError
from dra_driver.roots import DRIVER_NAME
from tests.dra_driver.kubelet import NotReadyError, Pod, Timers, background, until
from tests.dra_driver.plugin.world import World, scenario

IMPATIENT = Timers(call_s=0.15)


@scenario
async def test_pod_runs_and_ends(world: World) -> None:
    async with world.both() as (kubelet, _):
        pod = world.pod("pod")
        uid = world.uid("pod")
        assert await kubelet.start(pod) == [f"k8s.{DRIVER_NAME}/claim={uid}-gpu-0"]
        assert (world.node.prepared(), world.node.cdi()) == ({uid}, {uid})
        await kubelet.end(pod)
        assert (world.node.prepared(), world.node.cdi()) == (set(), set())
    assert world.reports.calls == [("NodePrepareResources", 1, 0), ("NodeUnprepareResources", 1, 0)]


@scenario
async def test_must_process_pod_created_when_kubelet_is_not_running(world: World) -> None:
    async with world.plugin():
        pod = world.pod("pod")
        async with world.kubelet() as kubelet:
            assert await kubelet.until_started(pod)


@scenario
async def test_runs_pod_after_driver_starts(world: World) -> None:
    async with world.kubelet() as kubelet:
        pod = world.pod("pod")
        with pytest.raises(NotReadyError, match="not registered"):
            await kubelet.start(pod)
        async with world.plugin():
            assert await kubelet.until_started(pod)


@scenario
async def test_must_keep_pod_pending_if_prepare_times_out(world: World) -> None:
    """And what was begun is found again by the next try: the same devices, once."""
    async with world.both(IMPATIENT) as (kubelet, _):
        pod = world.pod("pod")
        world.node.quick.clear()
        with pytest.raises(NotReadyError, match="DEADLINE_EXCEEDED"):
            await kubelet.start(pod)
        world.node.quick.set()
        assert len(await kubelet.until_started(pod)) == 1
        assert world.node.prepared() == {world.uid("pod")}


@scenario
async def test_must_run_pod_if_prepare_fails_and_then_succeeds(world: World) -> None:
    async with world.both() as (kubelet, _):
        pod = world.pod("pod")
        world.node.faults.append(RetryableError("device gpu-0: NVML says it is in use; retried"))
        with pytest.raises(NotReadyError) as fault:
            await kubelet.start(pod)
        for part in ("default/pod", "gpu-0", "in use", "retried"):
            assert part in str(fault.value)
        assert [str(claim) for claim, _ in world.reports.refusals] == ["default/pod"]
        assert await kubelet.start(pod)


@scenario
async def test_must_run_pod_if_unprepare_fails_and_then_succeeds(world: World) -> None:
    async with world.both() as (kubelet, _):
        pod = world.pod("pod")
        await kubelet.start(pod)
        world.node.faults.append(RetryableError("device gpu-0: a process still uses it"))
        with pytest.raises(NotReadyError, match="still uses"):
            await kubelet.end(pod)
        assert world.node.prepared() == {world.uid("pod")}
        await kubelet.end(pod)
        assert world.node.prepared() == set()


@scenario
async def test_must_retry_prepare_after_kubelet_restart(world: World) -> None:
    async with world.plugin() as plugin:
        pod = world.pod("pod")
        world.node.faults.append(RetryableError("not yet"))
        async with world.kubelet() as kubelet:
            await plugin.registered.wait()
            with pytest.raises(NotReadyError, match="not yet"):
                await kubelet.start(pod)
        async with world.kubelet() as kubelet:
            assert await kubelet.until_started(pod)


@scenario
async def test_must_retry_unprepare_after_kubelet_restart(world: World) -> None:
    async with world.plugin() as plugin:
        pod = world.pod("pod")
        async with world.kubelet() as kubelet:
            await plugin.registered.wait()
            await kubelet.start(pod)
            world.node.faults.append(RetryableError("not yet"))
            with pytest.raises(NotReadyError, match="not yet"):
                await kubelet.end(pod)
        async with world.kubelet() as kubelet:
            await kubelet.until_ended(pod)
        assert world.node.prepared() == set()


@scenario
async def test_must_unprepare_for_deleted_pod_after_kubelet_restart(world: World) -> None:
    """Also when the claim is gone from the API by then, and the API server is down."""
    async with world.plugin() as plugin:
        pod = world.pod("pod")
        async with world.kubelet() as kubelet:
            await plugin.registered.wait()
            await kubelet.start(pod)
        world.api.delete("pod")
        world.api.down = True
        async with world.kubelet() as kubelet:
            await kubelet.until_ended(pod)
        assert (world.node.prepared(), world.node.cdi()) == (set(), set())


@scenario
async def test_must_not_call_prepare_for_deleted_pod_after_kubelet_restart(world: World) -> None:
    """A pod that failed to start and was deleted meanwhile is unprepared, though nothing of it was ever prepared."""
    async with world.plugin() as plugin:
        pod = world.pod("pod")
        world.node.faults.append(RetryableError("not yet"))
        async with world.kubelet() as kubelet:
            await plugin.registered.wait()
            with pytest.raises(NotReadyError):
                await kubelet.start(pod)
        async with world.kubelet() as kubelet:
            await kubelet.until_ended(pod)
    assert [verb for verb, _ in world.node.calls] == ["prepare", "unprepare"]


@scenario
async def test_prepare_in_progress_when_kubelet_restarts(world: World) -> None:
    """The old kubelet's call has lost its caller; the new one's waits for its end, and is answered."""
    async with world.plugin() as plugin:
        pod = world.pod("pod")
        world.node.quick.clear()
        async with world.kubelet() as kubelet:
            await plugin.registered.wait()
            async with background(kubelet.start(pod)):
                await until(lambda: world.node.calls, "prepare begun")
        async with world.kubelet() as kubelet, background(kubelet.until_started(pod)) as started:
            await until(lambda: kubelet.plugins.get(DRIVER_NAME), "registered again")
            world.node.quick.set()
            assert len(await started) == 1
        assert world.node.prepared() == {world.uid("pod")}


@scenario
async def test_unprepare_in_progress_when_kubelet_restarts(world: World) -> None:
    async with world.plugin() as plugin:
        pod = world.pod("pod")
        async with world.kubelet() as kubelet:
            await plugin.registered.wait()
            await kubelet.start(pod)
            world.node.quick.clear()
            async with background(kubelet.end(pod)):
                await until(lambda: world.calls_of("unprepare"), "unprepare begun")
        async with world.kubelet() as kubelet, background(kubelet.until_ended(pod)) as ended:
            world.node.quick.set()
            await ended
        assert world.node.prepared() == set()


@scenario
async def test_must_unprepare_force_deleted_pod(world: World) -> None:
    """Claim and pod vanish from the API at once; the node still gives the device back."""
    async with world.both() as (kubelet, _):
        pod = world.pod("pod")
        await kubelet.start(pod)
        world.api.delete("pod")
        await kubelet.end(pod)
        assert world.node.prepared() == set()


@scenario
async def test_must_not_run_a_pod_if_a_claim_is_not_ready(world: World) -> None:
    async with world.both() as (kubelet, _):
        pod = world.pod("pod", "ready", "other")
        world.claim("other", device="gpu-1")  # reserved for nobody
        with pytest.raises(NotReadyError, match="not allowed"):
            await kubelet.start(pod)
        assert world.node.calls == []


@scenario
async def test_blocks_new_pod_after_force_delete(world: World) -> None:
    """A claim of the same name with another UID waits until the old one is unprepared."""
    async with world.both() as (kubelet, _):
        old = world.pod("pod")
        await kubelet.start(old)
        old_uid = world.uid("pod")
        new = world.pod("pod")
        with pytest.raises(NotReadyError, match="same name"):
            await kubelet.start(new)
        await kubelet.end(old)
        assert world.calls_of("unprepare") == [old_uid]
        assert await kubelet.start(new)
        assert world.node.prepared() == {world.uid("pod")} != {old_uid}


@scenario
async def test_device_of_a_force_deleted_pod_is_not_prepared_twice(world: World) -> None:
    """T02: the scheduler gave the device again before the node was done with it; refused, told, then taken."""
    async with world.both() as (kubelet, _):
        old, new = world.pod("old"), world.pod("new")
        await kubelet.start(old)
        world.api.delete("old")
        with pytest.raises(NotReadyError, match="held"):
            await kubelet.start(new)
        assert isinstance(world.reports.refusals[0][1], HeldError)
        await kubelet.end(old)
        assert await kubelet.start(new)


@scenario
async def test_supports_sharing_a_claim(world: World) -> None:
    """Five pods of one claim: prepared once, unprepared after the last, in whatever order they end."""
    async with world.both() as (kubelet, _):
        pods = [Pod(f"pod-{number}", ["shared"]) for number in range(5)]
        world.claim("shared", *pods)
        ids = [await kubelet.start(pod) for pod in pods]
        assert all(each == ids[0] for each in ids)
        assert len(world.calls_of("prepare")) == 1
        for pod in (pods[2], pods[0], pods[4], pods[1]):
            await kubelet.end(pod)
            assert world.node.prepared()
        await kubelet.end(pods[3])
        assert len(world.calls_of("unprepare")) == 1
        assert world.node.prepared() == set()


@scenario
async def test_second_pod_of_a_claim_after_kubelet_restart_gets_the_same_devices(world: World) -> None:
    """The kubelet forgets what is prepared and asks again, while the first pod runs on."""
    async with world.plugin():
        first, second = Pod("first", ["shared"]), Pod("second", ["shared"])
        world.claim("shared", first, second)
        async with world.kubelet() as kubelet:
            ids = await kubelet.until_started(first)
        async with world.kubelet() as kubelet:
            assert await kubelet.until_started(second) == ids
        assert len(world.calls_of("prepare")) == 2
        assert world.node.prepared() == {world.uid("shared")}


@scenario
async def test_pod_with_several_claims_is_one_call(world: World) -> None:
    async with world.both() as (kubelet, _):
        pod = world.pod("pod", "a", "b", "c")
        assert len(await kubelet.start(pod)) == 3
        await kubelet.end(pod)
    assert [claims for _, claims, _ in world.reports.calls] == [3, 3]


@scenario
async def test_one_bad_claim_of_a_pod_is_named_and_the_others_are_ready_for_the_next_try(world: World) -> None:
    async with world.both() as (kubelet, _):
        pod = world.pod("pod", "good", "bad")
        world.claim("bad", pod, device="gpu-1", pool="node-2/gpu.dovetail.dev")
        with pytest.raises(NotReadyError, match=r"bad: claim default/bad: device gpu-1 .* pool node-2"):
            await kubelet.start(pod)
        assert world.node.prepared() == {world.uid("good")}
        await kubelet.end(pod)
        assert world.node.prepared() == set()


@scenario
async def test_an_already_prepared_and_a_new_claim_for_a_pod(world: World) -> None:
    async with world.both() as (kubelet, _):
        first, second = Pod("first", ["old"]), Pod("second", ["old", "new"])
        world.claim("old", first, second)
        world.claim("new", second, device="gpu-1")
        await kubelet.start(first)
        assert len(await kubelet.start(second)) == 2
        assert len(world.calls_of("prepare")) == 2
        await kubelet.end(second)
        assert world.node.prepared() == {world.uid("old")}


@scenario
async def test_subrequests_go_by_their_request(world: World) -> None:
    async with world.both() as (kubelet, _):
        pod = Pod("pod", ["pod"])
        world.claim("pod", pod, request="gpu/small")
        assert await kubelet.start(pod)


@scenario
async def test_permanent_refusal_lets_the_pod_be_deleted(world: World) -> None:
    """A pod whose claim can never be prepared must not get stuck when it is deleted."""
    async with world.both() as (kubelet, _):
        pod = world.pod("pod")
        world.node.faults.extend([PermanentError("$.spec.sharing: unknown field")] * 2)
        for _ in range(2):
            with pytest.raises(NotReadyError, match="unknown field"):
                await kubelet.start(pod)
        await kubelet.end(pod)


@scenario
async def test_driver_down_at_deletion_delays_it(world: World) -> None:
    async with world.kubelet() as kubelet:
        pod = world.pod("pod")
        async with world.plugin():
            await kubelet.until_started(pod)
        await until(lambda: not kubelet.plugins[DRIVER_NAME], "deregistered")
        with pytest.raises(NotReadyError, match="not registered"):
            await kubelet.end(pod)
        assert world.node.cdi() == {world.uid("pod")}, "a clean stop leaves CDI files: containers restart with them"
        async with world.plugin():
            await kubelet.until_ended(pod)
        assert world.node.prepared() == set()


@scenario
async def test_many_pods_at_once(world: World) -> None:
    async with world.both() as (kubelet, _):
        pods = [world.pod(f"pod-{number}", device=f"gpu-{number}") for number in range(40)]
        await asyncio.gather(*(kubelet.start(pod) for pod in pods))
        assert len(world.node.prepared()) == 40
        await asyncio.gather(*(kubelet.end(pod) for pod in pods))
        assert world.node.prepared() == set()
