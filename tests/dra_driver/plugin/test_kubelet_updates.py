"""Updates of the driver under a kubelet: rolling, failed, sequential; and processes that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from dra_driver.plugin.errors import SocketError
from dra_driver.plugin.plugin import QUIET_S
from dra_driver.roots import DRIVER_NAME
from tests.dra_driver.kubelet import FakeKubelet, NotReadyError, until
from tests.dra_driver.plugin.world import World, scenario

OLD, NEW = "11111111-2222-4333-8444-555555555555", "66666666-7777-4888-8999-aaaaaaaaaaaa"
REPOSITORY = Path(__file__).parents[3]


def endpoints(kubelet: FakeKubelet) -> set[str]:
    return {each.endpoint for each in kubelet.plugins.get(DRIVER_NAME, ()) if each.connected}


@contextlib.asynccontextmanager
async def process(world: World, pod_uid: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """The plugin as a process of its own, killed at the end."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.dra_driver.plugin.world", str(world.root), pod_uid, cwd=REPOSITORY
    )
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.wait()


@scenario
async def test_rolling_update(world: World) -> None:
    """Both instances serve for a while; the newest prepares, the one that stays unprepares the claims of both."""
    async with world.kubelet() as kubelet:
        world.api.slices = {DRIVER_NAME}
        old = world.plugin(OLD)
        async with old:
            await old.registered.wait()
            first = world.pod("first")
            await kubelet.until_started(first)
            new = world.plugin(NEW)
            await new.__aenter__()
            await new.registered.wait()
            await until(lambda: len(endpoints(kubelet)) == 2, "both connected")
            second = world.pod("second", device="gpu-1")
            assert await kubelet.start(second)
            assert kubelet.plugin(DRIVER_NAME).endpoint == str(world.paths(NEW).plugin)
        await until(lambda: endpoints(kubelet) == {str(world.paths(NEW).plugin)}, "the old one has gone")
        await kubelet.end(first)
        await kubelet.end(second)
        assert world.node.prepared() == set()
        assert world.api.slices == {DRIVER_NAME}
        await new.__aexit__(None, None, None)


@scenario
async def test_failed_update(world: World) -> None:
    """The new instance comes and goes; the old one was there all the time, and goes on."""
    async with world.kubelet() as kubelet, world.plugin(OLD) as old:
        await old.registered.wait()
        await until(lambda: endpoints(kubelet), "connected")
        world.api.slices = {DRIVER_NAME}
        async with world.plugin(NEW) as new:
            await new.registered.wait()
        await until(lambda: endpoints(kubelet) == {str(world.paths(OLD).plugin)}, "the new one has gone")
        pod = world.pod("pod")
        assert await kubelet.start(pod)
        assert world.api.slices == {DRIVER_NAME}


@scenario
async def test_failed_update_by_a_kill(world: World) -> None:
    async with world.kubelet() as kubelet, world.plugin(OLD) as old:
        await old.registered.wait()
        async with process(world, NEW):
            await until(lambda: len(endpoints(kubelet)) == 2, "both connected")
        await until(lambda: endpoints(kubelet) == {str(world.paths(OLD).plugin)}, "the killed one is lost")
        assert await kubelet.start(world.pod("pod"))


@scenario
async def test_sequential_update_with_pods_replacing_each_other(world: World) -> None:
    async with world.kubelet() as kubelet:
        for number in range(4):
            async with world.plugin(OLD if number % 2 else NEW) as plugin:
                await plugin.registered.wait()
                pod = world.pod(f"pod-{number}")
                await kubelet.until_started(pod)
                await kubelet.until_ended(pod)
            await until(lambda: not endpoints(kubelet), "gone")
    assert world.node.prepared() == set()
    assert list((world.root / "plugins_registry").iterdir()) == []


@scenario
async def test_two_instances_of_one_name_are_refused(world: World) -> None:
    """gRPC alone would take the socket away from the first one, without a word."""
    async with world.kubelet() as kubelet, world.plugin() as first:
        await first.registered.wait()
        with pytest.raises(SocketError, match="--pod-uid"):
            async with world.plugin():
                pass
        await until(lambda: endpoints(kubelet), "the first one is still connected")
        assert await kubelet.start(world.pod("pod"))


@scenario
async def test_killed_plugin_is_found_again_after_its_restart(world: World) -> None:
    """T10: kill -9 leaves sockets behind that nobody serves; the next start puts live ones in their place."""
    async with world.kubelet() as kubelet:
        async with process(world):
            first = world.pod("first")
            await kubelet.until_started(first)
        assert world.paths().plugin.is_socket(), "killed, so it could not clean up"
        assert world.paths().registration.is_socket()
        await until(lambda: not endpoints(kubelet), "connection lost")
        with pytest.raises(NotReadyError, match="UNAVAILABLE"):
            await kubelet.end(first)
        async with process(world):
            await kubelet.until_ended(first)
            await kubelet.until_started(world.pod("second"))
    assert world.node.prepared() == {world.uid("second")}


