"""Copies of a usage for what-if questions, with demand classes of their own: a question leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterable

from packing.classes import DemandClasses
from packing.fabric import Fabric, build_fabric
from packing.kernels.arrays import UsageArrays
from packing.model import ClaimId, Node, Placement
from packing.place import decode_placement
from packing.usage import Held, Usage


def own_copy(usage: Usage) -> Usage:
    """Return a copy that shares nothing that grows: `Usage.copy` shares the demand classes."""
    classes = DemandClasses(usage.fabric)
    for demand in usage.classes.demands:
        classes.index(demand)
    twin = Usage(usage.fabric, classes)
    twin.arrays = UsageArrays(*(array.copy() for array in usage.arrays))
    twin.claims = dict(usage.claims)
    return twin


def placement_of(usage: Usage, held: Held) -> Placement:
    """Return what a claim holds, with names."""
    return decode_placement(usage.fabric, usage.classes.demands[held.demand_class], held.node, held.choice())


def alone(usage: Usage, node: Node, claims: Iterable[ClaimId]) -> tuple[Fabric, Usage]:
    """Return a cluster of `node` alone, hosting those `claims` of `usage`.

    InvalidInputError where a claim has no place on `node`.
    """
    fabric = build_fabric((node,))
    twin = Usage(fabric)
    for claim in claims:
        held = usage.claims[claim]
        twin.apply(claim, usage.classes.demands[held.demand_class], placement_of(usage, held))
    return fabric, twin
