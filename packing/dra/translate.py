"""Asks that mean whole GPUs, partitions or shares of them, as demands of the core, so that `place()` decides them.

An ask is looked at layout by layout. Where every request means the same kind of thing and every selected device is a
GPU of ours, it becomes a `Demand` whose selectors are the selected GPUs themselves; layouts with the same demand, or
demands that differ in the GPUs of different node shapes alone, are decided together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from packing.dra.amounts import consumed
from packing.dra.inventory import Inventory
from packing.dra.layout import Layout
from packing.dra.ledger import share_amounts
from packing.dra.model import MAX_RESULTS, Ask, ClaimAsk, PartKind, Reach, SelectorError, SubRequest
from packing.kernels.arrays import Flags
from packing.model import (
    MAX_GPUS_PER_NODE,
    MAX_REQUESTS_PER_POD,
    Demand,
    LinkWish,
    PartitionRequest,
    Request,
    ShapeSelector,
    ShareRequest,
    Sharing,
    WholeRequest,
)

Combination = tuple[tuple[SubRequest, ...], ...]
"""Per claim, the alternative taken of each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one unit of a request means on a layout. `gpus` and, by geometry, `profiles` are what it may take."""

    kind: PartKind
    count: int = 1
    link: LinkWish = LinkWish.PREFER
    min_gbps: float = 0
    profile: str = ""
    sharing: Sharing = Sharing.TIME_SLICING
    compute_milli: int = 0
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of the demand: what it means, and the GPUs and profiles (by geometry) it may take on one layout."""

    meaning: Meaning
    gpus: int
    profiles: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Nodes [N] on which the ask means `demand`."""

    demand: Demand
    nodes: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Translation:
    """Per combination: groups for `place()`; `general` [N]: nodes whose devices only the search understands."""

    groups: tuple[Group, ...]
    general: Flags


def combinations(ask: Ask) -> Iterator[Combination]:
    """Yield every choice of alternatives, the first of each request first, the last request varying fastest.

    A claim has room for `MAX_RESULTS` devices: choices of more are cut off as soon as the rest cannot but exceed it.
    """
    rests = [_least_of_rest(claim) for claim in ask.claims]
    if all(rest[0] <= MAX_RESULTS for rest in rests):
        yield from _choices(ask.claims, rests, ())


def _choices(claims: tuple[ClaimAsk, ...], rests: list[list[int]], before: Combination) -> Iterator[Combination]:
    """Yield the choices that begin with those of the claims before."""
    if len(before) == len(claims):
        yield before
        return
    for chosen in _of_claim(claims[len(before)], rests[len(before)], ()):
        yield from _choices(claims, rests, (*before, chosen))


def _of_claim(claim: ClaimAsk, rest: list[int], chosen: tuple[SubRequest, ...]) -> Iterator[tuple[SubRequest, ...]]:
    if len(chosen) == len(claim.requests):
        yield chosen
        return
    taken = sum(_least(sub) for sub in chosen)
    for sub in claim.requests[len(chosen)].alternatives:
        if taken + _least(sub) + rest[len(chosen) + 1] <= MAX_RESULTS:
            yield from _of_claim(claim, rest, (*chosen, sub))


def _least(sub: SubRequest) -> int:
    return 0 if sub.all_devices else sub.count


def _least_of_rest(claim: ClaimAsk) -> list[int]:
    """Return the devices that the requests from each one on take at least, 0 after the last."""
    found = [0]
    for request in reversed(claim.requests):
        found.append(found[-1] + min(_least(sub) for sub in request.alternatives))
    return found[::-1]


def translate(inventory: Inventory, ask: Ask, combination: Combination) -> Translation:
    """Return what a combination means on every layout; nodes on which it can never be are in neither."""
    subs = [sub for claim in combination for sub in claim]
    general = np.zeros(len(inventory.layouts), dtype=np.bool_)
    found: dict[tuple[Meaning, ...], list[tuple[list[int], dict[int, tuple[Unit, ...]]]]] = {}
    if _is_plain(ask, subs):
        for at, layout in enumerate(inventory.layouts):
            node = int(np.argmax(inventory.layout_at == at))
            units = _units(inventory, layout, inventory.reach[node], subs)
            if units is None:
                general[at] = True
            elif all(unit.gpus for unit in units):
                _join(found, at, layout, units)
    else:
        general[:] = True
    groups = tuple(
        _group(inventory, ask, meanings, layouts, by_shape)
        for meanings, joined in found.items()
        for layouts, by_shape in joined
    )
    return Translation(groups, general[inventory.layout_at] if len(general) else general)


def _is_plain(ask: Ask, subs: list[SubRequest]) -> bool:
    """Whether the ask has nothing in it that the core does not know."""
    return not any(claim.constraints for claim in ask.claims) and not any(
        sub.admin or sub.all_devices or not sub.selection.by_shape for sub in subs
    )


def selected(layout: Layout, reach: tuple[Reach, ...], sub: SubRequest) -> int:
    """Return the devices of a node that the selectors admit, bit mask. Raises SelectorError."""
    bits = 0
    for one, start in zip(reach, layout.starts, strict=True):
        try:
            bits |= (sub.selection.mask(one.pool) & one.mask) << start
        except SelectorError as error:
            error.at = (sub, one.pool)
            raise
    return bits


def bits_of(mask: int) -> Iterator[int]:
    """Yield the bits of a mask, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _units(
    inventory: Inventory, layout: Layout, reach: tuple[Reach, ...], subs: list[SubRequest]
) -> tuple[Unit, ...] | None:
    """Return the units of all requests on a layout, None where the core has no words for one.

    A unit without GPUs says that nothing there can serve it.
    """
    units: list[Unit] = []
    for sub in subs:
        bits = [
            bit
            for bit in bits_of(selected(layout, reach, sub))
            if consumed(layout.devices[bit], sub.capacity) is not None
        ]
        if not bits:
            return (Unit(Meaning(kind=PartKind.WHOLE), 0),)
        if not layout.plain or any(bit not in layout.parts for bit in bits):
            return None
        kinds = {layout.parts[bit].kind for bit in bits}
        if len(kinds) > 1:
            return None
        kind = kinds.pop()
        unit: Unit | None
        if kind is PartKind.WHOLE:
            unit = _whole(layout, bits, sub)
        elif kind is PartKind.PARTITION:
            unit = _partition(inventory, layout, bits)
        else:
            unit = _share(layout, bits, sub)
        if unit is None:
            return None
        units += [unit] * (sub.count if kind is PartKind.PARTITION else 1)
    return tuple(units) if len(units) <= MAX_REQUESTS_PER_POD else None


