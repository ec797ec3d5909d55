"""Smaller or other claims that might fit where one does not: candidates, which the allocator has yet to prove."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace as with_fields

from kube.linkwish import API_VERSION, CONFIG_DRIVER, KIND
from kube.objects import (
    CapacityRequirements,
    DeviceClaim,
    DeviceClaimConfiguration,
    DeviceSubRequest,
    DeviceToleration,
    ExactDeviceRequest,
    OpaqueDeviceConfiguration,
    ResourceClaim,
)
from kube.quantity import format_quantity, parse_quantity
from kube.requests import EXACT
from packing.dra.model import Amount, ClaimAsk, PoolShape, SubRequest, Taint
from packing.model import LinkWish

_LITERAL = re.compile(r'"([^"\\]*)"|\'([^\'\\]*)\'')
MOST_OTHERS = 6
"""Profiles, amounts and taints tried of one request."""
PROFILE = "profile"

Specific = ExactDeviceRequest | DeviceSubRequest


class Kind(StrEnum):
    """What is changed, least first."""

    NODE = "node"
    LINK = "link"
    CONSTRAINT = "constraint"
    CAPACITY = "capacity"
    PROFILE = "profile"
    COUNT = "count"
    TOLERATION = "toleration"
    SELECTOR = "selector"
    FREE = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A claim changed in one place. `rungs`: of those with an equal one, only the first that fits matters."""

    kind: Kind
    text: str
    claim: ResourceClaim
    rungs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What there is to ask for: taints and amounts left of what the requests select, profiles that pools have."""

    taints: tuple[Taint, ...] = ()
    left: Callable[[str], list[Amount]] = lambda _: []
    """Capacity by name -> what shared devices have left of it, most first."""
    profiles: tuple[str, ...] = ()
    """Of partitions, the largest first."""


def profiles_of(shapes: Iterable[PoolShape]) -> tuple[str, ...]:
    """Return the profiles that partitions have, the largest first: by memory, by multiprocessors, then by name."""
    sizes: dict[str, tuple[int, ...]] = {}
    for shape in shapes:
        for device in shape.devices:
            if device.part is not None and device.part.profile:
                amounts = (device.capacity.get(name) for name in ("memory", "multiprocessors"))
                sizes[device.part.profile] = tuple(-each.value if each else 0 for each in amounts)
    return tuple(sorted(sizes, key=lambda name: (sizes[name], name)))


def changes(claim: ResourceClaim, ask: ClaimAsk, around: Around) -> Iterator[Change]:
    """Yield changes of a claim, the least first within a rung."""
    name = f"claim {ask.name}"
    yield from _links(claim, ask, name)
    for at, constraint in enumerate(claim.spec.devices.constraints):
        kind = "matchAttribute" if constraint.match_attribute is not None else "distinctAttribute"
        what = f"drop {kind} {constraint.match_attribute or constraint.distinct_attribute} of {name}"
        rest = _without(claim.spec.devices.constraints, at)
        yield _change(Kind.CONSTRAINT, what, claim, f"constraint {at}", constraints=rest)
    for at, request in enumerate(claim.spec.devices.requests):
        if request.exactly is not None:
            yield from _of_request(_Slot(claim, at, None, request.exactly, f"request {request.name} of {name}"), around)
        for position, sub in enumerate(request.first_available):
            where = f"request {request.name}/{sub.name} of {name}"
            yield from _of_request(_Slot(claim, at, position, sub, where), around)


@dataclass(frozen=True, slots=True)
class _Slot:
    """A request or one of its alternatives."""

    claim: ResourceClaim
    at: int
    sub: int | None
    request: Specific
    where: str

    def changed(self, kind: Kind, text: str, rungs: str, **fields: object) -> Change:
        """Return the claim with other fields in this request."""
        request = self.claim.spec.devices.requests[self.at]
        specific = with_fields(self.request, **fields)
        if self.sub is None:
            request = with_fields(request, exactly=specific)
        else:
            others = request.first_available
            request = with_fields(request, first_available=(*others[: self.sub], specific, *others[self.sub + 1 :]))
        requests = self.claim.spec.devices.requests
        changed = (*requests[: self.at], request, *requests[self.at + 1 :])
        return _change(kind, text, self.claim, f"{rungs} {self.where}", requests=changed)


def _of_request(slot: _Slot, around: Around) -> Iterator[Change]:
    yield from _capacities(slot, around)
    yield from _profiles(slot, around)
    request = slot.request
    if request.allocation_mode == EXACT:
        for count in range(request.count - 1, 0, -1):
            text = f"ask {count} {'device' if count == 1 else 'devices'} instead of {request.count} in {slot.where}"
            yield slot.changed(Kind.COUNT, text, "count", count=count)
    for taint in around.taints[:MOST_OTHERS]:
        toleration = DeviceToleration(key=taint.key, operator="Exists", effect=taint.effect)
        text = f"tolerate the taint {taint.key}:{taint.effect} in {slot.where}"
        more = (*request.tolerations, toleration)
        yield slot.changed(Kind.TOLERATION, text, f"taint {taint.key}:{taint.effect}", tolerations=more)
    for at, selector in enumerate(request.selectors):
        expression = " ".join(selector.cel.expression.split()) if selector.cel else ""
        shown = expression if len(expression) <= 80 else f"{expression[:79]}…"
        text = f"drop selector {at} `{shown}` of {slot.where}"
        yield slot.changed(Kind.SELECTOR, text, f"selector {at}", selectors=_without(request.selectors, at))


def _capacities(slot: _Slot, around: Around) -> Iterator[Change]:
    asked = slot.request.capacity.requests if slot.request.capacity is not None else {}
    for name, quantity in asked.items():
        wanted = parse_quantity(quantity)
        for amount in [left for left in around.left(name) if 0 < left < wanted][:MOST_OTHERS]:
            shown = format_quantity(amount, binary=True)
            text = f"ask {name} {shown} instead of {quantity} in {slot.where}"
            less = CapacityRequirements(requests={**asked, name: shown})
            yield slot.changed(Kind.CAPACITY, text, f"capacity {name}", capacity=less)


def _profiles(slot: _Slot, around: Around) -> Iterator[Change]:
    """Yield smaller profiles in place of one that a selector names."""
    for at, selector in enumerate(slot.request.selectors):
        expression = selector.cel.expression if selector.cel is not None else ""
        named = next((each for each in map(_text, _LITERAL.finditer(expression)) if each in around.profiles), None)
        if named is None or selector.cel is None:
            continue
        smaller = around.profiles[around.profiles.index(named) + 1 :]
        for profile in smaller[:MOST_OTHERS]:
            other = _replaced(expression, named, profile)
            new = with_fields(selector, cel=with_fields(selector.cel, expression=other))
            selectors = (*slot.request.selectors[:at], new, *slot.request.selectors[at + 1 :])
            text = f"ask {profile} instead of {named} in {slot.where}"
            yield slot.changed(Kind.PROFILE, text, "profile", selectors=selectors)


def _links(claim: ResourceClaim, ask: ClaimAsk, name: str) -> Iterator[Change]:
    """Yield weaker wishes for links, said last so that they count."""
    for request in ask.requests:
        for sub in request.alternatives:
            if sub.link is not LinkWish.REQUIRE:
                continue
            where = f"request {sub.name} of {name}"
            if sub.min_gbps:
                text = f"require links without minGBps {sub.min_gbps:.10g} in {where}"
                yield _wishing(claim, sub, LinkWish.REQUIRE, text)
            yield _wishing(claim, sub, LinkWish.PREFER, f"prefer links instead of requiring them in {where}")


def _wishing(claim: ResourceClaim, sub: SubRequest, wish: LinkWish, text: str) -> Change:
    parameters = {"apiVersion": API_VERSION, "kind": KIND, "link": {"wish": wish.value}}
    opaque = OpaqueDeviceConfiguration(driver=CONFIG_DRIVER, parameters=parameters)
    config = DeviceClaimConfiguration(requests=(sub.name,), opaque=opaque)
    return _change(Kind.LINK, text, claim, f"link {sub.name}", config=(*claim.spec.devices.config, config))


def _change(kind: Kind, text: str, claim: ResourceClaim, rungs: str, **fields: object) -> Change:
    devices: DeviceClaim = with_fields(claim.spec.devices, **fields)
    changed = with_fields(claim, spec=with_fields(claim.spec, devices=devices))
    return Change(kind=kind, text=text, claim=changed, rungs=rungs)


def _replaced(expression: str, old: str, new: str) -> str:
    """Return an expression with another text in place of each literal that is `old`."""
    return _LITERAL.sub(lambda match: f'"{new}"' if _text(match) == old else match[0], expression)


def _text(match: re.Match[str]) -> str:
    return match[1] if match[1] is not None else match[2]


def _without(items: tuple[object, ...], at: int) -> tuple[object, ...]:
    return (*items[:at], *items[at + 1 :])
