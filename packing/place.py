"""`place()`: the one entry for decisions, shared by scheduler and planner. Reads, decides, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packing.fabric import Fabric
from packing.kernels.arrays import NONE, UNDECIDED, Choice, Flags
from packing.kernels.decide import decide
from packing.kernels.jit import direct
from packing.memory import memory_of
from packing.model import Demand, Devices, Placement
from packing.policy import Policy
from packing.usage import Usage

_decide = direct(decide)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What `place()` answers: a placement, or None where no node can serve the demand (`packing.explain` says why).

    `undecided` says that on some node the bounded search for several requests ended without an answer: without a
    placement this is no proof that none exists. `score` compares nodes for this demand under this policy and means
    nothing beside others.
    """

    demand: Demand
    placement: Placement | None
    score: int = 0
    undecided: bool = False


def place(fabric: Fabric, usage: Usage, demand: Demand, policy: Policy, among: Flags | None = None) -> Decision:
    """Decide node and devices for one pod. `usage` is left as it is; `usage.apply` makes the decision so.

    The best score wins; among equals the node of lowest rank, then name. On a hundred nodes or a hundred thousand, a
    demand class seen before costs a re-scoring of the nodes that changed since, and no pass over the others.
    `among` [N] restricts the choice to some nodes, at the price of that pass.
    """
    assert usage.fabric is fabric, "usage and fabric belong together"
    assert policy.fabric is fabric, "the policy was made for another fabric"
    c = usage.classes.index(demand)
    memory = memory_of(usage, policy)
    row = memory.row(c)
    cache = memory.cache
    if among is not None:
        assert among.shape == (len(fabric.nodes),), "one flag per node"
        # A kernel is compiled for writable arrays or for read-only ones, not for both.
        cache = cache._replace(among=np.require(among, dtype=np.bool_, requirements=["C", "W"]))
    node = _decide(
        fabric.arrays,
        usage.arrays,
        policy.arrays,
        usage.classes.arrays,
        c,
        row,
        cache,
        memory.local,
        memory.choice,
    )
    if node == NONE:
        # The last entry of a row is its highest score.
        scores = cache.scores[row, -1:] if among is None else cache.scores[row, : len(among)][among]
        return Decision(demand=demand, placement=None, undecided=bool((scores == UNDECIDED).any()))
    return Decision(
        demand=demand,
        placement=decode_placement(fabric, demand, node, memory.choice),
        score=int(cache.scores[row, node]),
    )


def decode_placement(fabric: Fabric, demand: Demand, node: int, choice: Choice) -> Placement:
    """Give indices their names back."""
    shape = fabric.nodes[node].shape
    devices = []
    for u in range(len(demand.requests)):
        mask = int(choice.gpus[u])
        gpus = tuple(i for i in range(len(shape.gpus)) if mask >> i & 1)
        profile = ""
        if choice.profile[u] != NONE:
            geometry = shape.gpus[gpus[0]].mig
            assert geometry is not None
            profile = geometry.profiles[int(choice.profile[u])].name
        quality = int(shape.links.quality_mbps[mask]) / 1000
        devices.append(Devices(gpus=gpus, profile=profile, start=int(choice.start[u]), quality_gbps=quality))
    return Placement(node=fabric.nodes[node].name, devices=tuple(devices))
