"""Devices taken for an ask while one is being found for it: what that leaves, and what its constraints still allow."""

from __future__ import annotations

from collections.abc import Sequence

from packing.dra.model import MAX_RESULTS, Amount, ClaimAsk
from packing.dra.problem import Item, Node, Value, constraints_of
from packing.dra.translate import bits_of


class Taking:
    """The state of a search on one node. `take` changes it if it may, `give_back` undoes the last such change.

    A device is in a claim once, shared ones excepted. Devices taken with adminAccess take nothing: not the device from
    other claims, nor counters, nor capacity.
    """

    def __init__(self, node: Node, claims: Sequence[ClaimAsk], items: Sequence[Item]) -> None:
        """Start with nothing taken."""
        self.node = node
        self.items = items
        self.used = 0
        """Devices that the ask holds alone, bit mask."""
        self.in_claim = [0] * len(claims)
        """The same by claim, and those with adminAccess."""
        self.results = [0] * len(claims)
        self._left = list(node.left)
        self._consumed: dict[int, dict[str, int]] = {}
        self._shares: dict[int, int] = {}
        self._constraints = [constraints_of(claims, item) for item in items]
        self._agreed: dict[tuple[int, int], list[frozenset[Value]]] = {}
        self._uses = {bit: node.uses(bit) for item in items for bit in bits_of(item.candidates)}
        self._values: dict[tuple[int, str], frozenset[Value] | None] = {}

    def is_free(self, i: int, bit: int) -> bool:
        """Whether nothing of the ask holds a device that request `i` could have alone; always so for shared ones."""
        item = self.items[i]
        if bit in item.takes:
            return True
        held = self.in_claim[item.claim] | (0 if item.sub.admin else self.used)
        return not held >> bit & 1

    def take(self, i: int, bit: int) -> bool:
        """Take a candidate of request `i`; False, with nothing changed, where it is not to be had any more."""
        item = self.items[i]
        if self.results[item.claim] == MAX_RESULTS or not self.is_free(i, bit):
            return False
        takes = not item.sub.admin
        if takes and not self._has_room(item, bit):
            return False
        if not self._agree(i, bit):
            return False
        if takes:
            self._count(item, bit, 1)
        if bit not in item.takes:
            self.in_claim[item.claim] |= 1 << bit
            self.used |= takes << bit
        self.results[item.claim] += 1
        return True

    def give_back(self, i: int, bit: int) -> None:
        """Undo the last `take`, which was of this device for this request."""
        item = self.items[i]
        takes = not item.sub.admin
        self.results[item.claim] -= 1
        if bit not in item.takes:
            self.in_claim[item.claim] &= ~(1 << bit)
            if takes:
                self.used &= ~(1 << bit)
        if takes:
            self._count(item, bit, -1)
        for claim, at, _ in self._constraints[i]:
            self._agreed[claim, at].pop()

    def _has_room(self, item: Item, bit: int) -> bool:
        """Whether counters and capacity are left. Only the first share of a device takes its counters."""
        amounts = item.takes.get(bit)
        if amounts is not None:
            held, ours = self.node.consumed.get(bit, {}), self._consumed.get(bit, {})
            capacity = self.node.layout.devices[bit].capacity
            for name, amount in amounts.items():
                if held.get(name, 0) + ours.get(name, 0) + amount > capacity[name].value:
                    return False
            if self.node.shared >> bit & 1 or self._shares.get(bit):
                return True
        return all(amount <= self._left[counter] for counter, amount in self._uses[bit])

    def _count(self, item: Item, bit: int, sign: int) -> None:
        amounts = item.takes.get(bit)
        if amounts is not None:
            ours = self._consumed.setdefault(bit, {})
            for name in amounts:
                ours[name] = ours.get(name, 0) + sign * amounts[name]
            before = self._shares.get(bit, 0)
            self._shares[bit] = before + sign
            if self.node.shared >> bit & 1 or before + min(sign, 0):
                return
        for counter, used in self._uses[bit]:
            self._left[counter] -= sign * used

    def _agree(self, i: int, bit: int) -> bool:
        """Whether all constraints allow the device; where they do, note what they allow from now on."""
        for done, (claim, at, constraint) in enumerate(self._constraints[i]):
            values = self._value(bit, constraint.attribute)
            agreed = self._agreed.setdefault((claim, at), [])
            if values is not None and agreed:
                if constraint.distinct:
                    values = None if values & agreed[-1] else values | agreed[-1]
                else:
                    values = (values & agreed[-1]) or None
            if values is None:
                for before, position, _ in self._constraints[i][:done]:
                    self._agreed[before, position].pop()
                return False
            agreed.append(values)
        return True

    def _value(self, bit: int, name: str) -> frozenset[Value] | None:
        key = (bit, name)
        if key not in self._values:
            self._values[key] = self.node.attribute(bit, name)
        return self._values[key]


def consumed_by(item: Item, bit: int) -> dict[str, Amount] | None:
    """Return what a request consumes of a device, None where it is not shared."""
    takes = item.takes.get(bit)
    return None if takes is None else dict(takes)
