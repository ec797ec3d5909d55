"""A large cluster from lists of its objects to the first decision, and what it costs to follow it from then on.

Each start is a process of its own, as the scheduler's: pages of a LIST lie in files and are read one by one, the
objects of a kind are given to the cluster together, as a reflector does. RSS is the peak of the process, with Python,
numpy and the compiled kernels.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

PAGE = 500
DRIVER = "gpu.dovetail.dev"


def pages(items: Iterator[dict[str, Any]], folder: Path, kind: str) -> int:
    """Write items as pages of a list; return their bytes."""
    size, number, some = 0, 0, list[dict[str, Any]]()

    def write() -> None:
        nonlocal size, number, some
        text = json.dumps({"metadata": {"resourceVersion": "1"}, "items": some})
        size += len(text)
        (folder / f"{kind}-{number:04}.json").write_text(text)
        number, some = number + 1, []

    for item in items:
        some.append(item)
        if len(some) == PAGE:
            write()
    if some:
        write()
    return size


def nodes(count: int) -> Iterator[dict[str, Any]]:
    labels = {f"example.com/label-{at}": f"value-{at}" for at in range(20)}
    for at in range(count):
        name = f"node-{at:05}"
        metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "labels": labels}
        allocatable = {"cpu": "95500m", "memory": "1048000Mi", "pods": "110", "ephemeral-storage": "1000Gi"}
        yield {"metadata": metadata, "status": {"allocatable": allocatable, "capacity": allocatable}}


def slices(count: int, machine_name: str, *, divided: bool) -> Iterator[dict[str, Any]]:
    from dra_driver.publish import resource_slices
    from dra_driver.simulated import simulated_gpus
    from topology.catalog import machine
    from topology.modes import MigMode, Sharing

    mode, sharing = (MigMode.DYNAMIC, tuple(Sharing)) if divided else (MigMode.DISABLED, ())
    for at in range(count):
        name = f"node-{at:05}"
        yield from resource_slices(simulated_gpus(machine(machine_name), name, mig_mode=mode, sharing=sharing))


def claims(count: int) -> Iterator[dict[str, Any]]:
    """One GPU each, the first ones of as many nodes as it takes."""
    for at in range(count):
        node = f"node-{at // 8:05}"
        result = {"request": "gpu", "driver": DRIVER, "pool": f"{node}/{DRIVER}", "device": f"gpu-{at % 8}"}
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        metadata = {"name": f"claim-{at}", "namespace": "default", "uid": f"claim-uid-{at:06}", "resourceVersion": "1"}
        yield {
            "metadata": metadata,
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}},
            "status": {
                "allocation": {
                    "devices": {"results": [result]},
                    "nodeSelector": {"nodeSelectorTerms": [term]},
                },
                "reservedFor": [{"resource": "pods", "name": f"pod-{at}", "uid": f"pod-uid-{at:06}"}],
            },
        }


def ready(folder: Path) -> dict[str, Any]:
    """Read the lists of a folder and decide once; return figures."""
    import gc

    import msgspec

    from kube.cluster import Cluster
    from kube.kinds import CLAIMS, NODES, SLICES
    from kube.resolved import Resolved, Way
    from packing.dra.model import Ask
    from packing.warm import compile_kernels
    from scheduler.collecting import seldom

    compile_kernels()
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    gc.collect()
    began = time.perf_counter()
    cluster = Cluster()
    with seldom():
        for kind in (NODES, SLICES, CLAIMS):
            found = [
                each
                for path in sorted(folder.glob(f"{kind.plural}-*"))
                for each in cluster.keep(kind, objects(kind, path))
            ]
            cluster.replace(kind, found)
            del found
        packed = cluster.packed()
    ready_s = time.perf_counter() - began
    nothing = Resolved(pod=None, ways=(Way(ask=Ask(), claims=()),))  # type: ignore[arg-type]
    assert cluster.decide(nothing).allocation is not None
    began = time.perf_counter()
    (one,) = [each for each in cluster.store.nodes if each.metadata.name == "node-00000"]
    cluster.put(msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, labels={"rack": "r2"})))
    assert cluster.packed() is not packed
    return {
        "ready_s": ready_s,
        "again_s": time.perf_counter() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "before_mb": before_mb,
        "nodes": len(packed.inventory.reach),
        "devices": sum(one.mask.bit_count() for reach in packed.inventory.reach for one in reach),
        "shapes": len({id(one.pool.shape) for reach in packed.inventory.reach for one in reach}),
        "in_use": len(packed.ledger.usage.claims),
    }


def objects(kind: Any, path: Path) -> tuple[Any, ...]:
    from kube.decoding import decoder

    return decoder(kind).page(path.read_bytes()).objects


@pytest.mark.parametrize(
    ("name", "count", "divided", "allocated", "devices"),
    [
        ("whole GPUs", 5_000, False, 0, 40_000),
        ("whole GPUs, all allocated", 5_000, False, 40_000, 40_000),
        ("all MIG placements and shares", 500, True, 0, 112_000),
    ],
    ids=["whole", "allocated", "mig"],
)
def test_from_zero_to_ready(
    benchmark: BenchmarkFixture,
    tmp_path: Path,
    name: str,
    count: int,
    divided: bool,  # noqa: FBT001 - a case
    allocated: int,
    devices: int,
) -> None:
    """5,000 nodes with 40,000 devices: at most 5 s and 500 MB."""
    size = pages(nodes(count), tmp_path, "nodes")
    size += pages(slices(count, "dgx-a100-80", divided=divided), tmp_path, "resourceslices")
    size += pages(claims(allocated), tmp_path, "resourceclaims")

    def start() -> dict[str, Any]:
        # -P: beside this file, bench/scheduler would hide the package of that name.
        command = [sys.executable, "-P", __file__, str(tmp_path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures

    figures = benchmark.pedantic(start, rounds=3)
    benchmark.extra_info |= {"case": name, "json_mb": size / 1e6, **figures}
    print(name, json.dumps({"json_mb": round(size / 1e6), **figures}))
    assert (figures["nodes"], figures["devices"], figures["shapes"]) == (count, devices, 1)
    assert figures["in_use"] == allocated


@pytest.mark.parametrize("label", ["kubernetes.io/hostname", "example.com/nic"])
def test_one_pool_changes_among_those_bound_to_nodes_by_a_selector(benchmark: BenchmarkFixture, label: str) -> None:
    """5,000 nodes, each with a network pool that a selector binds to it, as network drivers publish them."""
    from kube.cluster import Cluster, ClusterSettings
    from kube.decoding import decoder
    from kube.kinds import NODES, SLICES

    driver, names = "nic.example.com", [f"node-{at:05}" for at in range(5_000)]

    def pool_of(name: str, generation: int) -> Any:
        expression = {"key": label, "operator": "In", "values": [name]}
        spec = {
            "driver": driver,
            "pool": {"name": name, "generation": generation, "resourceSliceCount": 1},
            "nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]},
            "devices": [{"name": "nic-0"}],
        }
        return decoder(SLICES).converted({"metadata": {"name": name}, "spec": spec})

    cluster = Cluster(ClusterSettings(drivers=(DRIVER, driver)))
    for name in names:
        cluster.put(decoder(NODES).converted({"metadata": {"name": name, "labels": {label: name}}}))
        cluster.put(pool_of(name, 1))
    cluster.packed()
    generation = 1

    def change() -> Any:
        nonlocal generation
        generation += 1
        cluster.put(pool_of(names[0], generation))
        return cluster.packed()

    packed = benchmark(change)
    assert [[one.pool.name for one in reached] for reached in packed.inventory.reach] == [[name] for name in names]
    assert packed.inventory.reach[0][0].pool.generation == generation


if __name__ == "__main__":
    print(json.dumps(ready(Path(sys.argv[1]))))
