"""Amounts written on the command line: of what a pod asks for, so rounded up and never understated.

What does not parse is wrong usage; what parses and means nothing is bad input.
"""

from __future__ import annotations

import math
from fractions import Fraction

import typer

from topology.errors import InvalidInputError

MOST_CORES = 1_000_000_000
MOST_MIB = 1_000_000_000_000
MIB = 1 << 20


def cores_milli(text: str, option: str) -> int:
    """Return cores in thousandths, rounded up."""
    milli = math.ceil(_exact(text, option) * 1000)
    if milli > MOST_CORES * 1000:
        raise InvalidInputError(option, "", f"{text!r} is more than {MOST_CORES} cores")
    return milli


def memory_mib(text: str, option: str) -> int:
    """Return memory in MiB, rounded up."""
    mib = math.ceil(_exact(text, option) / MIB)
    if mib > MOST_MIB:
        raise InvalidInputError(option, "", f"{text!r} is more than {MOST_MIB}Mi")
    return mib


def check_gbps(gbps: float, option: str = "--min-gbps") -> None:
    """Refuse what no set quality can be: it is kept in whole MB/s."""
    from packing.model import LEAST_GBPS, MOST_GBPS

    if gbps and not LEAST_GBPS <= gbps <= MOST_GBPS:
        raise InvalidInputError(option, "", f"{gbps:g} is not 0, nor from {LEAST_GBPS:g} to {MOST_GBPS} GB/s")


def _exact(text: str, option: str) -> Fraction:
    from simulator.inputs.quantity import exact

    try:
        return exact(text, option, "")
    except InvalidInputError as error:
        if "is no quantity" in error.problem:
            raise typer.BadParameter(error.problem, param_hint=option) from error
        raise
