"""What may be allocated, tried in every way: slow truth for `packing.dra.search`. Production never imports it.

Written from the API's words, over devices by name, without the tables, bounds and symmetries of the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product

from packing.dra.model import (
    MAX_RESULTS,
    Amount,
    Ask,
    Capacity,
    ClaimAsk,
    DeviceId,
    DeviceShape,
    Effect,
    Given,
    Pool,
    Reach,
    SubRequest,
)

Holding = Sequence[Given]
"""What is allocated already, of whatever claim."""


def allocations(
    reach: Sequence[Reach], held: Holding, ask: Ask, *, unready: bool = False
) -> Iterator[list[list[Given]]]:
    """Yield every allocation of the ask on a node that reaches these pools, beside what is held."""
    requests = [(claim, request) for claim in ask.claims for request in claim.requests]
    for subs in product(*(request.alternatives for _, request in requests)):
        options = [list(_options(reach, held, sub, unready=unready)) for sub in subs]
        for chosen in product(*options):
            claims: dict[int, list[Given]] = {id(claim): [] for claim in ask.claims}
            for (claim, _), givens in zip(requests, chosen, strict=True):
                claims[id(claim)].extend(givens)
            result = [claims[id(claim)] for claim in ask.claims]
            if is_valid(reach, held, ask, result, unready=unready):
                yield result


def _options(reach: Sequence[Reach], held: Holding, sub: SubRequest, *, unready: bool) -> Iterator[tuple[Given, ...]]:
    """Yield the sets of selected devices of the right size, whether or not they are free."""
    selected = [
        Given(sub.name, pool.device(at), sub.admin, taken(device, sub) if device.multiple else None)
        for pool, at, device in _reached(reach)
        if sub.selection.mask(pool) >> at & 1 and taken(device, sub) is not None
    ]
    if not sub.all_devices:
        yield from combinations(selected, sub.count)
        return
    having = [given for given in selected if sub.admin or _has_capacity(reach, [*held, given], given.device)]
    if having and not unready:
        yield tuple(having)


def is_valid(
    reach: Sequence[Reach], held: Holding, ask: Ask, result: Sequence[Sequence[Given]], *, unready: bool = False
) -> bool:
    """Whether devices given to the claims of an ask are what it asks for, and may be had together beside the rest."""
    return all(
        _serves(reach, held, claim, givens, unready=unready) for claim, givens in zip(ask.claims, result, strict=True)
    ) and _fits(reach, held, [given for givens in result for given in givens])


def _serves(reach: Sequence[Reach], held: Holding, claim: ClaimAsk, givens: Sequence[Given], *, unready: bool) -> bool:
    """Whether a claim gets what each of its requests asks, within its constraints and the limit of results."""
    if len(givens) > MAX_RESULTS:
        return False
    names = {sub.name: sub for request in claim.requests for sub in request.alternatives}
    if any(given.request not in names for given in givens):
        return False
    for request in claim.requests:
        chosen = [sub for sub in request.alternatives if any(given.request == sub.name for given in givens)]
        if len(chosen) != 1 or not _is_served(reach, held, chosen[0], givens, unready=unready):
            return False
    alone = [given.device for given in givens if not _device(reach, given.device).multiple]
    return len(set(alone)) == len(alone) and all(
        _agree(
            reach, constraint.attribute, [g.device for g in givens if constraint.covers(g.request)], constraint.distinct
        )
        for constraint in claim.constraints
    )


def _is_served(
    reach: Sequence[Reach], held: Holding, sub: SubRequest, givens: Sequence[Given], *, unready: bool
) -> bool:
    mine = [given for given in givens if given.request == sub.name]
    if len({given.device for given in mine}) != len(mine) or any(given.admin != sub.admin for given in mine):
        return False
    for given in mine:
        pool, at = _find(reach, given.device)
        device = pool.shape.devices[at]
        expected = taken(device, sub)
        if not sub.selection.mask(pool) >> at & 1 or expected is None:
            return False
        if given.consumed != (expected if device.multiple else None) or device.binding_conditions:
            return False
        if not _tolerates_all(pool, at, sub):
            return False
    if not sub.all_devices:
        return len(mine) == sub.count
    (wanted,) = list(_options(reach, held, sub, unready=unready)) or [()]
    return bool(wanted) and {given.device for given in wanted} == {given.device for given in mine}


def _tolerates_all(pool: Pool, at: int, sub: SubRequest) -> bool:
    for taint in pool.tainted.get(at, ()):
        if taint.effect is Effect.NONE:
            continue
        if not any(
            toleration.effect in ("", taint.effect)
            and toleration.key in ("", taint.key)
            and (toleration.exists or toleration.value == taint.value)
            for toleration in sub.tolerations
        ):
            return False
    return True


def _agree(reach: Sequence[Reach], name: str, devices: Sequence[DeviceId], distinct: bool) -> bool:  # noqa: FBT001
    """Whether all devices have the attribute and, as sets, share a value (or, if `distinct`, no two share one)."""
    values = []
    for device in devices:
        pool, at = _find(reach, device)
        found = pool.attribute(at, name)
        if found is None:
            return False
        values.append({(found.kind, value) for value in found.values})
    if distinct:
        return all(not one & other for one, other in combinations(values, 2))
    return not values or bool(set.intersection(*values))


def _fits(reach: Sequence[Reach], held: Holding, new: Sequence[Given]) -> bool:
    """Whether devices may be had beside those held: alone, within capacity, within counters."""
    takes = [given for given in new if not given.admin]
    holding = [given for given in held if not given.admin]
    for given in takes:
        others = [other for other in [*holding, *takes] if other is not given and other.device == given.device]
        if given.consumed is None and others:
            return False
        if any(other.consumed is None for other in others):
            return False
        if not _has_capacity(reach, [*holding, *takes], given.device):
            return False
    allocated = {given.device for given in [*holding, *takes]}
    touched = {given.device for given in takes} - {given.device for given in holding}
    return all(_within_counters(one.pool, allocated, touched) for one in reach)


def _within_counters(pool: Pool, allocated: set[DeviceId], touched: set[DeviceId]) -> bool:
    """Whether the counters that newly allocated devices consume suffice."""
    used: dict[tuple[str, str], int] = {}
    matter = set()
    for at, device in enumerate(pool.shape.devices):
        for use in device.consumes if pool.device(at) in allocated else ():
            name = (use.counter_set, use.counter)
            used[name] = used.get(name, 0) + use.amount
            if pool.device(at) in touched:
                matter.add(name)
    return all(used[name] <= pool.shape.counters[name] for name in matter)


def _has_capacity(reach: Sequence[Reach], holding: Holding, device: DeviceId) -> bool:
    """Whether the shares of a device are within its capacity."""
    found = _device(reach, device)
    shares = [given.consumed for given in holding if given.device == device and given.consumed and not given.admin]
    return not found.multiple or all(
        sum(share.get(name, 0) for share in shares) <= capacity.value for name, capacity in found.capacity.items()
    )


def taken(device: DeviceShape, sub: SubRequest) -> Mapping[str, Amount] | None:
    """Return what a request takes of each capacity, None where it never may."""
    if not sub.capacity.keys() <= device.capacity.keys():
        return None
    amounts = {name: _rounded(capacity, sub.capacity.get(name)) for name, capacity in device.capacity.items()}
    if any(amount is None or amount > device.capacity[name].value for name, amount in amounts.items()):
        return None
    return {name: amount for name, amount in amounts.items() if amount is not None}


def _rounded(capacity: Capacity, asked: Amount | None) -> Amount | None:
    policy = capacity.policy
    if policy is None:
        return capacity.value if asked is None else asked
    if asked is None:
        return capacity.value if policy.default is None else policy.default
    if policy.valid_values:
        return min((value for value in policy.valid_values if value >= asked), default=None)
    if policy.minimum is None:
        return asked
    amount = policy.minimum
    if policy.step:
        while amount < asked:
            amount = Amount(amount + policy.step)
    else:
        amount = max(amount, asked)
    return None if policy.maximum is not None and amount > policy.maximum else amount


def _reached(reach: Sequence[Reach]) -> Iterator[tuple[Pool, int, DeviceShape]]:
    for one in reach:
        for at, device in enumerate(one.pool.shape.devices):
            if one.mask >> at & 1:
                yield one.pool, at, device


def _find(reach: Sequence[Reach], device: DeviceId) -> tuple[Pool, int]:
    return next((pool, at) for pool, at, _ in _reached(reach) if pool.device(at) == device)


def _device(reach: Sequence[Reach], device: DeviceId) -> DeviceShape:
    pool, at = _find(reach, device)
    return pool.shape.devices[at]
