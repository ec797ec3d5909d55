"""The openb trace as published (seed 42), for tests of the core on real machines and demands."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from packing.mix import DemandMix
from packing.model import Demand, Node
from simulator.inputs.arrivals import read_arrivals, with_ranks
from simulator.inputs.openb import read_nodes, read_pods

TRACE = Path(__file__).parents[2] / "examples" / "openb"


@cache
def openb(variant: str = "default") -> tuple[tuple[Node, ...], DemandMix, list[Demand]]:
    """Return the nodes, the demand mix and the arrivals in order."""
    nodes = read_nodes(TRACE / "openb_node_list_gpu_node.csv.gz")
    pods = read_pods(TRACE / f"openb_pod_list_{variant}.csv.gz")
    arrivals = read_arrivals(TRACE / "openb_arrivals_seeds42-51.npz", variant, 42, pods=len(pods), nodes=len(nodes))
    ranked = tuple(with_ranks(nodes, arrivals.node_rank))
    return ranked, DemandMix.from_demands(pods.counts()), [pods.demand(int(row)) for row in arrivals.pods]
