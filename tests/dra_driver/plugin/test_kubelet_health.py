"""Device health as the kubelet hears it: complete lists, soon after a change, repeated in time, as old as they say."""

from __future__ import annotations

import asyncio
import time

from dra_driver.plugin.health import KEEP_S, REFRESH_S, HealthFeed
from dra_driver.plugin.ports import DeviceHealth, Health
from dra_driver.roots import DRIVER_NAME
from tests.dra_driver.kubelet import until
from tests.dra_driver.plugin.world import POOL, FakeHealth, World, scenario

UNKNOWN, HEALTHY, UNHEALTHY = 0, 1, 2
"""HealthStatus of the API."""


def device(name: str, health: Health = Health.HEALTHY, *, age_s: float = 0.0, message: str = "") -> DeviceHealth:
    return DeviceHealth(pool=POOL, device=name, health=health, checked_at=time.time() - age_s, message=message)


@scenario
async def test_reports_device_health_with_custom_messages(world: World) -> None:
    world.health.now = [device("gpu-0"), device("gpu-1", Health.UNHEALTHY, message="XID 79: fell off the bus")]
    async with world.both() as (kubelet, _):
        await until(lambda: len(kubelet.health) == 2, "both devices")
        bad = kubelet.health[POOL, "gpu-1"]
        assert (bad.health, bad.message) == (UNHEALTHY, "XID 79: fell off the bus")
        assert kubelet.health[POOL, "gpu-0"].health == HEALTHY
        assert bad.health_check_timeout_seconds == KEEP_S
        assert abs(bad.last_updated_time - time.time()) < 2


@scenario
async def test_reflects_health_changes(world: World) -> None:
    """Each message is the complete list, so what is not in it is gone; a change waits for no repetition."""
    world.health.now = [device("gpu-0"), device("gpu-1")]
    async with world.both() as (kubelet, _):
        for health in (UNHEALTHY, HEALTHY, UNHEALTHY):
            await until(lambda: world.health.told, "stream open")
            began = time.monotonic()
            state = Health.UNHEALTHY if health == UNHEALTHY else Health.HEALTHY
            world.health.set(device("gpu-0", state), device("gpu-1"))
            await until(lambda: kubelet.health and kubelet.health[POOL, "gpu-0"].health == health, "the change")  # noqa: B023
            assert time.monotonic() - began < REFRESH_S / 2, "told at the change, not by the next refresh"
        world.health.set(device("gpu-1"))
        await until(lambda: len(kubelet.health_lists[-1].devices) == 1, "the shorter list")
        assert all(len(message.devices) in (1, 2) for message in kubelet.health_lists)


@scenario
async def test_what_was_not_checked_is_unknown(world: World) -> None:
    """A source that hangs proves no health, however often we repeat it."""
    world.health.now = [device("gpu-0"), device("gpu-1", age_s=KEEP_S + 5)]
    async with world.both() as (kubelet, _):
        await until(lambda: len(kubelet.health) == 2, "both devices")
        stale = kubelet.health[POOL, "gpu-1"]
        assert stale.health == UNKNOWN
        assert "not checked for 35 s" in stale.message
        assert kubelet.health[POOL, "gpu-0"].health == HEALTHY


@scenario
async def test_updates_health_to_unknown_when_plugin_stops_and_recovers_upon_restart(world: World) -> None:
    """The kubelet forgets what is not repeated; after a restart the first list comes at once."""
    world.health.now = [device("gpu-0")]
    async with world.kubelet() as kubelet:
        for _ in range(2):
            kubelet.health.clear()
            async with world.plugin():
                await until(lambda: kubelet.health, "health")
            assert world.health.told == [], "the stream has ended with the plugin"


@scenario
async def test_automatically_reconnects_dra_and_health_after_connection_drop(world: World) -> None:
    world.health.now = [device("gpu-0")]
    async with world.plugin() as plugin:
        for _ in range(2):
            async with world.kubelet() as kubelet:
                await until(lambda: kubelet.health, "health")
                pod = world.pod("pod")
                await kubelet.until_started(pod)
                await kubelet.end(pod)
            await until(lambda: not world.health.told, "streams of the old connection have ended")
        assert plugin.registered.is_set()


@scenario
async def test_dra_operations_and_health_monitoring_at_once(world: World) -> None:
    async with world.both() as (kubelet, _):
        await until(lambda: world.health.told, "stream open")

        async def storm() -> None:
            for number in range(200):
                world.health.set(device("gpu-0", message=str(number)))
                await asyncio.sleep(0)

        pods = [world.pod(f"pod-{number}", device=f"gpu-{number}") for number in range(8)]
        await asyncio.gather(storm(), *(kubelet.start(pod) for pod in pods))
        await until(lambda: kubelet.health and kubelet.health[POOL, "gpu-0"].message == "199", "the last of the storm")
        assert len(kubelet.health_lists) < 50, "a storm is few lists"
        assert kubelet.plugin(DRIVER_NAME).connected


def test_lists_are_repeated_before_the_kubelet_forgets_them() -> None:
    async def story() -> int:
        feed = HealthFeed(source=FakeHealth([device("gpu-0")]), closing=asyncio.Event(), refresh_s=0.01)
        lists = feed.lists()
        for _ in range(3):
            assert len(await anext(lists)) == 1
        await lists.aclose()
        return len(feed.source.told)  # type: ignore[attr-defined]

    assert asyncio.run(asyncio.wait_for(story(), 10)) == 0


def test_refresh_comes_well_before_the_kubelet_forgets() -> None:
    assert 2 * REFRESH_S < KEEP_S


def test_health_told_from_a_thread_after_the_loop_has_ended_does_no_harm() -> None:
    source = FakeHealth([device("gpu-0")])

    async def story() -> None:
        lists = HealthFeed(source=source, closing=asyncio.Event()).lists()
        await anext(lists)
        tell = source.told[0]
        await lists.aclose()
        source.told.append(tell)

    asyncio.run(story())
    source.set(device("gpu-0", Health.UNHEALTHY))


def test_a_check_from_the_future_is_told_as_of_now() -> None:
    """A clock that was set back must not make a device healthy for hours."""

    async def story() -> DeviceHealth:
        lists = HealthFeed(source=FakeHealth([device("gpu-0", age_s=-3600)]), closing=asyncio.Event()).lists()
        told = await anext(lists)
        await lists.aclose()
        return told[0]

    assert asyncio.run(story()).checked_at <= time.time()
