"""What allocated claims hold, device by device: taken devices, consumed capacity of shared ones, counters of pools.

Follows claims one by one, by UID: a claim seen twice counts once, one seen with other results replaces what it held,
one that is unknown is removed without harm. Nothing is refused: two claims on one device are both taken up, and the
device is free again when both are gone. Devices need not be known; counters are reckoned for the pool that is asked
about. Results with adminAccess take nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache

from packing.dra.model import Amount, ClaimUid, DeviceId, Given, Pool, PoolShape, Reach

CounterName = tuple[str, str]
"""Counter set, counter."""


@lru_cache(maxsize=4096)
def positions(shape: PoolShape) -> Mapping[str, int]:
    """Return where each device stands in a shape, by name."""
    return {device.name: at for at, device in enumerate(shape.devices)}


class PoolUse:
    """What is held of one pool, by device name. `version` changes with it."""

    __slots__ = ("_content", "_counted", "_counters", "_known", "_shape", "consumed", "shares", "taken", "version")

    def __init__(self) -> None:
        """Start with nothing held."""
        self.version = 0
        self.taken: Counter[str] = Counter()
        """Claims that hold the device alone: more than one where allocators fell over each other."""
        self.shares: Counter[str] = Counter()
        """Results that hold a share of the device."""
        self.consumed: dict[str, dict[str, Amount]] = {}
        """Amounts by qualified name of capacity, over all shares of the device."""
        self._counters: Mapping[CounterName, Amount] = {}
        self._counted = -1
        self._content: Hashable = (frozenset(), ())
        self._known = 0
        self._shape: PoolShape | None = None

    def take(self, given: Given, sign: int, version: int) -> None:
        """Count a result in (`sign` 1) or out (-1)."""
        self.version = version
        name = given.device.name
        holders = self.taken if given.consumed is None else self.shares
        holders[name] += sign
        if holders[name] == 0:
            del holders[name]
        if not given.consumed:
            return
        total = self.consumed.setdefault(name, {})
        for capacity, amount in given.consumed.items():
            total[capacity] = Amount(total.get(capacity, 0) + sign * amount)
        if name not in self.shares:
            del self.consumed[name]

    def content(self) -> Hashable:
        """Return what is held, equal for pools of which the same is held."""
        if self._known != self.version:
            amounts = tuple((name, tuple(sorted(self.consumed.get(name, {}).items()))) for name in sorted(self.shares))
            self._content, self._known = (frozenset(self.taken), amounts), self.version
        return self._content

    def counters(self, shape: PoolShape) -> Mapping[CounterName, Amount]:
        """Return how much of each counter allocated devices consume; a device counts once however many hold it."""
        if self._shape is not shape or self._counted != self.version:
            used: dict[CounterName, Amount] = {}
            at = positions(shape)
            for held in {*self.taken, *self.shares} & at.keys():
                for use in shape.devices[at[held]].consumes:
                    name = (use.counter_set, use.counter)
                    used[name] = Amount(used.get(name, 0) + use.amount)
            self._counters, self._shape, self._counted = used, shape, self.version
        return self._counters


NO_USE = PoolUse()


class InUse:
    """What all claims hold. Every change of a pool gives it a version of its own, the number of the change."""

    def __init__(self) -> None:
        """Start without claims."""
        self.claims: dict[ClaimUid, tuple[Given, ...]] = {}
        self._pools: dict[tuple[str, str], PoolUse] = {}
        self._events = 0

    def add(self, claim: ClaimUid, results: Iterable[Given]) -> bool:
        """Take up what `claim` holds, in place of what it held before; False where nothing changes."""
        results = tuple(results)
        if self.claims.get(claim) == results:
            return False
        self.remove(claim)
        self.claims[claim] = results
        self._count(results, 1)
        return True

    def remove(self, claim: ClaimUid) -> bool:
        """Forget a claim; False where it is not known."""
        results = self.claims.pop(claim, None)
        if results is None:
            return False
        self._count(results, -1)
        return True

    def pool(self, pool: Pool) -> PoolUse:
        """Return what is held of a pool; not to be changed."""
        return self._pools.get((pool.driver, pool.name), NO_USE)

    def version(self, reach: Iterable[Reach]) -> int:
        """Return a number that grows with every change of what is held of these pools."""
        return max((self.pool(one.pool).version for one in reach), default=0)

    def holders(self, device: DeviceId) -> tuple[ClaimUid, ...]:
        """Return the claims that hold a device or a share of it, in the order they came. Looks at all claims."""
        return tuple(
            claim
            for claim, results in self.claims.items()
            if any(given.device == device and not given.admin for given in results)
        )

    def copy(self) -> InUse:
        """Return an independent copy."""
        twin = InUse()
        for claim, results in self.claims.items():
            twin.add(claim, results)
        return twin

    def _count(self, results: tuple[Given, ...], sign: int) -> None:
        for given in results:
            if given.admin:
                continue
            self._events += 1
            driver, name, _ = given.device
            self._pools.setdefault((driver, name), PoolUse()).take(given, sign, self._events)
