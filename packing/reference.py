"""The same decisions as `packing.place`, in slow, plain Python over domain values: the truth that kernels must equal.

A node's state is the list of pods on it and nothing else; sets are tried one by one; the mix is walked spec by spec.
Tests only: production never imports this, and this never imports kernels or their arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from packing.mix import DemandMix
from packing.model import ClaimId, Demand, Devices, LinkWish, Node, Placement, Request, WholeRequest
from packing.reference_pick import Pick, Undecided, any_choice, draw, partition_cost, preferred, simple
from packing.reference_score import simple_score
from packing.reference_state import NodeState, Unit
from packing.reference_worth import GIGA, Worth, geometries_of

RANK = 0.006
"""GPUs from one node to the next in fill order, as long as first and last are no further apart than `SPAN`."""
SPAN = {"dovetail": 7.5, "dovetail-wait": 0.25}
LINK = 4 * GIGA
"""Nano-GPU per GPU of a set at its ideal link quality."""


@dataclass
class Cluster:
    """Nodes in tie order and who runs where."""

    nodes: tuple[Node, ...]
    claims: dict[ClaimId, tuple[Demand, Placement]] = field(default_factory=dict)
    events: int = 0
    """Changes so far; the policy `random` draws by it."""

    def __post_init__(self) -> None:
        """Order the nodes by rank, then name."""
        self.nodes = tuple(sorted(self.nodes, key=lambda node: (node.rank, node.name)))

    def apply(self, claim: ClaimId, demand: Demand, placement: Placement) -> None:
        """Let a claim hold devices."""
        assert claim not in self.claims
        self.claims[claim] = (demand, placement)
        self.events += 1

    def release(self, claim: ClaimId) -> None:
        """Take back what a claim holds."""
        del self.claims[claim]
        self.events += 1

    def states(self) -> list[NodeState]:
        """Return every node with what is on it."""
        cpu = {node.name: node.cpu_milli for node in self.nodes}
        memory = {node.name: node.memory_mib for node in self.nodes}
        units: dict[str, list[Unit]] = {node.name: [] for node in self.nodes}
        for demand, placement in self.claims.values():
            cpu[placement.node] -= demand.cpu_milli
            memory[placement.node] -= demand.memory_mib
            units[placement.node] += zip(demand.requests, placement.devices, strict=True)
        return [NodeState(node, cpu[node.name], memory[node.name], tuple(units[node.name])) for node in self.nodes]

    def first_gpu(self, at: int) -> int:
        """Return the cluster-wide number of the first GPU of node `at`."""
        return sum(len(node.shape.gpus) for node in self.nodes[:at])


class ReferencePolicy:
    """A policy by name and what it knows."""

    def __init__(self, name: str, mix: DemandMix, nodes: Iterable[Node], *, seed: int = 0) -> None:
        """Learn from the mix and the machines of the cluster."""
        self.name = name
        self.seed = seed
        nodes = tuple(nodes)
        shapes = tuple({id(node.shape): node.shape for node in nodes}.values())
        self.typical = mix.typical_pods()
        self.geometries = geometries_of(shapes)
        self.worth = Worth(mix, shapes, name) if name in SPAN else None
        self.rank = round(min(RANK, SPAN[name] / len(nodes)) * GIGA) if name in SPAN else 0


def place(cluster: Cluster, demand: Demand, policy: ReferencePolicy) -> tuple[Placement | None, int]:
    """Return the placement of one pod and its score: best score first, then lowest node; None where nothing fits."""
    found: list[tuple[int, int, Pick]] = []
    for at, state in enumerate(cluster.states()):
        answer = serve(cluster, at, state, demand, policy)
        if answer is not None:
            found.append((answer[0], at, answer[1]))
    if not found:
        return None, 0
    if policy.name == "random":
        chosen = found[draw(policy.seed, cluster.events, len(found)) % len(found)]
    else:
        chosen = max(found, key=lambda entry: (entry[0], -entry[1]))
    score, at, devices = chosen
    return Placement(node=cluster.nodes[at].name, devices=devices), score


def serve(
    cluster: Cluster, at: int, state: NodeState, demand: Demand, policy: ReferencePolicy
) -> tuple[int, Pick] | None:
    """Return the score and the devices that node `at` offers, None where it has none (or the search gave up)."""
    after = state.with_pod(demand)
    if after.cpu_milli < 0 or after.memory_mib < 0:
        return None
    try:
        if policy.worth is None:
            return _serve_simply(cluster, at, state, demand, policy)
        return _serve_preferred(policy.worth, state, demand, policy.rank * at)
    except Undecided:
        return None


def _serve_simply(
    cluster: Cluster, at: int, state: NodeState, demand: Demand, policy: ReferencePolicy
) -> tuple[int, Pick] | None:
    """Serve by the policy's rule for devices, unit after unit; any legal choice where that meets a dead end."""
    first = cluster.first_gpu(at)

    def chance(gpu: int) -> int:
        return draw(policy.seed, cluster.events, first + gpu)

    served = state.with_pod(demand)
    devices: Pick | None = ()
    for request in demand.requests:
        choice = simple(policy.name, served, request, state, policy.typical, chance)
        if choice is None:
            devices = _dead_end(state, demand)
            break
        assert devices is not None
        devices = (*devices, choice)
        served = served.with_unit(request, choice)
    if devices is None:
        return None
    return simple_score(policy.name, state, demand, devices, policy.typical, policy.geometries), devices


def _serve_preferred(worth: Worth, state: NodeState, demand: Demand, rank: int) -> tuple[int, Pick] | None:
    """Serve unit after unit so that the node stays worth most."""
    served = state.with_pod(demand)
    devices: Pick | None = ()
    links = 0
    for request in demand.requests:
        choice = preferred(worth.of, served, request)
        if choice is None:
            devices = _dead_end(state, demand)
            pairs = zip(demand.requests, devices or (), strict=False)
            links = sum(_credit(worth, state, request, choice) for request, choice in pairs)
            break
        assert devices is not None
        devices = (*devices, choice)
        links += _credit(worth, state, request, choice)
        served = served.with_unit(request, choice)
    if devices is None:
        return None
    served = state.with_pod(demand)
    for request, choice in zip(demand.requests, devices, strict=True):
        served = served.with_unit(request, choice)
    return worth.of(served) + links - worth.of(state) - rank, devices


def _dead_end(state: NodeState, demand: Demand) -> Pick | None:
    """Return any allocation of several units; one unit that found nothing has none."""
    return any_choice(state, demand.requests) if len(demand.requests) > 1 else None


def _credit(worth: Worth, state: NodeState, request: Request, choice: Devices) -> int:
    """Credit for the links of a whole request: its GPUs by their share of the best quality of the product.

    Half of that without NVLink. A partition costs the part of its GPU that it takes.
    """
    if not isinstance(request, WholeRequest):
        return -partition_cost(state, choice)
    if request.link is LinkWish.NONE or request.count == 1:
        return LINK * request.count
    links = state.node.shape.links
    mask = sum(1 << i for i in choice.gpus)
    ideal = worth.link_ideal(state.node.shape, request.count)
    share = int(links.quality_mbps[mask]) * 1000 // ideal if ideal else 1000
    return LINK // 1000 * request.count * (share if links.nvlink[mask] else share // 2)
