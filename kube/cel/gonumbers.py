"""Doubles as Go writes them."""

from __future__ import annotations

import math
from decimal import Decimal


def double_text(value: float) -> str:
    """Return what `%g` prints: the shortest digits, with an exponent below 1e-4 and from 1e6 on."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    power = len(digits) + exponent - 1 if any(digits) else 0
    minus = "-" if sign else ""
    if -4 <= power < 6:
        return minus + (fixed_text(abs(value)))
    head = shown[0] + ("." + shown[1:] if len(shown) > 1 else "")
    return f"{minus}{head}e{'-' if power < 0 else '+'}{abs(power):02d}"


def fixed_text(value: float) -> str:
    """Return the shortest digits without an exponent: `strconv.FormatFloat(value, 'f', -1, 64)`."""
    if not math.isfinite(value):
        return double_text(value)
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
