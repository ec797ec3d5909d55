"""Registration and loss of plugins, as e2e_node/dra_test.go of Kubernetes plays it, by a kubelet on the real sockets.

The names of tests are those of upstream's where there is one.
"""

from __future__ import annotations

import asyncio

import pytest

from dra_driver.plugin.errors import RegistrationError
from dra_driver.plugin.services import VERSIONS
from dra_driver.roots import DRIVER_NAME
from tests.dra_driver.kubelet import V1, FakeKubelet, NotReadyError, until
from tests.dra_driver.plugin.world import World, new_world, scenario


def connected(kubelet: FakeKubelet) -> int:
    return sum(each.connected for each in kubelet.plugins.get(DRIVER_NAME, ()))


@scenario
async def test_registers_plugin(world: World) -> None:
    async with world.both() as (kubelet, _):
        assert [each.service for each in kubelet.plugins[DRIVER_NAME]] == [world.version.dra]
        assert kubelet.plugin(DRIVER_NAME).endpoint == str(world.paths().plugin)


@scenario
async def test_plugin_that_starts_before_the_kubelet_is_registered(world: World) -> None:
    async with world.plugin() as plugin:
        assert not plugin.registered.is_set()
        async with world.kubelet():
            await plugin.registered.wait()


@scenario
async def test_must_register_after_kubelet_restart(world: World) -> None:
    async with world.plugin() as plugin:
        for _ in range(3):
            async with world.kubelet() as kubelet:
                await until(lambda: connected(kubelet), "registered again")
        assert plugin.registered.is_set()


@scenario
async def test_must_register_after_plugin_restart(world: World) -> None:
    async with world.kubelet() as kubelet:
        for _ in range(3):
            async with world.plugin() as plugin:
                await plugin.registered.wait()
                await until(lambda: connected(kubelet) == 1, "connected")
            await until(lambda: not kubelet.plugins[DRIVER_NAME], "deregistered")


@scenario
async def test_must_recover_and_register_after_registration_failure(world: World) -> None:
    """The kubelet's word is final for this instance: it ends with a clear text, and the next one is taken."""
    async with world.kubelet() as kubelet:
        kubelet.refuse = "plugin type is wrong"
        with pytest.raises(RegistrationError) as fault:
            async with world.plugin() as plugin:
                await plugin.failed()
        assert not plugin.registered.is_set()
        for part in (DRIVER_NAME, str(world.paths().plugin), "plugin type is wrong", "log"):
            assert part in str(fault.value)
        await until(lambda: not kubelet.plugins.get(DRIVER_NAME), "nothing registered")
        kubelet.refuse = ""
        async with world.plugin() as plugin:
            await plugin.registered.wait()


@scenario
async def test_failure_without_a_reason_still_ends_with_a_text(world: World) -> None:
    async with world.plugin() as plugin:
        messages = plugin._info()
        assert messages.supported_versions == list(VERSIONS)
        from dra_driver.pb.pluginregistration_v1_pb2 import RegistrationStatus

        plugin._notified(RegistrationStatus(plugin_registered=False))
        with pytest.raises(RegistrationError, match="gave no reason"):
            await plugin.failed()


@scenario
async def test_plugin_is_served_before_it_can_be_found(world: World) -> None:
    """Whoever sees the registration socket can call prepare: nothing is registered that does not answer."""
    order: list[str] = []

    async def watch() -> None:
        while len(order) < 2:
            for path in (world.paths().registration, world.paths().plugin):
                if path.is_socket() and str(path) not in order:
                    order.append(str(path))
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    async with world.plugin():
        await watcher
    assert order == [str(world.paths().plugin), str(world.paths().registration)]


@scenario
async def test_resource_slices_must_be_removed_on_kubelet_startup(world: World) -> None:
    """The kubelet wipes, and registers anew: who publishes hears of both."""
    world.api.slices = {DRIVER_NAME}
    async with world.both():
        assert world.api.wiped == [""]
        assert not world.api.slices


@scenario
async def test_resource_slices_must_be_removed_after_plugin_unregistration(world: World) -> None:
    async with world.both() as (kubelet, plugin):
        await until(lambda: connected(kubelet), "connected")
        world.api.slices = {DRIVER_NAME}
        await plugin.__aexit__(None, None, None)
        await until(lambda: not world.api.slices, "wiped")
        with pytest.raises(NotReadyError, match="not registered"):
            kubelet.plugin(DRIVER_NAME)


@scenario
async def test_slices_survive_a_quick_restart(world: World) -> None:
    async with world.kubelet() as kubelet:
        async with world.plugin() as plugin:
            await plugin.registered.wait()
            await until(lambda: connected(kubelet), "connected")
            world.api.slices = {DRIVER_NAME}
        async with world.plugin() as plugin:
            await until(lambda: connected(kubelet), "connected again")
            await asyncio.sleep(2 * kubelet.timers.wipe_s)  # Nothing else tells that the kubelet will not wipe.
    assert world.api.slices == {DRIVER_NAME}


@scenario
async def test_must_use_one_connection_for_all_service_calls(world: World) -> None:
    """Prepare, unprepare and health go over the one connection that the kubelet keeps."""
    async with world.both() as (kubelet, _):
        first = kubelet.plugin(DRIVER_NAME)
        for number in range(5):
            pod = world.pod(f"pod-{number}")
            await kubelet.start(pod)
            await kubelet.end(pod)
        await until(lambda: kubelet.health_lists, "health")
        assert kubelet.plugin(DRIVER_NAME) is first
        assert first.connected


def test_every_version_that_is_announced_is_served() -> None:
    """The kubelet takes the first version it knows, so the newest comes first."""
    dra = [version for version in VERSIONS if version.endswith("DRAPlugin")]
    assert dra == ["v1.DRAPlugin", "v1beta1.DRAPlugin"]
    with new_world(V1) as world:
        assert world.version.dra == dra[0]
