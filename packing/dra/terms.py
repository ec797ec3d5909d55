"""Of which terms a score is made: what each of the policy's prices adds to it, found by doing without them in turn.

The score of the default policy is a sum that is linear in its prices, so that leaving one out takes away its term and
nothing else. Other policies have one term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from packing.dra.gpus import Unit, units_of
from packing.dra.ledger import Ledger
from packing.dra.model import Allocation, Ask, Given
from packing.dra.problem import Item
from packing.judge import UNFIT, judge
from packing.kernels.arrays import DOVETAIL, GIGA
from packing.model import MAX_REQUESTS_PER_POD, Demand
from packing.policy import Policy
from packing.usage import Held

PRICES = {
    "links": ("link_weight",),
    "links that stay possible": ("link_room",),
    "cores and memory that idle GPUs lack": ("cpu_price", "memory_price"),
    "order of nodes": ("rank_weight",),
}
"""Term -> the constants whose product it is."""
REST = "demand to come"
"""What the mix loses: fragments, sets of GPUs, MIG slices."""
SCORE = "score"


def terms_of(ledger: Ledger, policy: Policy, ask: Ask, allocation: Allocation) -> Mapping[str, float]:
    """Return the terms of the score that devices have, beside what `ledger` holds; their sum is the score.

    In whole GPUs of future demand (default policy), else as the policy counts. Nothing for devices that the core would
    not give, such as unhealthy ones whose taint is tolerated.
    """
    held = _held(ledger, ask, allocation)
    total = _score(ledger, policy, held)
    if total == UNFIT:
        return {}
    if policy.arrays.code != DOVETAIL:
        return {SCORE: float(total)}
    found: dict[str, int] = {}
    for term, prices in PRICES.items():
        without = policy.arrays._replace(**dict.fromkeys(prices, 0))  # type: ignore[arg-type]
        found[term] = total - _score(ledger, replace(policy, arrays=without), held)
    found[REST] = total - sum(found.values())
    return {term: amount / GIGA for term, amount in found.items()}


def _score(ledger: Ledger, policy: Policy, held: Held) -> int:
    return int(judge(ledger.usage.fabric, ledger.usage, policy, [held])[0])


def _held(ledger: Ledger, ask: Ask, allocation: Allocation) -> Held:
    """Return the devices of an allocation as a choice of the core."""
    node = ledger.inventory.fabric.index[allocation.node]
    layout = ledger.inventory.layout(node)
    units: list[Unit] = []
    for position, (claim, givens) in enumerate(zip(ask.claims, allocation.claims, strict=True)):
        subs = {sub.name: sub for request in claim.requests for sub in request.alternatives}
        by_request: dict[str, list[Given]] = {}
        for given in givens:
            by_request.setdefault(given.request, []).append(given)
        for name, several in by_request.items():
            located = [(ledger.inventory.locate(given.device), given) for given in several]
            taken = {at.bit: given.consumed or {} for at, given in located if at is not None and at.node == node}
            if name in subs:
                item = Item(position, 0, subs[name], 0, takes=taken)
                units += units_of(layout, item, taken)
    units = units[:MAX_REQUESTS_PER_POD]
    demand = Demand(
        cpu_milli=ask.cpu_milli, memory_mib=ask.memory_mib, requests=tuple(request for request, *_ in units)
    )
    return Held(
        ledger.usage.classes.index(demand),
        node,
        tuple(gpus for _, gpus, _, _ in units),
        tuple(profile for _, _, profile, _ in units),
        tuple(start for _, _, _, start in units),
    )
