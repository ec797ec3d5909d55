"""Kubernetes quantities, such as `96`, `96000m`, `1.5Ti`, `2e3`: exact, then rounded down to our units.

Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
Rounding down is the safe side for what a node has.
"""

from __future__ import annotations

import re
from fractions import Fraction

from topology.errors import InvalidInputError

MAX_CHARS = 40
_SUFFIXES = {
    suffix: Fraction(10) ** power for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
}
_SUFFIXES |= {f"{letter}i": Fraction(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i))?", re.ASCII)


def cpu_milli(quantity: float | str, where: str, field: str) -> int:
    """Return a quantity of cores in thousandths of a core; InvalidInputError names `where` and `field`."""
    return int(exact(quantity, where, field) * 1000)


def memory_mib(quantity: float | str, where: str, field: str) -> int:
    """Return a quantity of bytes in MiB; InvalidInputError names `where` and `field`."""
    return int(exact(quantity, where, field) / 2**20)


def exact(quantity: float | str, where: str, field: str) -> Fraction:
    """Return a quantity as it is; InvalidInputError names `where` and `field`."""
    text = str(quantity)
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_CHARS else None
    if match is None:
        raise InvalidInputError(
            where, field, f"{text[:MAX_CHARS]!r} is no quantity; write one such as 96, 96000m or 1Ti"
        )
    number, exponent, suffix = match.groups()
    value = Fraction(number) * (Fraction(10) ** int(exponent) if exponent else _SUFFIXES.get(suffix or "", 1))
    if value >= 2**63:
        raise InvalidInputError(where, field, f"{text!r} is larger than Kubernetes can store (2^63)")
    return value
