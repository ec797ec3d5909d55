"""What the planner predicts is what the cluster does: the openb trace, placement by placement."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from bench.scheduler import fill, openb, pairs
from bench.scheduler.openb import Trace
from bench.scheduler.rig import DEFAULT, OURS, with_flags
from kube.cluster import Cluster, ClusterSettings
from kube.objects import DeviceClass, Namespace, Node, Pod, ResourceClaim, ResourceSlice
from packing.dra.model import Allocation
from packing.mix import DemandMix
from sandbox.objects import Manifest
from sandbox.pytest_plugin import had_or_skipped
from sandbox.testbed import Testbed
from simulator.result import PlacedPod
from tests.manifests.fixtures import classes, run

T = TypeVar("T")
NAMESPACE = "default"


def stored(manifest: Manifest, kind: type[T]) -> T:
    """Decode an object as the API server would have stored it."""
    metadata = {**manifest["metadata"], "uid": f"uid-{manifest['metadata']['name']}"}
    return msgspec.json.decode(msgspec.json.encode({**manifest, "metadata": metadata}), type=kind)


def cluster_of(trace: Trace, manifests: list[Manifest]) -> Cluster:
    """The scheduler's picture of an empty cluster with the nodes of a trace."""
    mix = DemandMix.from_demands(trace.pods.counts())
    cluster = Cluster(ClusterSettings(mix=mix, place_all=True))
    cluster.put(stored({"metadata": {"name": NAMESPACE}}, Namespace))
    for each in classes(manifests):
        cluster.put(stored(each, DeviceClass))
    for node in trace.nodes:
        cluster.put(stored(openb.node_manifest(node), Node))
        for each in openb.slice_manifests(node):
            cluster.put(stored(each, ResourceSlice))
    return cluster


def decided(cluster: Cluster, trace: Trace) -> Iterator[PlacedPod]:
    """Decide arrival by arrival, as `filter` does, and hold what was decided."""
    for arrival in range(len(trace)):
        claim = openb.claim_manifest(trace, arrival, NAMESPACE)
        if claim is not None:
            cluster.put(stored(claim, ResourceClaim))
        pod = cluster.resolve(stored(openb.pod_manifest(trace, arrival, NAMESPACE, OURS), Pod))
        allocation = cluster.decide(pod, None).allocation
        if allocation is not None:
            cluster.hold(arrival, pod, allocation)
        yield placed(trace.name(arrival), allocation)


def placed(name: str, allocation: Allocation | None) -> PlacedPod:
    if allocation is None:
        return PlacedPod(pod=name, node="", gpus=())
    gpus = sorted(fill.gpu_of(given.device.name) for claim in allocation.claims for given in claim)
    return PlacedPod(pod=name, node=allocation.node, gpus=tuple(gpus))


@pytest.mark.parametrize(
    ("variant", "nodes"),
    [
        ("default", 100),
        ("gpuspec33", 100),  # a third of the pods name one or two GPU models
        ("multigpu50", 100),
        pytest.param("default", 1213, marks=pytest.mark.soak),
        pytest.param("gpuspec33", 1213, marks=pytest.mark.soak),
    ],
)
def test_claims_and_slices_lead_to_the_decisions_of_the_planner(
    tmp_path: Path, allocate: list[Manifest], variant: str, nodes: int
) -> None:
    whole = openb.trace(variant=variant)
    trace = openb.reduced(whole, tmp_path, nodes=nodes, pods=len(whole))
    planned, _ = trace.planned()
    found = list(decided(cluster_of(trace, allocate), trace))
    differ = [at for at, one in enumerate(found) if (one.node, one.gpus) != (planned[at].node, planned[at].gpus)]
    assert [(trace.demand(at), planned[at], found[at]) for at in differ[:1]] == []
    assert any(not each.node for each in found), "the cluster became full"


@pytest.mark.soak  # needs the control plane for itself: a pod that must be tried twice rightly goes elsewhere
@pytest.mark.usefixtures("installed")
def test_real_pods_go_where_the_planner_says(testbed: Testbed, allocate: list[Manifest], tmp_path: Path) -> None:
    """Whole GPUs, shares, models and pods without GPUs, until some find no place; through a real kube-scheduler."""
    whole = openb.trace(variant="gpuspec33")
    trace = openb.reduced(whole, tmp_path, nodes=20, pods=len(whole))
    testbed.add_nodes(*map(openb.node_manifest, trace.nodes))
    testbed.create(*(each for node in trace.nodes for each in openb.slice_manifests(node)))
    for each in classes(allocate):
        testbed.api.apply(each)
    ours = run(testbed.control_plane, with_flags(allocate, *fill.flags(trace)))
    try:
        found = fill.filled(testbed.control_plane.kubeconfig, testbed.namespace, OURS, trace)
    finally:
        ours.kill()
    assert [fill.line(found, at) for at in found.differing()] == []
    assert any(not each.node for each in found.placed), "the cluster became full"
    assert found.overcommitted() == []
    assert found.pct == found.planned_pct
    testbed.remove_workload(timeout_s=60)


@pytest.mark.soak
@pytest.mark.cluster
def test_p7_the_openb_trace_fills_a_cluster_as_planned() -> None:
    found, costs = had_or_skipped(lambda: fill.measured(openb.trace()))
    fill.report(found, costs)
    assert found.differing() == []
    assert found.overcommitted() == []
    assert found.pct is not None
    assert found.pct == found.planned_pct
    assert found.pct < 4.55


@pytest.mark.soak
@pytest.mark.cluster
def test_s4_pairs_of_gpus_are_joined_as_planned() -> None:
    recording = pairs.recorded()
    found = had_or_skipped(lambda: pairs.measured(recording))
    pairs.report(recording, found)
    assert pairs.differing(found[pairs.PLANNER], found[OURS]) == []
    ours, default = (recording.pairs_pct(found[name]) for name in (OURS, DEFAULT))
    assert ours >= 98
    assert ours >= 1.5 * default
