"""What an ask means on one node now: per request the devices that may serve it, and what they take of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packing.dra.amounts import consumed
from packing.dra.inuse import InUse, PoolUse
from packing.dra.layout import Layout
from packing.dra.model import (
    Amount,
    ClaimAsk,
    Constraint,
    Effect,
    Reach,
    SubRequest,
    Taint,
    Toleration,
)
from packing.dra.translate import Combination, bits_of, selected

Value = tuple[str, int | bool | str]
"""Kind and value: values of two kinds are never equal."""


@dataclass(slots=True)
class Node:
    """The devices of a node and what is left of them. Counters are numbered, over all pools."""

    layout: Layout
    reach: tuple[Reach, ...]
    taken: int
    """Devices that claims hold alone, bit mask."""
    shared: int
    """Devices that claims share, bit mask: their counters are counted already."""
    left: list[int]
    """By number of the counter."""
    counter_at: dict[tuple[int, str, str], int]
    consumed: dict[int, Mapping[str, Amount]]
    """Bit -> what the shares of a device take, by capacity."""

    @classmethod
    def of(cls, layout: Layout, reach: tuple[Reach, ...], in_use: InUse) -> Node:
        """Gather what is left on a node."""
        node = cls(layout, reach, 0, 0, [], {}, {})
        for r, one in enumerate(reach):
            node._add_pool(r, one, in_use.pool(one.pool))
        return node

    def _add_pool(self, r: int, one: Reach, use: PoolUse) -> None:
        shape, start = one.pool.shape, self.layout.starts[r]
        used = use.counters(shape) if shape.counters else {}
        same = next(
            (s for s in range(r) if self.reach[s].pool.key == one.pool.key), r
        )  # its own devices, and others beside
        for name, total in shape.counters.items():
            if same < r:
                self.counter_at[(r, *name)] = self.counter_at[(same, *name)]
                continue
            self.counter_at[(r, *name)] = len(self.left)
            self.left.append(total - used.get(name, 0))
        if not use.taken and not use.shares:
            return
        for at, device in enumerate(shape.devices):
            if device.name in use.taken:
                self.taken |= 1 << (start + at)
            if device.name in use.shares:
                self.shared |= 1 << (start + at)
                self.consumed[start + at] = use.consumed.get(device.name, {})

    def uses(self, bit: int) -> tuple[tuple[int, int], ...]:
        """Return (counter, amount) of what a device takes while it is allocated."""
        r, _ = self.layout.place_of(bit)
        device = self.layout.devices[bit]
        return tuple((self.counter_at[r, use.counter_set, use.counter], use.amount) for use in device.consumes)

    def attribute(self, bit: int, name: str) -> frozenset[Value] | None:
        """Return the values of an attribute, None where the device has none of that name."""
        r, at = self.layout.place_of(bit)
        found = self.reach[r].pool.attribute(at, name)
        return None if found is None else frozenset((found.kind, value) for value in found.values)

    def has_capacity(self, bit: int, amounts: Mapping[str, Amount]) -> bool:
        """Whether a shared device has that much left beside the shares on it."""
        device, held = self.layout.devices[bit], self.consumed.get(bit, {})
        return all(held.get(name, 0) + amount <= device.capacity[name].value for name, amount in amounts.items())

    def has_counters(self, bit: int) -> bool:
        """Whether the counters that a device needs are left."""
        return all(amount <= self.left[counter] for counter, amount in self.uses(bit))


@dataclass(slots=True)
class Item:
    """A request as it is to be served: `count` of `candidates`, or all of `selected` (`every`)."""

    claim: int
    position: int
    """Among the requests of its claim."""
    sub: SubRequest
    selected: int
    candidates: int = 0
    count: int = 0
    every: bool = False
    takes: dict[int, Mapping[str, Amount]] = field(default_factory=dict)
    """Shared device -> what is consumed of it."""
    lost: dict[str, int] = field(default_factory=dict)
    """Why selected devices are no candidates -> which, bit mask."""


NO_BINDING = "need binding conditions"
TAINTED = "are tainted"
IN_USE = "are in use"
CAPACITY = "lack capacity"
COUNTERS = "overlap devices in use"


def items_of(node: Node, claims: Sequence[ClaimAsk], combination: Combination, *, binding: bool = False) -> list[Item]:
    """Return the requests of a combination with the devices that may serve each. Raises SelectorError.

    `binding` admits devices that have binding conditions.
    """
    assert len(claims) == len(combination)
    return [
        _item(node, claim, position, sub, binding=binding)
        for claim, subs in enumerate(combination)
        for position, sub in enumerate(subs)
    ]


def _item(node: Node, claim: int, position: int, sub: SubRequest, *, binding: bool) -> Item:
    item = Item(claim, position, sub, selected(node.layout, node.reach, sub))
    fitting = 0
    for bit in bits_of(item.selected):
        reason = _refusal(node, item, bit, binding=binding)
        if reason == "":
            item.candidates |= 1 << bit
        else:
            item.lost[reason] = item.lost.get(reason, 0) | 1 << bit
        if reason != CAPACITY:
            fitting |= 1 << bit
    item.every = sub.all_devices
    # As in-tree: all that the capacity asked for can be had of.
    item.count = fitting.bit_count() if item.every else sub.count
    return item


def _refusal(node: Node, item: Item, bit: int, *, binding: bool) -> str:
    """Return the first reason why a device cannot serve a request on its own, and note what it would consume."""
    device = node.layout.devices[bit]
    amounts = consumed(device, item.sub.capacity)
    if amounts is None:
        return CAPACITY
    if device.multiple:
        item.takes[bit] = amounts
        if not item.sub.admin and not node.has_capacity(bit, amounts):
            return CAPACITY
    if device.binding_conditions and not binding:
        return NO_BINDING
    r, at = node.layout.place_of(bit)
    if not tolerated(node.reach[r].pool.tainted.get(at, ()), item.sub.tolerations):
        return TAINTED
    if item.sub.admin:
        return ""
    if node.taken >> bit & 1 or (node.shared >> bit & 1 and not device.multiple):
        return IN_USE  # also one that was shared when it was given, and now is not to be
    return "" if node.shared >> bit & 1 or node.has_counters(bit) else COUNTERS


def tolerated(taints: Sequence[Taint], tolerations: Sequence[Toleration]) -> bool:
    """Whether each taint that keeps pods away is tolerated."""
    return all(
        taint.effect is Effect.NONE or any(_tolerates(toleration, taint) for toleration in tolerations)
        for taint in taints
    )


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether a toleration is for a taint, as ToleratesTaint has it."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    return toleration.exists or toleration.value == taint.value


def constraints_of(claims: Sequence[ClaimAsk], item: Item) -> list[tuple[int, int, Constraint]]:
    """Return the constraints that a request takes part in: claim, which of its constraints, and it."""
    return [
        (item.claim, at, constraint)
        for at, constraint in enumerate(claims[item.claim].constraints)
        if constraint.covers(item.sub.name)
    ]
