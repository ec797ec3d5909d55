"""`place()`: the one entry for decisions, shared by scheduler and planner. Reads, decides, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from packing.fabric import Fabric
from packing.kernels.arrays import NONE, Cache, Choice, Ints, new_cache, new_choice, new_local
from packing.kernels.decide import decide
from packing.model import MAX_REQUESTS_PER_POD, Demand, Devices, Placement
from packing.policy import Policy
from packing.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What `place()` answers: a placement, or None where no node can serve the demand (`packing.explain` says why).

    `score` compares nodes for this demand under this policy and means nothing beside others.
    """

    demand: Demand
    placement: Placement | None
    score: int = 0


@dataclass(slots=True)
class Scratch:
    """Memory of one policy on one usage: scores by node version, and work space. Never an input of a decision."""

    cache: Cache
    local: Ints = field(default_factory=lambda: new_local(MAX_REQUESTS_PER_POD + 1))
    choice: Choice = field(default_factory=lambda: new_choice(MAX_REQUESTS_PER_POD))


_scratch: WeakKeyDictionary[Usage, WeakKeyDictionary[Policy, Scratch]] = WeakKeyDictionary()


def scratch_of(usage: Usage, policy: Policy) -> Scratch:
    """Return the memory of `policy` on `usage`, with a row for every demand class."""
    by_policy = _scratch.setdefault(usage, WeakKeyDictionary())
    scratch = by_policy.get(policy)
    nodes = len(usage.fabric.nodes)
    if scratch is None:
        scratch = Scratch(new_cache(max(8, len(usage.classes)), nodes, policy.arrays.fgd_sizes.size))
        by_policy[policy] = scratch
    if len(scratch.cache.scores) < len(usage.classes):
        grown = new_cache(2 * len(usage.classes), nodes, policy.arrays.fgd_sizes.size)
        for old, new in zip(scratch.cache, grown, strict=True):
            new[tuple(slice(0, size) for size in old.shape)] = old
        scratch.cache = grown
    return scratch


def place(fabric: Fabric, usage: Usage, demand: Demand, policy: Policy) -> Decision:
    """Decide node and devices for one pod. `usage` is left as it is; `usage.apply` makes the decision so.

    The best score wins; among equals the node of lowest rank, then name. With `usage` of a hundred nodes or a hundred
    thousand, a demand class seen before costs a pass over the scores and a re-scoring of the nodes that changed.
    """
    assert usage.fabric is fabric, "usage and fabric belong together"
    assert policy.fabric is fabric, "the policy was made for another fabric"
    c = usage.classes.index(demand)
    scratch = scratch_of(usage, policy)
    node = decide(
        fabric.arrays,
        usage.arrays,
        policy.arrays,
        usage.classes.arrays,
        c,
        scratch.cache,
        scratch.local,
        scratch.choice,
    )
    if node == NONE:
        return Decision(demand=demand, placement=None)
    return Decision(
        demand=demand,
        placement=decode_placement(fabric, demand, node, scratch.choice),
        score=int(scratch.cache.scores[c, node]),
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