@scenario
async def test_killed_instances_of_other_pods_are_cleaned_up(world: World) -> None:
    """T10 with names of their own: nobody else would ever remove them, and the kubelet dials what it finds."""
    async with process(world, OLD):
        await until(world.paths(OLD).registration.is_socket, "served")
    assert world.paths(OLD).registration.is_socket()
    async with world.kubelet() as kubelet, world.plugin(NEW) as new:
        await new.registered.wait()
        assert [path.name for path in (world.root / "plugins_registry").iterdir()] == [
            world.paths(NEW).registration.name
        ]
        assert not world.paths(OLD).plugin.exists()
        assert not world.paths(OLD).lock.exists()
        await until(lambda: endpoints(kubelet) == {str(world.paths(NEW).plugin)}, "only the new one")


@scenario
async def test_slices_go_when_a_killed_plugin_stays_away(world: World) -> None:
    """ResourceSlice must be removed if the plugin is unresponsive after registration."""
    async with world.kubelet() as kubelet:
        async with process(world):
            await until(lambda: endpoints(kubelet), "connected")
            world.api.slices = {DRIVER_NAME}
        await until(lambda: not world.api.slices, "wiped")


@scenario
async def test_stopped_process_answers_again(world: World) -> None:
    """SIGSTOP: calls run into the kubelet's time limit and have no effect; SIGCONT: all goes on."""
    async with world.kubelet() as kubelet, process(world) as program:
        await until(lambda: endpoints(kubelet), "connected")
        pod = world.pod("pod")
        os.kill(program.pid, signal.SIGSTOP)
        try:
            kubelet.timers.call_s = 0.2
            with pytest.raises(NotReadyError, match="DEADLINE_EXCEEDED"):
                await kubelet.start(pod)
            with pytest.raises(NotReadyError, match="DEADLINE_EXCEEDED"):
                await kubelet.end(pod)
        finally:
            os.kill(program.pid, signal.SIGCONT)
        kubelet.timers.call_s = 10.0
        other = world.pod("other", device="gpu-1")
        await kubelet.until_started(other)
        assert world.node.prepared() == {world.uid("other")}


@scenario
async def test_clean_stop_answers_what_was_asked(world: World) -> None:
    """The kubelet hangs up as soon as the registration goes, so that goes last."""
    async with world.kubelet() as kubelet:
        plugin = world.plugin()
        await plugin.__aenter__()
        await plugin.registered.wait()
        world.node.quick.clear()
        starting = asyncio.create_task(kubelet.start(world.pod("pod")))
        await until(lambda: world.node.calls, "prepare begun")
        stopping = asyncio.create_task(plugin.__aexit__(None, None, None))
        await until(lambda: plugin._calls._idle._waiters, "the stop waits")
        assert world.paths().registration.is_socket()
        world.node.quick.set()
        assert await starting
        await stopping
    left = [path for folder in ("plugins", "plugins_registry") for path in (world.root / folder).rglob("*.*")]
    assert [path for path in left if path.is_file() or path.is_socket()] == []


async def updated_under_load(world: World, updates: int) -> None:
    """Roll through instances while four users start and end pods; none of them has to try twice."""
    served = 0
    done = asyncio.Event()

    async def user(number: int) -> None:
        nonlocal served
        while not done.is_set():
            pod = world.pod(f"pod-{number}", device=f"gpu-{number}")
            assert await kubelet.start(pod)
            await kubelet.end(pod)
            served += 1

    async def update() -> None:
        nonlocal plugin, served
        before, old = served, plugin
        plugin = await world.plugin(str(uuid4()), quiet_s=QUIET_S).__aenter__()
        await until(lambda: str(plugin.settings.paths.plugin) in endpoints(kubelet), "connected")
        await old.__aexit__(None, None, None)
        await until(lambda: served > before + 8, "the users go on")

    async with world.kubelet() as kubelet:
        plugin = await world.plugin(quiet_s=QUIET_S).__aenter__()
        try:
            await plugin.registered.wait()
            async with asyncio.TaskGroup() as users:
                for number in range(4):
                    users.create_task(user(number))
                for _ in range(updates):
                    await update()
                done.set()
        finally:
            await plugin.__aexit__(None, None, None)
    assert world.node.prepared() == set()
    assert len(world.api.wiped) == 1, "at the kubelet's start; never without a plugin since"
    assert all(not refused for _, _, refused in world.reports.calls)


@scenario
async def test_5_rolling_updates_under_load_fail_no_call(world: World) -> None:
    await updated_under_load(world, 5)


@pytest.mark.soak
@scenario
async def test_fi6_100_rolling_updates_under_load_fail_no_call(world: World) -> None:
    await updated_under_load(world, 100)
