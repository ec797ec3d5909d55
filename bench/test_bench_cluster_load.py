"""How many pods a second the in-tree scheduler binds on a real control plane, and how far the method can be trusted.

400 one-GPU pods with claims from a template, released together on 100 simulated nodes with 8 GPUs each; etcd without
and with fsync. Two equal kube-schedulers take turns: what lies between their figures is noise, and a difference between
two schedulers must be larger than that. `extra_info` has every burst.
"""

from __future__ import annotations

import json

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sandbox import objects
from sandbox.controlplane import ControlPlane, ControlPlaneOptions
from sandbox.fakenodes import FakeNodes
from sandbox.load.result import median_rate
from sandbox.load.run import compared
from sandbox.load.workload import Workload
from sandbox.schedulers import SchedulerOptions, SecondScheduler

DRIVER = "gpu.bench"
NODES, GPUS, PODS, ROUNDS = 100, 8, 400, 3
TWIN = "twin"


def populate(plane: ControlPlane) -> None:
    """Nodes, their GPUs, a class, and a second scheduler equal to the first."""
    names = FakeNodes.start(plane).add(objects.node(f"gpu-{number:03}") for number in range(NODES))
    devices = [objects.device(f"gpu-{index}", memory="80Gi") for index in range(GPUS)]
    plane.api.create_all(objects.resource_slice(name, DRIVER, devices) for name in names)
    plane.api.create(objects.device_class("gpu", DRIVER))
    SecondScheduler.start(plane, TWIN, SchedulerOptions(configuration={"profiles": [{"schedulerName": TWIN}]}))


@pytest.mark.parametrize("fsync", [False, True], ids=["without-fsync", "with-fsync"])
def test_burst_of_claims(benchmark: BenchmarkFixture, *, fsync: bool) -> None:
    with ControlPlane.start(ControlPlaneOptions(fsync=fsync)) as plane:
        populate(plane)
        load = Workload(namespace="default", name="burst", pods=PODS)
        schedulers = ["default-scheduler", TWIN]
        results = benchmark.pedantic(
            compared, (plane.kubeconfig, load, schedulers), {"rounds": ROUNDS}, rounds=1, iterations=1
        )
    assert [result.pods for result in results] == [PODS] * len(schedulers) * ROUNDS
    for name in schedulers:
        ours = [result for result in results if result.scheduler == name]
        benchmark.extra_info[f"{name} pods/s"] = round(median_rate(ours), 1)
    benchmark.extra_info["bursts"] = [result.as_dict() for result in results]
    print()
    for result in results:
        print(json.dumps(result.as_dict()))