def _gpus(layout: Layout, bits: list[int]) -> int:
    mask = 0
    for bit in bits:
        mask |= 1 << layout.parts[bit].gpu
    return mask


def _whole(layout: Layout, bits: list[int], sub: SubRequest) -> Unit:
    if sub.count > MAX_GPUS_PER_NODE:
        return Unit(Meaning(kind=PartKind.WHOLE), 0)
    meaning = Meaning(kind=PartKind.WHOLE, count=sub.count, link=sub.link, min_gbps=sub.min_gbps)
    return Unit(meaning, _gpus(layout, bits))


def _partition(inventory: Inventory, layout: Layout, bits: list[int]) -> Unit | None:
    """Return the profiles selected; None where only some starts are, or GPUs of one geometry differ."""
    by_gpu: dict[int, set[tuple[str, int]]] = {}
    for bit in bits:
        part = layout.parts[bit]
        by_gpu.setdefault(part.gpu, set()).add((part.profile, part.start))
    profiles: dict[int, int] = {}
    first = ""
    for gpu, chosen in by_gpu.items():
        geometry = layout.gpus.gpus[gpu].mig
        assert geometry is not None, "partitions of a plain node are those of a geometry"
        names = {profile for profile, _ in chosen}
        if chosen != {key for key in layout.partitions[gpu] if key[0] in names}:
            return None
        mask = sum(1 << geometry.index(name) for name in names)
        if profiles.setdefault(inventory.fabric.geometries.index(geometry), mask) != mask:
            return None
        first = first or min(names)
    meaning = Meaning(kind=PartKind.PARTITION, profile=first)
    return Unit(meaning, _gpus(layout, bits), tuple(sorted(profiles.items())))


