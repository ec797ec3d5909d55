"""Quantities, with the two representations that Kubernetes keeps them in, since asInteger() depends on it.

A quantity is `value * 10^scale` with a 64-bit value, or, where that does not hold what was written, a decimal of any
size (apimachinery pkg/api/resource).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from kube.cel.compare import register_equality
from kube.cel.errors import SelectorFault
from kube.cel.types import QUANTITY
from kube.cel.values import INT_MAX, INT_MIN, KubernetesValue, Value, register

_NUMBER = re.compile(r"([+-]?)0*([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*)([+-]?[0-9]*)")
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_DIGITS = 18
MAX_TEXT = 4000
"""Longest text that is taken for a quantity: Python refuses to read longer numbers."""


@dataclass(frozen=True, slots=True)
class Quantity(KubernetesValue):
    """`value * 10^scale`. `decimal`: kept as a decimal. `computed`: by add() or sub()."""

    value: int
    scale: int = 0
    decimal: bool = False
    computed: bool = False


@lru_cache(maxsize=4096)
def of_nano(nano: int) -> Quantity:
    """Return the quantity of nano-units as the API server writes it: in the largest unit that is exact."""
    scale = -9
    while scale < 0 and nano % 1000 == 0:
        nano, scale = nano // 1000, scale + 3
    return Quantity(nano, scale, decimal=not INT_MIN <= nano <= INT_MAX)


def parse(text: str) -> Quantity:
    """Read a quantity. Raises SelectorFault."""
    found = _NUMBER.fullmatch(text) if len(text) <= MAX_TEXT else None
    if not text or found is None:
        raise SelectorFault(f"{text!r} is not a quantity")
    sign, whole, fraction = found[1], found[2] or "0", found[3] or ""
    suffix = found[4] + found[5]
    base, exponent = _suffix(suffix, text)
    if (fast := _fast(whole, fraction, base, exponent)) is not None:
        return Quantity(-fast.value if sign == "-" else fast.value, fast.scale)
    if not re.search("[0-9]", text[: found.start(4)]):
        raise SelectorFault(f"{text!r} is not a quantity")
    return _slow(int(sign + whole + fraction), len(fraction), base, exponent)


def _suffix(suffix: str, text: str) -> tuple[int, int]:
    if suffix in _BINARY:
        return 2, _BINARY[suffix]
    if suffix in _DECIMAL:
        return 10, _DECIMAL[suffix]
    if (found := _EXPONENT.fullmatch(suffix)) is not None and INT_MIN <= int(found[1]) <= INT_MAX:
        return 10, int(found[1])
    raise SelectorFault(f"{text!r} is not a quantity: unknown suffix {suffix!r}")


def _fast(whole: str, fraction: str, base: int, exponent: int) -> Quantity | None:
    """Return what fits 64 bits without doubt, by the digits that were written."""
    if base == 10:
        mantissa, scale, spare = 1, exponent, _DIGITS - len(whole) - len(fraction)
    elif not fraction:
        mantissa, scale, spare = 1 << exponent, 0, 15 - len(whole) - exponent * 3 // 10 - 1
    else:
        return None
    scale -= len(fraction)
    value = int(whole + fraction) * mantissa
    return Quantity(value, scale) if spare >= 0 and scale >= -9 and value <= INT_MAX else None


def _slow(unscaled: int, places: int, base: int, exponent: int) -> Quantity:
    """Return a decimal, rounded up (away from zero) to nano-units; binary ones are capped at 64 bits."""
    if unscaled == 0:
        return Quantity(0, 0, decimal=True)
    if base == 2:
        unscaled <<= exponent
    else:
        places -= exponent
    if places < -1000:
        raise SelectorFault("quantity is too large")
    sign = -1 if unscaled < 0 else 1
    shift = 9 - places
    nano = abs(unscaled) * 10**shift if shift >= 0 else -(-abs(unscaled) // 10 ** min(-shift, 400))
    if base == 2 and nano > INT_MAX * 10**9:
        return Quantity(sign * INT_MAX, 0, decimal=True)
    return Quantity(sign * nano, -9, decimal=True)


def _compare(one: Quantity, two: Quantity) -> int:
    left, right, _ = _aligned(one, two)
    return int(left > right) - int(left < right)


def _aligned(one: Quantity, two: Quantity) -> tuple[int, int, int]:
    scale = min(one.scale, two.scale)
    return one.value * 10 ** (one.scale - scale), two.value * 10 ** (two.scale - scale), scale


def _add(one: Quantity, two: Quantity | int) -> Quantity:
    other = Quantity(two) if type(two) is int else two
    assert isinstance(other, Quantity)
    if not one.decimal and not other.decimal:
        if other.value == 0:
            return Quantity(one.value, one.scale, computed=True)
        if one.value == 0:
            return Quantity(other.value, other.scale, computed=True)
        left, right, scale = _aligned(one, other)
        if all(INT_MIN < value <= INT_MAX for value in (left, right, left + right)):
            return Quantity(left + right, scale, computed=True)
    left, right, scale = _aligned(one, other)
    return Quantity(left + right, scale, decimal=True, computed=True)


def _subtract(one: Quantity, two: Quantity | int) -> Quantity:
    other = Quantity(two) if type(two) is int else two
    assert isinstance(other, Quantity)
    return _add(one, Quantity(-other.value, other.scale, other.decimal))


def _whole(quantity: Quantity) -> int | None:
    if quantity.decimal or quantity.scale < 0:
        return None
    value = quantity.value * 10**quantity.scale
    return value if INT_MIN <= value <= INT_MAX else None


def _as_integer(quantity: Quantity) -> int:
    found = _whole(quantity)
    if found is None:
        raise SelectorFault("cannot convert value to integer")
    return found


def _as_double(quantity: Quantity) -> float:
    try:
        base = float(quantity.value)
    except OverflowError:
        base = math.copysign(math.inf, quantity.value)
    if quantity.scale == 0:
        return base
    return base * float(f"1e{quantity.scale}") if quantity.scale <= 308 else base * math.inf


def _is_quantity(text: str) -> bool:
    try:
        parse(text)
    except SelectorFault:
        return False
    return True


def _equal(one: Value, two: Value) -> bool:
    """Compare as Kubernetes does, whose == does not know a computed quantity on its right side."""
    if type(two) is not Quantity or two.computed:
        raise SelectorFault("no such overload: == of a quantity and something else")
    return _compare(one, two) == 0


register(Quantity, QUANTITY)
register_equality(Quantity, _equal)

BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    "string_to_quantity": parse,
    "is_quantity_string": _is_quantity,
    "quantity_sign": lambda quantity: (quantity.value > 0) - (quantity.value < 0),
    "quantity_is_greater_than": lambda one, two: _compare(one, two) > 0,
    "quantity_is_less_than": lambda one, two: _compare(one, two) < 0,
    "quantity_compare_to": _compare,
    "quantity_get_float": _as_double,
    "quantity_get_int": _as_integer,
    "quantity_is_integer": lambda quantity: _whole(quantity) is not None,
    "quantity_add": _add,
    "quantity_add_int": _add,
    "quantity_sub": _subtract,
    "quantity_sub_int": _subtract,
}
