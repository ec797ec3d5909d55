"""What can be told of an allocation by counting, before any search: too few devices, too few values of an attribute.

A search would try every way to put nine devices on eight GPUs before it knew.
"""

from __future__ import annotations

from collections.abc import Sequence

from packing.dra.model import ClaimAsk, Constraint
from packing.dra.problem import Item, Node, Value
from packing.dra.translate import bits_of


def may_exist(node: Node, claims: Sequence[ClaimAsk], items: Sequence[Item]) -> bool:
    """Whether counting alone leaves an allocation possible; False is proof that there is none."""
    return _room([(item, item.candidates) for item in items]) and all(
        _is_met(node, constraint, [i for i in items if i.claim == at and i.count and constraint.covers(i.sub.name)])
        for at, claim in enumerate(claims)
        for constraint in claim.constraints
    )


def _room(chosen: Sequence[tuple[Item, int]]) -> bool:
    """Whether devices, given per request, suffice for each, and for all that hold theirs alone together."""
    together = needed = 0
    for item, bits in chosen:
        if bits.bit_count() < item.count:
            return False
        if not item.takes and not item.sub.admin:
            together |= bits
            needed += item.count
    return together.bit_count() >= needed


def _is_met(node: Node, constraint: Constraint, items: Sequence[Item]) -> bool:
    """Whether there are as many distinct values as devices; or, to match, enough devices of some one value."""
    if not items:
        return True
    candidates = 0
    for item in items:
        candidates |= item.candidates
    having: dict[Value, int] = {}
    for bit in bits_of(candidates):
        found = node.attribute(bit, constraint.attribute)
        if found is not None and not found:
            return True  # a list without values differs from every other; left to the search
        for value in found or ():
            having[value] = having.get(value, 0) | 1 << bit
    if constraint.distinct:
        return len(having) >= sum(item.count for item in items)
    return any(_room([(item, item.candidates & bits) for item in items]) for bits in having.values())
