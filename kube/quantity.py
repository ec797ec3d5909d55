"""Amounts of the Kubernetes API, exact: "1500m", "40Gi" and "1e3" as whole numbers of nano-units, and back.

The rules are those of apimachinery `pkg/api/resource/quantity.go`: what is finer than a nano-unit is rounded up, away
from zero, and binary amounts (Ki to Ei) end at 2^63-1.
"""

from __future__ import annotations

import re
from functools import lru_cache

from packing.dra.model import NANO, Amount
from topology.errors import InvalidInputError

NANO_DIGITS = 9
DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
"""Suffix -> power of ten."""
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
"""Suffix -> power of two."""
OF_POWER = {power: suffix for suffix, power in DECIMAL.items()}
MAX_BINARY = 2**63 - 1
MAX_TEXT = 64
MAX_EXPONENT = 100
"""The API server takes larger ones, which nothing has; here they would be numbers of a thousand million digits."""
REMEMBERED = 4096

_FORM = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:([a-zA-Z]{0,2})|[eE]([+-]?[0-9]+))")


def parse_quantity(quantity: str | float) -> Amount:
    """Return an amount in nano-units. Raises InvalidInputError, which quotes what it was given."""
    return _parsed(quantity if isinstance(quantity, str) else str(quantity))


@lru_cache(maxsize=REMEMBERED)
def _parsed(text: str) -> Amount:
    stripped = text.strip()
    form = _FORM.fullmatch(stripped) if 0 < len(stripped) <= MAX_TEXT else None
    if form is None:
        raise _invalid(text, 'is not of the form "1.5", "500m", "40Gi" or "1e3"')
    sign, whole, fraction, suffix, exponent = form.groups(default="")
    digits = int(f"0{whole}{fraction}")
    amount = _magnitude(text, digits, -len(fraction), suffix, exponent)
    return Amount(-amount if sign == "-" else amount)


def _magnitude(text: str, digits: int, tens: int, suffix: str, exponent: str) -> int:
    """Return digits x 10^tens x suffix in nano-units, rounded up."""
    if suffix in BINARY:
        return min(_rounded_up(digits << BINARY[suffix], tens + NANO_DIGITS), MAX_BINARY * NANO)
    if exponent:
        power = int(exponent)
        if abs(power) > MAX_EXPONENT:
            raise _invalid(text, f"has an exponent beyond {MAX_EXPONENT}")
    elif suffix in DECIMAL:
        power = DECIMAL[suffix]
    else:
        raise _invalid(text, f'ends in "{suffix}": one of {", ".join(filter(None, [*DECIMAL, *BINARY]))} would do')
    return _rounded_up(digits, tens + power + NANO_DIGITS)


def _rounded_up(digits: int, tens: int) -> int:
    """Return digits x 10^tens, up to the next whole number."""
    scale: int = 10 ** abs(tens)
    return digits * scale if tens >= 0 else -(-digits // scale)


def _invalid(text: str, problem: str) -> InvalidInputError:
    return InvalidInputError("quantity", repr(text[:MAX_TEXT]), problem)


def format_quantity(amount: Amount, *, binary: bool = False) -> str:
    """Return the canonical text of an amount: no fraction, and the largest suffix that loses nothing.

    With `binary` the suffix is Ki to Ei, for whole amounts of 1024 and more; others are written as decimals.
    """
    magnitude = abs(amount)
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(magnitude, NANO)
    if binary and not rest and whole >= 1 << BINARY["Ki"]:
        power = min(((whole & -whole).bit_length() - 1) // 10 * 10, BINARY["Ei"])
        suffix = next((name for name, shift in BINARY.items() if shift == power), "")
        return f"{sign}{whole >> power}{suffix}"
    power = -NANO_DIGITS
    while magnitude and magnitude % 1000 == 0:
        magnitude, power = magnitude // 1000, power + 3
    if not magnitude:
        return "0"
    return f"{sign}{magnitude}{OF_POWER.get(power) if power in OF_POWER else f'e{power}'}"