def _share(layout: Layout, bits: list[int], sub: SubRequest) -> Unit | None:
    """Return the share asked for; None for several (of different GPUs), of mixed sharing, or of different amounts."""
    if sub.count != 1:
        return None
    asks = set()
    for bit in bits:
        amounts = consumed(layout.devices[bit], sub.capacity)
        assert amounts is not None
        asks.add((layout.parts[bit].sharing, share_amounts(amounts)))
    if len(asks) > 1:
        return None
    sharing, (compute, memory) = asks.pop()
    if not (compute or memory):
        return None
    meaning = Meaning(kind=PartKind.SHARE, sharing=sharing, compute_milli=compute, memory_mib=memory)
    return Unit(meaning, _gpus(layout, bits))


def _join(
    found: dict[tuple[Meaning, ...], list[tuple[list[int], dict[int, tuple[Unit, ...]]]]],
    at: int,
    layout: Layout,
    units: tuple[Unit, ...],
) -> None:
    """Put a layout to others of the same meaning, if those of its node shape agree."""
    joined = found.setdefault(tuple(unit.meaning for unit in units), [])
    for layouts, by_shape in joined:
        if by_shape.get(layout.shape, units) == units and _profiles_agree(by_shape, units):
            layouts.append(at)
            by_shape[layout.shape] = units
            return
    joined.append(([at], {layout.shape: units}))


def _profiles_agree(by_shape: dict[int, tuple[Unit, ...]], units: tuple[Unit, ...]) -> bool:
    """Whether no geometry is to be cut in two different ways."""
    for others in by_shape.values():
        for unit, other in zip(units, others, strict=True):
            known = dict(other.profiles)
            if any(known.get(z, mask) != mask for z, mask in unit.profiles):
                return False
    return True


def _group(
    inventory: Inventory,
    ask: Ask,
    meanings: tuple[Meaning, ...],
    layouts: list[int],
    by_shape: dict[int, tuple[Unit, ...]],
) -> Group:
    fabric = inventory.fabric
    requests = []
    for u, meaning in enumerate(meanings):
        gpus, profiles = [0] * len(fabric.shapes), [0] * len(fabric.geometries)
        for shape, units in by_shape.items():
            gpus[shape] = units[u].gpus
            for z, mask in units[u].profiles:
                profiles[z] = mask
        requests.append(request_of(meaning, ShapeSelector(gpus=tuple(gpus), profiles=tuple(profiles))))
    demand = Demand(cpu_milli=ask.cpu_milli, memory_mib=ask.memory_mib, requests=tuple(requests))
    return Group(demand, np.isin(inventory.layout_at, layouts))


def request_of(meaning: Meaning, selector: ShapeSelector) -> Request:
    """Return a meaning as a request of the core."""
    if meaning.kind is PartKind.WHOLE:
        # One GPU has no links: it satisfies every wish, and one class serves them all.
        link = meaning.link if meaning.count > 1 else LinkWish.PREFER
        least = meaning.min_gbps if link is LinkWish.REQUIRE else 0
        return WholeRequest(count=meaning.count, link=link, min_gbps=least, selector=selector)
    if meaning.kind is PartKind.PARTITION:
        return PartitionRequest(profile=meaning.profile, selector=selector)
    return ShareRequest(
        compute_milli=meaning.compute_milli,
        memory_mib=meaning.memory_mib,
        sharing=meaning.sharing,
        selector=selector,
    )
