"""From a GPU's fault to the taint that the API server has, and from the kubelet's wipe to a whole pool again.

Eight H100 with all MIG placements on a twin, default times, a real API server; the taint is looked for every 20 ms.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sandbox import objects
from sandbox.controlplane import ControlPlane
from sandbox.pytest_plugin import had_or_skipped
from sandbox.testbed import Testbed
from tests.dra_driver.health.test_to_slices_cluster import Rig, running
from tests.dra_driver.slices.pools import judged

ROUNDS = 5


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with had_or_skipped(ControlPlane.start) as control_plane:
        yield control_plane


@pytest.fixture
def testbed(control_plane: ControlPlane) -> Iterator[Testbed]:
    testbed = Testbed(control_plane)
    testbed.open()
    yield testbed
    testbed.close()


Round = Callable[[Rig, int], Awaitable[None]]


def measured(benchmark: BenchmarkFixture, testbed: Testbed, folder: Path, one: Round) -> float:
    """Measure rounds on a driver that runs in a thread. Returns the longest, in seconds."""
    begun: Future[tuple[Rig, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def story(rig: Rig) -> None:
        end = asyncio.Event()
        begun.set_result((rig, asyncio.get_running_loop(), end))
        await end.wait()

    with ThreadPoolExecutor(1) as pool:
        running_in_thread = pool.submit(running, testbed, folder, story)
        running_in_thread.add_done_callback(lambda ended: begun.cancel() if not begun.done() else ended.exception())
        rig, loop, end = begun.result()
        numbers = itertools.count()
        try:
            benchmark.pedantic(
                lambda: asyncio.run_coroutine_threadsafe(one(rig, next(numbers)), loop).result(), rounds=ROUNDS
            )
        finally:
            loop.call_soon_threadsafe(end.set)
        running_in_thread.result()
    assert benchmark.stats is not None
    longest: float = benchmark.stats.stats.max
    return longest


def test_xid_until_the_taint_is_stored(benchmark: BenchmarkFixture, testbed: Testbed, tmp_path: Path) -> None:
    async def one(rig: Rig, number: int) -> None:
        rig.twin.xid(number, 95, recovery_action=1)
        await rig.until(lambda found: f"gpu-{number}" in found)

    assert measured(benchmark, testbed, tmp_path, one) < 5


def test_silent_loss_until_the_taint_is_stored(benchmark: BenchmarkFixture, testbed: Testbed, tmp_path: Path) -> None:
    """Without an event: found by looking."""

    async def one(rig: Rig, number: int) -> None:
        with rig.twin.change() as state:
            state.gpus[number].lost = True
        await rig.until(lambda found: f"gpu-{number}" in found)

    assert measured(benchmark, testbed, tmp_path, one) < 5


def test_wipe_until_the_pool_is_whole_again(benchmark: BenchmarkFixture, testbed: Testbed, tmp_path: Path) -> None:
    def listed() -> list[objects.Manifest]:
        return testbed.api.list(objects.RESOURCE_API, "ResourceSlice")

    async def one(_: Rig, __: int) -> None:
        uids = {each["metadata"]["uid"] for each in await asyncio.to_thread(listed)}
        await asyncio.to_thread(testbed.api.delete_all, objects.RESOURCE_API, "ResourceSlice")
        while True:
            now = await asyncio.to_thread(listed)
            if judged(now).fault == "" and not uids & {each["metadata"]["uid"] for each in now}:
                return
            await asyncio.sleep(0.02)

    measured(benchmark, testbed, tmp_path, one)
