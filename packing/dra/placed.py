"""A placement of the core as devices by name, and whether they are free as devices too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from packing.dra.amounts import consumed
from packing.dra.layout import Layout
from packing.dra.ledger import Ledger
from packing.dra.model import Amount, Ask, Given, PartKind, Pool, SelectorError, SubRequest
from packing.dra.translate import Combination
from packing.model import Devices, PartitionRequest, Placement, Request, ShareRequest

Taken = tuple[int, Mapping[str, Amount] | None]
"""A device by bit, and what is consumed of it where it is shared."""


def devices_of(
    layout: Layout, combination: Combination, requests: Sequence[Request], placement: Placement
) -> list[list[list[Taken]]]:
    """Return the devices of a placement, per claim and request of the combination it was translated from."""
    left = iter(zip(requests, placement.devices, strict=True))
    claims = []
    for subs in combination:
        claim = []
        for sub in subs:
            request, devices = next(left)
            taken = _devices(layout, sub, request, devices)
            while len(taken) < sub.count:
                taken += _devices(layout, sub, *next(left))
            claim.append(taken)
        claims.append(claim)
    return claims


def _devices(layout: Layout, sub: SubRequest, request: Request, devices: Devices) -> list[Taken]:
    """Return the devices of one unit."""
    gpu = devices.gpus[0]
    if isinstance(request, PartitionRequest):
        return [(layout.partitions[gpu][devices.profile, devices.start], None)]
    if isinstance(request, ShareRequest):
        bit = layout.shares[gpu][request.sharing]
        return [(bit, consumed(layout.devices[bit], sub.capacity))]
    assert all(layout.parts[layout.wholes[gpu]].kind is PartKind.WHOLE for gpu in devices.gpus)
    return [(layout.wholes[gpu], None) for gpu in devices.gpus]


def are_free(ledger: Ledger, node: int, taken: Sequence[Taken]) -> bool:
    """Whether devices of a node are free together: not held, with capacity and counters left."""
    layout, reach = ledger.inventory.layout(node), ledger.inventory.reach[node]
    needed: dict[tuple[tuple[str, str], str, str], int] = {}
    pools: dict[tuple[str, str], Pool] = {}
    held: dict[tuple[int, str], int] = {}
    begun: set[int] = set()
    for bit, amounts in taken:
        r, _ = layout.place_of(bit)
        pool, device = reach[r].pool, layout.devices[bit]
        use = ledger.in_use.pool(pool)
        if device.name in use.taken or (device.name in use.shares and not device.multiple):
            return False
        for name, amount in (amounts or {}).items():
            held[bit, name] = held.get((bit, name), 0) + amount
            before = use.consumed.get(device.name, {}).get(name, 0)
            if before + held[bit, name] > device.capacity[name].value:
                return False
        if bit in begun or (amounts is not None and device.name in use.shares):
            continue
        begun.add(bit)
        pools[pool.key] = pool
        for counter_set, counter, amount in device.consumes:
            counted = (pool.key, counter_set, counter)
            needed[counted] = needed.get(counted, 0) + amount
    for (key, counter_set, counter), total in needed.items():
        shape = pools[key].shape
        used = ledger.in_use.pool(pools[key]).counters(shape).get((counter_set, counter), 0)
        if used + total > shape.counters[counter_set, counter]:
            return False
    return True


def givens_of(
    ledger: Ledger,
    node: int,
    combination: Combination,
    claims: Sequence[Sequence[Sequence[Taken]]],
    names: Names,
) -> tuple[tuple[Given, ...], ...]:
    """Return devices with their names, per claim."""
    inventory = ledger.inventory
    return tuple(
        tuple(
            Given(names.of(claim, position, sub), inventory.device(node, bit), consumed=amounts)
            for position, (sub, taken) in enumerate(zip(subs, devices, strict=True))
            for bit, amounts in taken
        )
        for claim, (subs, devices) in enumerate(zip(combination, claims, strict=True))
    )


class Names:
    """What (sub)requests are called in an ask that is like one known before, and differs in names at most."""

    __slots__ = ("_known", "_now")

    def __init__(self, known: Ask, now: Ask) -> None:
        """Translate names of `known` to those of `now`."""
        self._known = known
        self._now = now

    def of(self, claim: int, position: int, sub: SubRequest) -> str:
        """Return the name of an alternative of the known ask in the present one."""
        if self._known is self._now:
            return sub.name
        at = self._known.claims[claim].requests[position].alternatives.index(sub)
        return self._now.claims[claim].requests[position].alternatives[at].name


@contextmanager
def told_of(known: Ask, now: Ask) -> Iterator[None]:
    """Let a selector that fails for `known` say so of `now`, an ask that is like it and differs in names at most."""
    try:
        yield
    except SelectorError as error:
        if error.at is not None and known is not now:
            sub, pool = error.at
            _counterpart(known, now, sub).selection.mask(pool)  # fails likewise
        raise


def _counterpart(known: Ask, now: Ask, sub: SubRequest) -> SubRequest:
    """Return the alternative of `now` that stands where `sub` does in `known`."""
    at = next(at for at, each in enumerate(_alternatives(known)) if each is sub)
    return _alternatives(now)[at]


def _alternatives(ask: Ask) -> list[SubRequest]:
    return [sub for claim in ask.claims for request in claim.requests for sub in request.alternatives]
