"""Equality and order of values (cel-go common/types). Numbers compare across their types."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from kube.cel.errors import CostExceeded, SelectorFault
from kube.cel.types import Type
from kube.cel.values import LISTS, Duration, Map, Optional, Timestamp, UInt, Value

_NUMBERS = frozenset({int, UInt, float})
_ORDERED = frozenset({bool, str, bytes, Duration})
_OWN: dict[type, Callable[[Value, Value], bool]] = {}
MAX_PAIRS = 1_000_000
_2_63, _2_64 = float(2**63), float(2**64)


def register_equality(kind: type, equal_to: Callable[[Value, Value], bool]) -> None:
    """Say how values of a class compare; the function may raise SelectorFault for those of another class."""
    _OWN[kind] = equal_to


def equal(one: Value, two: Value) -> bool:
    """Whether two values are equal. Raises SelectorFault where the type of `one` refuses that of `two`."""
    kind = type(one)
    if one is None or two is None:
        return one is two
    if kind is str or kind is bool or kind is bytes or kind is Duration:
        return type(two) is kind and bool(one == two)
    if kind in _NUMBERS:
        return type(two) in _NUMBERS and _number_order(one, two) == 0
    if kind in LISTS:
        return type(two) in LISTS and len(one) == len(two) and _lists_equal(one, two)
    if isinstance(one, Map):
        return isinstance(two, Map) and _maps_equal(one, two)
    if kind is Timestamp:
        return type(two) is Timestamp and one.nanos == two.nanos
    if kind is Optional:
        return type(two) is Optional and len(one.held) == len(two.held) and all(map(equal, one.held, two.held))
    if kind is Type:
        return type(two) is Type and one.name == two.name
    return _OWN[kind](one, two)


def alike(one: Value, two: Value) -> bool:
    """Whether two values are equal; where they cannot be compared, they are not."""
    try:
        return equal(one, two)
    except CostExceeded:
        raise
    except SelectorFault:
        return False


def contains(values: Iterable[Value], wanted: Value) -> bool:
    """Whether a list has a value."""
    return any(alike(wanted, value) for value in values)


def _lists_equal(one: Sequence[Value], two: Sequence[Value]) -> bool:
    """Compare lists of one length. They may share parts without end: more pairs than the cost limit are too many."""
    pairs = list(zip(one, two, strict=True))
    visited = 0
    while pairs:
        visited += 1
        if visited > MAX_PAIRS:
            raise CostExceeded(f"lists of more than {MAX_PAIRS} elements are compared")
        left, right = pairs.pop()
        if type(left) in LISTS and type(right) in LISTS:
            if len(left) != len(right):
                return False
            pairs.extend(zip(left, right, strict=True))
        elif not _not_unequal(left, right):
            return False
    return True


def _not_unequal(one: Value, two: Value) -> bool:
    """Compare inside lists and maps, where cel-go takes "cannot be compared" for equal."""
    try:
        return equal(one, two)
    except CostExceeded:
        raise
    except SelectorFault:
        return True


def _maps_equal(one: Map, two: Map) -> bool:
    if len(one) != len(two):
        return False
    for key, value in one.items():
        other = two.find(key)
        if other is None:
            if not two.total:
                return False
            other = (key, Map())
        if not _not_unequal(value, other[1]):
            return False
    return True


def order(one: Value, two: Value) -> int:
    """Return -1, 0 or 1. Raises SelectorFault for values without an order."""
    kind = type(one)
    if kind in _NUMBERS and type(two) in _NUMBERS:
        found = _number_order(one, two)
        if found is None:
            raise SelectorFault("NaN values cannot be ordered")
        return found
    if kind in _ORDERED and type(two) is kind:
        return int(one > two) - int(one < two) if kind is not str else _text_order(one, two)
    if kind is Timestamp and type(two) is Timestamp:
        return int(one.nanos > two.nanos) - int(one.nanos < two.nanos)
    raise SelectorFault(f"no such overload: {kind.__name__} and {type(two).__name__} have no order")


def is_ordered(value: Value) -> bool:
    """Whether a value's type has an order."""
    kind = type(value)
    return kind in _NUMBERS or kind in _ORDERED or kind is Timestamp


def _text_order(one: str, two: str) -> int:
    """Order by code points, which is the order of the bytes of UTF-8."""
    return int(one > two) - int(one < two)


def _number_order(one: Value, two: Value) -> int | None:
    """Compare as cel-go does: an integer beside a double loses its low bits. None for NaN."""
    if type(one) is float:
        if math.isnan(one):
            return None
        if type(two) is not float:
            return _double_to_integer(one, two)
        if math.isnan(two):
            return None
    elif type(two) is float:
        return None if math.isnan(two) else -_double_to_integer(two, one)
    return int(one > two) - int(one < two)


def _double_to_integer(double: float, integer: int) -> int:
    low, high = (0.0, _2_64) if type(integer) is UInt else (-_2_63, _2_63)
    if double < low:
        return -1
    if double > high:
        return 1
    other = float(integer)
    return int(double > other) - int(double < other)
