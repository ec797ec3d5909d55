"""D2: prepare and unprepare as the kubelet calls them, over gRPC, with the real driver on a twin and a real disk.

Client and driver share one process and one event loop, so a call costs a little more here than on a node. The twin is
slower than NVML in that it keeps its state in a file, and faster in that no GPU is at work.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from grpc import aio
from pytest_benchmark.fixture import BenchmarkFixture

from dra_driver.pb import dra_v1_pb2 as dra
from dra_driver.pb.dra_v1_pb2_grpc import DRAPluginStub
from tests.dra_driver.plugin.real import Real, real_world

ROUNDS = 300
SHAPES = {"whole GPU": "gpu-0", "dynamic MIG": "gpu-0-mig-1g10gb-19-0"}


@contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("shape", SHAPES)
def test_prepare_and_unprepare(benchmark: BenchmarkFixture, shape: str) -> None:
    with quiet(), real_world() as real, asyncio.Runner() as runner:
        pod = real.world.pod("pod", device=SHAPES[shape])
        claim = dra.Claim(namespace="default", name=pod.name, uid=real.world.uid("pod"))
        plugin = runner.run(entered(real))
        channel = runner.run(connected(real))

        def pair() -> str:
            return runner.run(prepared_and_back(DRAPluginStub(channel), claim))

        device = benchmark.pedantic(pair, rounds=ROUNDS, warmup_rounds=5)
        runner.run(channel.close())
        runner.run(plugin.__aexit__(None, None, None))
        assert device == SHAPES[shape]
        assert (real.instances(), real.cdi_files()) == (0, 0)
    if benchmark.stats is not None:
        times = benchmark.stats.stats.data
        benchmark.extra_info["p99_ms"] = round(statistics.quantiles(times, n=100)[98] * 1e3, 2)


async def entered(real: Real):
    return await real.world.plugin().__aenter__()


async def connected(real: Real) -> aio.Channel:
    return aio.insecure_channel(f"unix:{real.world.paths().plugin}")


async def prepared_and_back(stub: DRAPluginStub, claim: dra.Claim) -> str:
    """Return the name of the device that was prepared."""
    answer = await stub.NodePrepareResources(dra.NodePrepareResourcesRequest(claims=[claim]))
    assert not answer.claims[claim.uid].error, answer.claims[claim.uid].error
    undone = await stub.NodeUnprepareResources(dra.NodeUnprepareResourcesRequest(claims=[claim]))
    assert not undone.claims[claim.uid].error
    return answer.claims[claim.uid].devices[0].device_name
