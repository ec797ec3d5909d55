"""Nothing is refused that some node could take: an independent account of the leftovers agrees with the core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from packing.explain import explain
from packing.mix import DemandMix
from packing.model import Snapshot
from packing.pack import pack
from packing.policy import POLICIES, make_policy
from packing.sequence import place_sequence
from simulator.inputs.arrivals import read_arrivals, with_ranks
from simulator.inputs.openb import read_nodes, read_pods
from tests.simulator.leftover import leftover

OPENB = Path(__file__).parents[2] / "examples" / "openb"


@pytest.fixture(scope="module")
def trace():
    nodes = read_nodes(OPENB / "openb_node_list_gpu_node.csv.gz")
    pods = read_pods(OPENB / "openb_pod_list_gpuspec33.csv.gz")
    arrivals = read_arrivals(OPENB / "openb_arrivals_seeds42-51.npz", "gpuspec33", 42, pods=len(pods), nodes=len(nodes))
    return with_ranks(nodes, arrivals.node_rank), pods, arrivals


@pytest.mark.parametrize("policy", POLICIES)
def test_a_pod_that_failed_fits_on_no_node_at_the_end(trace, policy):
    nodes, pods, arrivals = trace
    fabric, usage = pack(Snapshot(nodes=tuple(nodes)))
    chosen = make_policy(policy, DemandMix.from_demands(pods.counts()), fabric, seed=42)
    order = pods.classes[arrivals.pods]
    placed = place_sequence(fabric, usage, pods.demands, order, chosen)
    left = leftover(fabric.nodes, pods.demands, order, placed.node, placed.devices)
    failed = np.unique(order[placed.node < 0])
    assert len(failed) > 20
    for index in failed.tolist():
        demand = pods.demands[index]
        assert sum(reason.nodes for reason in left.refusals(demand)) == len(nodes)
        explained = explain(fabric, usage, demand, chosen)
        assert explained.fitting == 0
        assert sum(reason.nodes for reason in explained.reasons()) == len(nodes)
