"""Which devices the selectors of a class and a request admit: bit masks over pools, each found out once.

Expressions are looked at in their order, and each only on devices that those before it admit: so does the API server,
and a selector may rely on it. What is found out holds for all pools of a shape, unless an expression reads attributes
that each pool has of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

from kube.cel import Selector, SelectorFault
from kube.cel import compile as compile_selector
from kube.devices import OWN
from packing.dra.model import Amount, Attribute, DeviceId, DeviceShape, Pool, PoolShape, SelectorError

KEPT_SIEVES = 512
"""Distinct chains of expressions that are remembered. Each holds a mask per pool shape, at worst one per pool."""
MAX_QUOTED = 200
"""Characters of an expression in a message; it may have 10 KiB."""


class Fault(NamedTuple):
    """Expression `step` of a chain failed on the device at a position."""

    step: int
    at: int
    text: str


class SieveFault(Exception):  # noqa: N818 - carries a Fault
    """A chain of expressions failed on a device of a pool."""

    def __init__(self, fault: Fault, device: DeviceId) -> None:
        super().__init__(fault.text)
        self.fault = fault
        self.device = device


class Sieve:
    """A chain of expressions: those of `parent`, then one more. The chain without any admits every device."""

    def __init__(self, parent: Sieve | None = None, expression: str = "") -> None:
        self.parent = parent
        self.expressions: tuple[str, ...] = () if parent is None else (*parent.expressions, expression)
        self._selector: Selector | None = None if parent is None else compile_selector(expression)
        self._reads = None if self._selector is None else self._selector.reads
        self._of_shape: WeakKeyDictionary[PoolShape, int | Fault] = WeakKeyDictionary()
        self._of_pool: WeakKeyDictionary[Pool, int | Fault] = WeakKeyDictionary()
        reads_own = self._reads is None or any(name.rpartition("/")[2] in OWN for name in self._reads)
        self.by_shape: bool = parent is None or (parent.by_shape and not reads_own)
        """Whether no expression reads what pools have of their own, as far as names tell (`kube.devices.OWN`)."""

    def mask(self, pool: Pool) -> int:
        """Return the devices that pass, bit per position. Raises SieveFault."""
        known: int | Fault | None = self._of_shape.get(pool.shape)
        if known is None:
            known = self._look(pool)
        if isinstance(known, Fault):
            raise SieveFault(known, pool.device(known.at))
        return known

    def varies(self, shape: PoolShape) -> bool:
        """Whether pools of a shape may differ in what passes, since an expression reads what each has of its own."""
        if self.parent is None or not shape.own:
            return False
        reads_own = self._reads is None or not shape.own.isdisjoint(self._reads)
        return reads_own or self.parent.varies(shape)

    def _look(self, pool: Pool) -> int | Fault:
        if not self.varies(pool.shape):
            found = self._of_shape[pool.shape] = self._sift(pool)
            return found
        known = self._of_pool.get(pool)
        if known is None:
            known = self._of_pool[pool] = self._sift(pool)
        return known

    def _sift(self, pool: Pool) -> int | Fault:
        """Look at every device; those alike in all that the expression reads are looked at once."""
        if self.parent is None:
            return (1 << len(pool.shape.devices)) - 1
        try:
            left = self.parent.mask(pool)
        except SieveFault as fault:
            return fault.fault
        passed, known = 0, dict[object, bool]()
        while left:
            at = (left & -left).bit_length() - 1
            left &= left - 1
            key = self._what_is_read(pool, at)
            verdict = None if key is None else known.get(key)
            if verdict is None:
                try:
                    verdict = self._passes(pool, at)
                except SelectorFault as fault:
                    return Fault(len(self.expressions) - 1, at, str(fault))
                known[key] = verdict
            passed |= verdict << at
        return passed

    def _what_is_read(self, pool: Pool, at: int) -> object:
        """Return all that the expression may read of a device; None where that is not known."""
        if self._reads is None:
            return None
        device = pool.shape.devices[at]
        attributes = [pool.attribute(at, name) for name in self._reads]
        return (device.multiple, *attributes, *(_amount(device, pool.driver, name) for name in self._reads))

    def _passes(self, pool: Pool, at: int) -> bool:
        """Ask the expression, and show it no more than it may read: most of the time would go into the rest."""
        assert self._selector is not None
        device, own = pool.shape.devices[at], pool.identity[at]
        reads = self._reads
        attributes: Mapping[str, Attribute] = {**device.attributes, **own} if own else device.attributes
        if reads is not None:
            attributes = {name: attributes[name] for name in reads if name in attributes}
        capacity = {
            qualified: each.value
            for name, each in device.capacity.items()
            if (qualified := name if "/" in name else f"{pool.driver}/{name}") and (reads is None or qualified in reads)
        }
        return self._selector.matches(pool.driver, attributes, capacity, device.multiple)


def _amount(device: DeviceShape, driver: str, name: str) -> Amount | None:
    """Return a capacity by its qualified name, under which it may be published or without the driver's domain."""
    domain, _, own = name.rpartition("/")
    capacity = device.capacity.get(name) or (device.capacity.get(own) if domain == driver else None)
    return None if capacity is None else capacity.value


class Sieves:
    """Chains of expressions, made once each. The only state: what was found out about pools, which is never stale."""

    def __init__(self, kept: int = KEPT_SIEVES) -> None:
        self._of = lru_cache(maxsize=kept)(self._make)

    def of(self, expressions: tuple[str, ...]) -> Sieve:
        """Return the chain of expressions. Raises SelectorSyntaxError."""
        return self._of(expressions)

    def _make(self, expressions: tuple[str, ...]) -> Sieve:
        if not expressions:
            return Sieve()
        return Sieve(self._of(expressions[:-1]), expressions[-1])


@dataclass(frozen=True, slots=True)
class RequestSelection:
    """The devices that a request admits: the selectors of its class, then its own. Implements `Selection`."""

    sieve: Sieve
    device_class: str
    of_class: int
    """How many of the expressions are the class's."""
    request: str
    """`claim ns/name, request name`, for messages."""

    @property
    def by_shape(self) -> bool:
        """Whether no pool is told from others of its shape."""
        return self.sieve.by_shape

    def mask(self, pool: Pool) -> int:
        """Return the devices admitted, bit per position. Raises SelectorError."""
        try:
            return self.sieve.mask(pool)
        except SieveFault as failed:
            raise SelectorError(self._tell(failed)) from failed

    def _tell(self, failed: SieveFault) -> str:
        step = failed.fault.step
        by_class = step < self.of_class
        whose = f"class {self.device_class}" if by_class else self.request
        number = step if by_class else step - self.of_class
        device = "/".join(failed.device)
        expression = quoted(self.sieve.expressions[step])
        return f"{whose}: selector {number} {expression} failed on device {device}: {failed.fault.text}"


def quoted(expression: str) -> str:
    """Return an expression on one line, shortened for a message."""
    line = " ".join(expression.split())
    return f"`{line if len(line) <= MAX_QUOTED else line[: MAX_QUOTED - 1] + '…'}`"
