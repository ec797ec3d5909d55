"""What the in-tree allocator picks on a node: the first complete solution of its own search, quirks included.

A transcription of kubernetes/dynamic-resource-allocation 1.36.3, `structured/internal/incubating` (the variant that the
defaults of 1.36 choose): claims, requests and alternatives in order, devices as pools list them, combinations within a
request. Where it differs from what the API says, it is followed: counters count against adminAccess, a device taken
with adminAccess is in use for what comes after, `distinctAttribute` remembers one value per request, lists of values
are not compared. Pools are in its order already (`packing.dra.inventory`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packing.dra.amounts import consumed
from packing.dra.ledger import Ledger
from packing.dra.model import MAX_RESULTS, Amount, Ask, Attribute, Constraint, SubRequest
from packing.dra.problem import Node, tolerated
from packing.dra.search import Steps
from packing.dra.translate import bits_of, selected

MAX_STEPS = 100_000
"""Devices tried before the prediction gives up; in-tree has a time-out instead."""


class _TooManyResultsError(Exception):
    """A claim would have more results than it may."""


class _StopError(Exception):
    """In-tree reports an error, which ends the search on this node."""


def first_fit(
    ledger: Ledger, node: int, ask: Ask, steps: Steps | None = None
) -> list[list[tuple[SubRequest, int]]] | None:
    """Return the devices, by bit, that the in-tree allocator gives to each claim on a node; None where it finds none.

    Raises SelectorError, and BoundHitError where that takes too long to tell; `steps` is what a decision has left.
    """
    search = _FirstFit(ledger, node, ask, Steps(MAX_STEPS, steps))
    try:
        found = search.is_possible() and search.allocate(0, 0)
    except (_TooManyResultsError, _StopError):
        return None
    return search.results if found else None


class _Agreement:
    """A constraint of a claim, with what it remembers."""

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        self._devices = 0
        self._value: Attribute | None = None
        self._values: dict[str, Attribute] = {}

    def add(self, request: str, value: Attribute | None) -> bool:
        if value is None:
            return False
        if self._devices and not self._agrees(value):
            return False
        if not self._devices:
            self._value = value
        self._values[request] = value
        self._devices += 1
        return True

    def remove(self, request: str) -> None:
        self._devices -= 1
        self._values.pop(request, None)

    def _agrees(self, value: Attribute) -> bool:
        if self._constraint.distinct:
            return all(not value.is_list and value != other for other in self._values.values())
        return not value.is_list and value == self._value


@dataclass(slots=True)
class _Request:
    """An alternative of a request: its devices in order, and how many of them."""

    sub: SubRequest
    devices: list[int]
    count: int


class _FirstFit:
    """The search on one node."""

    def __init__(self, ledger: Ledger, at: int, ask: Ask, steps: Steps) -> None:
        inventory = ledger.inventory
        self._ledger = ledger
        self._at = at
        self._node = Node.of(inventory.layout(at), inventory.reach[at], ledger.in_use)
        self._claims = ask.claims
        pools = [one.pool for one in self._node.reach]
        self._split = len(set(map(id, pools))) < len(pools)
        """Whether the node has devices of its own in a pool beside others: there twice here, one pool to in-tree."""
        self._requests = [
            [[self._request(sub) for sub in request.alternatives] for request in claim.requests] for claim in ask.claims
        ]
        self._constraints = [
            [(constraint, _Agreement(constraint)) for constraint in claim.constraints] for claim in ask.claims
        ]
        self._alone: dict[int, list[int]] = {}
        """Device -> the claims that take it, shared ones excepted."""
        self._shares: dict[int, list[Mapping[str, Amount]]] = {}
        self._left = list(self._node.left)
        self._pool_counters: dict[int, list[int]] = {}
        for (r, _, _), number in self._node.counter_at.items():
            self._pool_counters.setdefault(r, []).append(number)
        self._steps = steps
        self._counted: list[bool] = []
        """Per device taken, whether its counters were."""
        self.results: list[list[tuple[SubRequest, int]]] = [[] for _ in ask.claims]

    def _request(self, sub: SubRequest) -> _Request:
        layout, reach = self._node.layout, self._node.reach
        devices = [bit for bit in bits_of(selected(layout, reach, sub)) if self._could(sub, bit)]
        if self._split:
            devices.sort(key=self._in_order)
        if not sub.all_devices:
            return _Request(sub, devices, sub.count)
        every = [bit for bit in devices if self._has_capacity(sub, bit, ())]
        return _Request(sub, every, len(every))

    def _in_order(self, bit: int) -> tuple[bool, str, str, int]:
        """Order of a device where a pool is split; binding conditions of any device put the whole pool last."""
        r, at = self._node.layout.place_of(bit)
        pool = self._node.reach[r].pool
        waits = any(
            device.binding_conditions and one.mask >> position & 1
            for one in self._node.reach
            if one.pool is pool
            for position, device in enumerate(pool.shape.devices)
        )
        return waits, pool.driver, pool.name, at

    def _could(self, sub: SubRequest, bit: int) -> bool:
        return consumed(self._node.layout.devices[bit], sub.capacity) is not None

    def is_possible(self) -> bool:
        """Whether in-tree begins to search: nothing asks for all of an unready pool, nor for too many devices."""
        every = any(each.sub.all_devices for claim in self._requests for ways in claim for each in ways)
        if every and self._ledger.inventory.unready[self._at]:
            return False
        least = [sum(min(each.count for each in ways) for ways in claim) for claim in self._requests]
        return max(least, default=0) <= MAX_RESULTS

    def allocate(self, claim: int, request: int) -> bool:
        """Serve a claim from its request on, and the claims after it."""
        if claim == len(self._claims):
            return True
        if request == len(self._requests[claim]):
            try:
                return self.allocate(claim + 1, 0)
            except _TooManyResultsError:
                return False
        ways = self._requests[claim][request]
        if "/" not in ways[0].sub.name:
            return self._serve(claim, request, ways[0], 0, 0)
        exceeded = True
        for way in ways:
            try:
                if self._serve(claim, request, way, 0, 0):
                    return True
            except _TooManyResultsError:
                continue
            exceeded = False
        if exceeded:
            raise _TooManyResultsError
        return False

    def _serve(self, claim: int, request: int, way: _Request, done: int, start: int) -> bool:
        """Give a request its next device, from position `start` of its list on."""
        if way.sub.all_devices and not way.devices:
            return False
        if done >= way.count:
            return self.allocate(claim, request + 1)
        if len(self.results[claim]) + way.count - done > MAX_RESULTS:
            raise _TooManyResultsError
        end = start + 1 if way.sub.all_devices else len(way.devices)
        for at in range(start, end):
            bit = way.devices[at]
            if not self._take(claim, way.sub, bit):
                continue
            try:
                if self._serve(claim, request, way, done + 1, at + 1):
                    return True
            except _TooManyResultsError:
                self._give_back(claim, way.sub, bit)
                raise
            self._give_back(claim, way.sub, bit)
        return False

    def _take(self, claim: int, sub: SubRequest, bit: int) -> bool:
        self._steps.spend()
        device = self._node.layout.devices[bit]
        if not self._may(claim, sub, bit):
            return False
        begun = device.multiple and (bit in self._shares or bool(self._node.consumed.get(bit)))
        counted = bool(device.consumes) and not begun
        if counted and not self._count(bit):
            return False
        if not self._is_tolerated(sub, bit) or not self._agree(claim, sub, bit):
            if counted:
                self._uncount(bit)
            return False
        if not self._has_capacity(sub, bit, self._shares.get(bit, ())):
            self._disagree(claim, sub)
            if counted:
                self._uncount(bit)
            return False
        if device.multiple:
            self._shares.setdefault(bit, []).append(consumed(device, sub.capacity) or {})
        else:
            self._alone.setdefault(bit, []).append(claim)
        self.results[claim].append((sub, bit))
        self._counted.append(counted)
        return True

    def _give_back(self, claim: int, sub: SubRequest, bit: int) -> None:
        self.results[claim].pop()
        if self._node.layout.devices[bit].multiple:
            self._shares[bit].pop()
            if not self._shares[bit]:
                del self._shares[bit]
        else:
            self._alone[bit].pop()
        self._disagree(claim, sub)
        if self._counted.pop():
            self._uncount(bit)

    def _disagree(self, claim: int, sub: SubRequest) -> None:
        """Take a device out of the constraints of its request."""
        for constraint, agreement in self._constraints[claim]:
            if constraint.covers(sub.name):
                agreement.remove(sub.name.partition("/")[0])

    def _may(self, claim: int, sub: SubRequest, bit: int) -> bool:
        if sub.admin:
            return claim not in self._alone.get(bit, ())
        return not self._node.taken >> bit & 1 and not self._alone.get(bit)

    def _is_tolerated(self, sub: SubRequest, bit: int) -> bool:
        r, at = self._node.layout.place_of(bit)
        return tolerated(self._node.reach[r].pool.tainted.get(at, ()), sub.tolerations)

    def _has_capacity(self, sub: SubRequest, bit: int, ours: Sequence[Mapping[str, Amount]]) -> bool:
        device = self._node.layout.devices[bit]
        amounts, held = consumed(device, sub.capacity), self._node.consumed.get(bit, {})
        assert amounts is not None
        return all(
            held.get(name, 0) + amount + sum(share.get(name, 0) for share in ours) <= device.capacity[name].value
            for name, amount in amounts.items()
        )

    def _count(self, bit: int) -> bool:
        """Take the counters of a device; like in-tree, refuse where any counter of the pool is overdrawn then."""
        for counter, amount in self._node.uses(bit):
            self._left[counter] -= amount
        r, _ = self._node.layout.place_of(bit)
        if all(self._left[counter] >= 0 for counter in self._pool_counters.get(r, ())):
            return True
        self._uncount(bit)
        return False

    def _uncount(self, bit: int) -> None:
        for counter, amount in self._node.uses(bit):
            self._left[counter] += amount

    def _agree(self, claim: int, sub: SubRequest, bit: int) -> bool:
        r, at = self._node.layout.place_of(bit)
        base = sub.name.partition("/")[0]
        added: list[_Agreement] = []
        for constraint, agreement in self._constraints[claim]:
            if not constraint.covers(sub.name):
                continue
            if not agreement.add(base, self._node.reach[r].pool.attribute(at, constraint.attribute)):
                for before in reversed(added):
                    before.remove(base)
                if sub.all_devices:
                    raise _StopError
                return False
            added.append(agreement)
        return True
