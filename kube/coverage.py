"""Whether the drivers that we allocate for can serve a request at all; if not, whose devices it wants instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from kube.refusal import Refusal
from kube.resolved import Surroundings, ToAllocate
from kube.selections import RequestSelection, Sieve, SieveFault
from packing.dra.model import ClaimRequest, Pool, SubRequest

_OF_DRIVER = re.compile(
    r"""\s*\(?\s*device\.driver\s*==\s*(["'])(?P<driver>[^"'\\]+)\1\s*\)?\s*(?:&&(?P<rest>.*))?""",
    re.DOTALL,
)
"""An expression that is true of one driver's devices alone, as classes begin."""


def named_driver(expressions: Iterable[str]) -> str:
    """Return the driver that one of the expressions confines all devices to; empty where none does so plainly."""
    for expression in expressions:
        form = _OF_DRIVER.fullmatch(expression)
        rest = form["rest"] or "" if form else ""
        if form and "||" not in rest and "?" not in rest:
            return form["driver"]
    return ""


class Coverage:
    """Refuses claims that no driver of ours can serve. Remembers its answers until pools change."""

    def __init__(self) -> None:
        self._inventory = -1
        self._problems: WeakKeyDictionary[Sieve, dict[bool, tuple[str, str]]] = WeakKeyDictionary()

    def check(self, wanted: ToAllocate, around: Surroundings) -> None:
        """Raise Refusal when a request has no alternative that our drivers can serve."""
        if around.inventory != self._inventory:
            self._problems.clear()
            self._inventory = around.inventory
        for request in wanted.ask.requests:
            self._check_request(wanted, request, around)

    def _check_request(self, wanted: ToAllocate, request: ClaimRequest, around: Surroundings) -> None:
        first: Refusal | None = None
        for alternative in request.alternatives:
            problem, remedy = self._problem(alternative, around)
            if not problem:
                return
            first = first or Refusal(f"claim {wanted.ask.name}, request {alternative.name} {problem}", remedy)
        if first is not None:
            raise first

    def _problem(self, alternative: SubRequest, around: Surroundings) -> tuple[str, str]:
        assert isinstance(alternative.selection, RequestSelection)
        sieve = alternative.selection.sieve
        known = self._problems.setdefault(sieve, {})
        if alternative.all_devices not in known:
            known[alternative.all_devices] = _problem(sieve, around, every=alternative.all_devices)
        return known[alternative.all_devices]


def _problem(sieve: Sieve, around: Surroundings, *, every: bool) -> tuple[str, str]:
    """Return what is wrong and its remedy; two empty texts where nothing is. `every`: all devices are asked for."""
    named = named_driver(sieve.expressions)
    if named and named not in around.drivers:
        return _foreign(named, around)
    served, conditional = _admitted(sieve, around.pools())
    foreign = "" if served and not every else _first_driver(sieve, around.foreign_pools())
    if foreign:
        return _foreign(foreign, around)
    if conditional and not served:
        remedy = "such devices need a scheduler that waits for their conditions: the default one does"
        return f"is for devices with binding conditions ({conditional}), which Dovetail does not allocate", remedy
    return "", ""


def _foreign(driver: str, around: Surroundings) -> tuple[str, str]:
    ours = ", ".join(sorted(around.drivers))
    return (
        f"needs driver {driver}, for which Dovetail does not allocate",
        f"it allocates for {ours}: add --driver {driver}, or leave the pod to another scheduler",
    )


def _admitted(sieve: Sieve, pools: Iterable[Pool]) -> tuple[bool, str]:
    """Return whether a device without binding conditions is admitted, and a device with some, if one was met before.

    A selector that fails is the allocator's to report, with the node's own devices.
    """
    conditional = ""
    for pool in pools:
        mask = _mask(sieve, pool)
        if mask is None:
            return True, ""
        while mask:
            at = (mask & -mask).bit_length() - 1
            mask &= mask - 1
            if not pool.shape.devices[at].binding_conditions:
                return True, conditional
            conditional = conditional or "/".join(pool.device(at))
    return False, conditional


def _first_driver(sieve: Sieve, pools: Iterable[Pool]) -> str:
    return next((pool.driver for pool in pools if _mask(sieve, pool)), "")


def _mask(sieve: Sieve, pool: Pool) -> int | None:
    try:
        return sieve.mask(pool)
    except SieveFault:
        return None
