"""How many more of one demand fit now: `place()` and apply on a copy, until it is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from packing.explain import Explanation, explain
from packing.fabric import Fabric
from packing.model import ClaimId, Demand, NodeName, Placement
from packing.place import place
from packing.policy import Policy
from packing.trial import own_copy
from packing.usage import Usage

MAX_COUNT = 100_000
"""Most pods that one question counts."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Capacity:
    """The placements in the order they were decided, and the usage after them.

    `refusal` says of every node why the next one does not fit; None where counting stopped at the limit.
    """

    placements: tuple[Placement, ...]
    refusal: Explanation | None
    after: Usage

    @property
    def per_node(self) -> dict[NodeName, int]:
        """Number of pods per node that got any, most first, then by name."""
        nodes = Counter(placement.node for placement in self.placements)
        return dict(sorted(nodes.items(), key=lambda item: (-item[1], item[0])))


def count_fits(
    fabric: Fabric, usage: Usage, demand: Demand, policy: Policy, limit: int = MAX_COUNT, prefix: str = "fit"
) -> Capacity:
    """Count how many more pods of `demand` the policy places, at most `limit`. `usage` is left as it is.

    In `Capacity.after` the pods hold their devices as claims `<prefix>/0` and on.
    """
    assert 0 <= limit <= MAX_COUNT
    after = own_copy(usage)
    placements: list[Placement] = []
    while len(placements) < limit:
        placement = place(fabric, after, demand, policy).placement
        if placement is None:
            return Capacity(placements=tuple(placements), refusal=explain(fabric, after, demand, policy), after=after)
        after.apply(ClaimId(f"{prefix}/{len(placements)}"), demand, placement)
        placements.append(placement)
    return Capacity(placements=tuple(placements), refusal=None, after=after)
