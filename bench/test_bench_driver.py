"""D2: prepare and unprepare as the kubelet calls them, over gRPC, with the real driver on a twin.

Client and driver share one process and one event loop, so a call costs a little more here than on a node. The twin is
slower than NVML in that it keeps its state in a file, and faster in that no GPU is at work. Twin and host tree lie in
memory, as a GPU's state and /dev do; the journal and the CDI files in memory or on the disk of `--basetemp`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from grpc import aio
from pytest_benchmark.fixture import BenchmarkFixture

from dra_driver.pb import dra_v1_pb2 as dra
from dra_driver.pb.dra_v1_pb2_grpc import DRAPluginStub
from tests.dra_driver.plugin.real import Real, real_world

ROUNDS = 1000
MEMORY = Path("/dev/shm")
SHAPES = {"whole GPU": "gpu-0", "dynamic MIG": "gpu-0-mig-1g10gb-19-0"}


@pytest.fixture(params=["memory", "node", "disk"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Path]:
    """Where journal and CDI files lie: as on a node is the one on the disk, the other in /run, hence in memory."""
    folders = {"memory": {}, "node": {"state": tmp_path / "state"}}
    return folders.get(request.param, {"state": tmp_path / "state", "cdi": tmp_path / "cdi"})


def fsync_ms(folder: Path) -> dict[str, float]:
    """What the disk takes for the least there is."""
    times_s = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 1000)
            began_s = time.perf_counter()
            os.fsync(file.fileno())
            times_s.append(time.perf_counter() - began_s)
    return quantiles_ms(times_s)


@contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("shape", SHAPES)
def test_prepare_and_unprepare(
    benchmark: BenchmarkFixture, shape: str, kept: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(MEMORY))
    prepare_s: list[float] = []
    unprepare_s: list[float] = []
    with quiet(), real_world(**kept) as real, asyncio.Runner() as runner:
        pod = real.world.pod("pod", device=SHAPES[shape])
        claim = dra.Claim(namespace="default", name=pod.name, uid=real.world.uid("pod"))
        plugin = runner.run(entered(real))
        channel = runner.run(connected(real))
        stub = DRAPluginStub(channel)

        def pair() -> str:
            began_s = time.perf_counter()
            device = runner.run(prepared(stub, claim))
            between_s = time.perf_counter()
            runner.run(unprepared(stub, claim))
            prepare_s.append(between_s - began_s)
            unprepare_s.append(time.perf_counter() - between_s)
            return device

        cpu_s = time.process_time()
        device = benchmark.pedantic(pair, rounds=ROUNDS, warmup_rounds=5)
        cpu_s = time.process_time() - cpu_s
        runner.run(channel.close())
        runner.run(plugin.__aexit__(None, None, None))
        assert device == SHAPES[shape]
        assert (real.instances(), real.cdi_files(), len(real.side.records())) == (0, 0, 0)
    benchmark.extra_info |= {
        "prepare_ms": quantiles_ms(prepare_s),
        "unprepare_ms": quantiles_ms(unprepare_s),
        "cpu_ms_of_a_pair": round(1e3 * cpu_s / len(prepare_s), 2),
        "fsync_ms": fsync_ms(tmp_path),
        "load": round(os.getloadavg()[0], 1),
    }
    print(shape, benchmark.name, benchmark.extra_info)


def quantiles_ms(times_s: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times_s, n=100)
    return {"p50": round(1e3 * cuts[49], 2), "p99": round(1e3 * cuts[98], 2)}


async def entered(real: Real):
    return await real.world.plugin().__aenter__()


async def connected(real: Real) -> aio.Channel:
    return aio.insecure_channel(f"unix:{real.world.paths().plugin}")


async def prepared(stub: DRAPluginStub, claim: dra.Claim) -> str:
    """Return the name of the device that was prepared."""
    answer = await stub.NodePrepareResources(dra.NodePrepareResourcesRequest(claims=[claim]))
    assert not answer.claims[claim.uid].error, answer.claims[claim.uid].error
    (device,) = answer.claims[claim.uid].devices
    return str(device.device_name)


async def unprepared(stub: DRAPluginStub, claim: dra.Claim) -> None:
    undone = await stub.NodeUnprepareResources(dra.NodeUnprepareResourcesRequest(claims=[claim]))
    assert not undone.claims[claim.uid].error
