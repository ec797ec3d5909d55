"""+ - * / % and negation: checked 64-bit integers, doubles, text, lists and time."""

from __future__ import annotations

import math

from kube.cel.errors import SelectorFault
from kube.cel.limits import affordable
from kube.cel.values import INT_MAX, INT_MIN, LISTS, UINT_MAX, Duration, GrowingList, Timestamp, UInt, Value

MIN_TIME, MAX_TIME = -62135596800 * 10**9, 253402300799 * 10**9 + 999_999_999
"""Years 1 to 9999."""


def no_overload(function: str, *args: Value) -> SelectorFault:
    """Return the fault of a function that does not take such values."""
    kinds = ", ".join(type(arg).__name__ for arg in args)
    return SelectorFault(f"no such overload: {function}({kinds})")


def checked_int(value: int) -> int:
    """Return an int. Raises SelectorFault beyond 64 bits."""
    if not INT_MIN <= value <= INT_MAX:
        raise SelectorFault("integer overflow")
    return value


def checked_uint(value: int) -> UInt:
    """Return a uint. Raises SelectorFault beyond 64 bits."""
    if not 0 <= value <= UINT_MAX:
        raise SelectorFault("unsigned integer overflow")
    return UInt(value)


def checked_duration(nanos: int) -> Duration:
    """Return a duration. Raises SelectorFault beyond 64 bits."""
    if not INT_MIN <= nanos <= INT_MAX:
        raise SelectorFault("integer overflow")
    return Duration(nanos)


def checked_timestamp(nanos: int, offset_s: int = 0) -> Timestamp:
    """Return a timestamp. Raises SelectorFault outside of years 1 to 9999."""
    if not MIN_TIME <= nanos <= MAX_TIME:
        raise SelectorFault("timestamp overflow")
    return Timestamp(nanos, offset_s)


def add(one: Value, two: Value) -> Value:
    """Return `one + two`; the growing list of a macro grows in place."""
    kind, other = type(one), type(two)
    if kind in LISTS and other in LISTS:
        affordable(len(one) + len(two))
    if kind is GrowingList and other in LISTS:
        one.extend(tuple(two))
        return one
    if kind is tuple and other is GrowingList:
        return one + tuple(two) if one else two
    if kind is Duration and other is Timestamp:
        return checked_timestamp(one.nanos + two.nanos, two.offset_s)
    if kind is Timestamp and other is Duration:
        return checked_timestamp(one.nanos + two.nanos, one.offset_s)
    if kind is not other:
        raise no_overload("_+_", one, two)
    if kind is int:
        return checked_int(one + two)
    if kind is UInt:
        return checked_uint(int(one) + int(two))
    if kind is Duration:
        return checked_duration(one.nanos + two.nanos)
    if kind in (str, float, bytes, tuple):
        return one + two
    raise no_overload("_+_", one, two)


def subtract(one: Value, two: Value) -> Value:
    """Return `one - two`."""
    kind, other = type(one), type(two)
    if kind is Timestamp and other is Duration:
        return checked_timestamp(one.nanos - two.nanos, one.offset_s)
    if kind is not other:
        raise no_overload("_-_", one, two)
    if kind is int:
        return checked_int(one - two)
    if kind is UInt:
        return checked_uint(int(one) - int(two))
    if kind is float:
        return one - two
    if kind is Duration or kind is Timestamp:
        return checked_duration(one.nanos - two.nanos)
    raise no_overload("_-_", one, two)


def multiply(one: Value, two: Value) -> Value:
    """Return `one * two`."""
    kind = type(one)
    if kind is type(two):
        if kind is int:
            return checked_int(one * two)
        if kind is UInt:
            return checked_uint(int(one) * int(two))
        if kind is float:
            return one * two
    raise no_overload("_*_", one, two)


def divide(one: Value, two: Value) -> Value:
    """Return `one / two`, integers truncated towards zero."""
    kind = type(one)
    if kind is type(two):
        if kind is float:
            return _quotient(one, two)
        if kind is int or kind is UInt:
            if two == 0:
                raise SelectorFault("division by zero")
            whole = abs(int(one)) // abs(int(two))
            return UInt(whole) if kind is UInt else checked_int(whole if (one < 0) == (two < 0) else -whole)
    raise no_overload("_/_", one, two)


def modulo(one: Value, two: Value) -> Value:
    """Return the remainder of the division, with the sign of `one`."""
    kind = type(one)
    if kind is type(two) and (kind is int or kind is UInt):
        if two == 0:
            raise SelectorFault("modulus by zero")
        if kind is int and one == INT_MIN and two == -1:
            raise SelectorFault("integer overflow")
        rest = abs(int(one)) % abs(int(two))
        return UInt(rest) if kind is UInt else (-rest if one < 0 else rest)
    raise no_overload("_%_", one, two)


def negate(value: Value) -> Value:
    """Return `-value`."""
    kind = type(value)
    if kind is int:
        return checked_int(-value)
    if kind is float:
        return -value
    if kind is Duration:
        return checked_duration(-value.nanos)
    raise no_overload("-_", value)


def _quotient(one: float, two: float) -> float:
    if two:
        return one / two
    if one == 0 or math.isnan(one):
        return math.nan
    return math.copysign(math.inf, one) * math.copysign(1, two)
