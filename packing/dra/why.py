"""Why a node cannot serve an ask: per request the first that is lacking, counted, and per device what keeps it away.

`text` is short and the same for as long as nothing changes, fit for an event; `detail` has the counts.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from packing.dra.general import state_of
from packing.dra.gpus import Judge, is_set
from packing.dra.ledger import Ledger
from packing.dra.model import Ask, Constraint, DeviceId, SubRequest
from packing.dra.problem import Item, Node, items_of
from packing.dra.search import BoundHitError, Option, exists
from packing.dra.translate import Combination, bits_of
from packing.explain import cores, gib
from packing.kernels.arrays import CPU, MEMORY
from packing.model import LinkWish
from packing.policy import Policy


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that a node lacks. `request` is empty where it is no single request's; `devices` counts those lost."""

    request: str
    text: str
    detail: str
    devices: int = 0
    claim: int = -1
    """Which claim of the ask, -1 where it is no single one's."""
    counts: tuple[tuple[int, str], ...] = ()
    """(selected devices lost, why each is: the first reason), most first."""
    missing: int = 0
    """Devices of the request that it still lacks; 0 where that is not the question."""


class Why:
    """Explains one ask; nodes alike are looked at once."""

    def __init__(self, ledger: Ledger, policy: Policy, ask: Ask) -> None:
        """Explain `ask` beside what the ledger holds now."""
        self._ledger = ledger
        self._judge = Judge(ledger, policy, ask)
        self._ask = ask
        self._every: Combination = tuple(
            tuple(sub for request in claim.requests for sub in request.alternatives) for claim in ask.claims
        )
        self._known: dict[Hashable, tuple[Lack, ...]] = {}

    def node(self, node: int) -> tuple[Lack, ...]:
        """Return what a node lacks, in the order of the requests; nothing where it serves the ask. SelectorError."""
        key = state_of(self._ledger, self._ask, self._every, node)
        if key not in self._known:
            self._known[key] = self._host(node) or self._devices(node)
        return self._known[key]

    def devices(self, node: int) -> list[tuple[str, DeviceId, str]]:
        """Return of each device that a request selects what keeps it from the request alone; empty text: nothing."""
        found = []
        for item in self._items(node, self._every):
            reason = {bit: text for text, mask in item.lost.items() for bit in bits_of(mask)}
            for bit in bits_of(item.selected):
                device = self._ledger.inventory.device(node, bit)
                found.append((item.sub.name, device, reason.get(bit, "").removeprefix("are ")))
        return found

    def _items(self, node: int, combination: Combination) -> list[Item]:
        inventory, ledger = self._ledger.inventory, self._ledger
        problem = Node.of(inventory.layout(node), inventory.reach[node], ledger.in_use)
        return items_of(problem, self._ask.claims, combination)

    def _host(self, node: int) -> tuple[Lack, ...]:
        free = self._ledger.usage.arrays.nodes[node]
        found = []
        if free[CPU] < self._ask.cpu_milli:
            detail = f"{cores(int(free[CPU]))} left of {cores(self._ask.cpu_milli)} asked"
            found.append(Lack("", "not enough CPU", detail))
        if free[MEMORY] < self._ask.memory_mib:
            detail = f"{gib(int(free[MEMORY]))} left of {gib(self._ask.memory_mib)} asked"
            found.append(Lack("", "not enough memory", detail))
        return tuple(found)

    def _devices(self, node: int) -> tuple[Lack, ...]:
        """Return what the first alternatives that could be served one by one lack, or why none can be."""
        items = {id(item.sub): item for item in self._items(node, self._every)}
        unready = bool(self._ledger.inventory.unready[node])
        lacks: list[Lack] = []
        combination: list[tuple[SubRequest, ...]] = []
        for claim in self._ask.claims:
            subs: list[SubRequest] = []
            for request in claim.requests:
                alone = [(sub, _alone(items[id(sub)], unready=unready)) for sub in request.alternatives]
                able = [sub for sub, lack in alone if lack is None]
                lacks += [] if able else [lack for _, lack in alone if lack is not None]
                subs.append((able or list(request.alternatives))[0])
            combination.append(tuple(subs))
        return tuple(lacks) or self._together(node, tuple(combination))

    def _together(self, node: int, combination: Combination) -> tuple[Lack, ...]:
        """Return why requests that could each be served cannot be all together; nothing where they can."""
        problem = Node.of(self._ledger.inventory.layout(node), self._ledger.inventory.reach[node], self._ledger.in_use)
        items = items_of(problem, self._ask.claims, combination)
        sets = {i: self._sets(node, item) for i, item in enumerate(items) if _is_linked(problem, item)}
        for i, options in sets.items():
            if not options:
                return (_unlinked(items[i]),)
        try:
            if exists(problem, self._ask.claims, items, sets) is not None:
                return ()
            if sets and exists(problem, self._ask.claims, items, {}) is not None:
                return tuple(_unlinked(items[i]) for i in sets)
            for c, claim in enumerate(self._ask.claims):
                for constraint in claim.constraints:
                    rest = tuple(other for other in claim.constraints if other is not constraint)
                    claims = [*self._ask.claims]
                    claims[c] = replace(claim, constraints=rest)
                    if exists(problem, claims, items, sets) is not None:
                        return (_disagreement(constraint, c),)
        except BoundHitError:
            return (Lack("", "search bound hit", "the search for devices ended at its bound without an answer"),)
        return (Lack("", "no devices for all requests together", "each request alone could be served"),)

    def _sets(self, node: int, item: Item) -> list[Option]:
        return self._judge.plan(node, item).options


def _is_linked(node: Node, item: Item) -> bool:
    return item.sub.link is LinkWish.REQUIRE and is_set(node.layout, item)


def _alone(item: Item, *, unready: bool) -> Lack | None:
    """Return what keeps a request from being served even alone."""
    name, selected = item.sub.name, item.selected.bit_count()
    if not selected:
        detail = "no device of the node passes the selectors"
        return Lack(name, f"request {name}: no device selected", detail, claim=item.claim)
    if item.every and unready:
        detail = "asks for all devices while a pool is being updated"
        return Lack(name, f"request {name}: pool not complete", detail, claim=item.claim)
    wanted = item.count if item.every else item.sub.count
    if wanted and item.candidates.bit_count() >= wanted:
        return None
    if not item.lost:
        detail = f"{wanted} wanted, {selected} selected"
        return Lack(name, f"request {name}: too few devices selected", detail, selected, item.claim)
    missing = wanted - item.candidates.bit_count()
    counts = _counts(item)
    text = f"request {name}: selected devices {counts[0][1]}"
    detail = f"of {selected} selected " + ", ".join(f"{n} {reason}" for n, reason in counts)
    return Lack(name, text, detail, counts[0][0], item.claim, counts, missing)


def _counts(item: Item) -> tuple[tuple[int, str], ...]:
    """Return (devices lost, reason), most first."""
    lost = [(mask.bit_count(), reason) for reason, mask in item.lost.items()]
    return tuple(sorted(lost, key=lambda one: (-one[0], one[1])))


def _unlinked(item: Item) -> Lack:
    name, count = item.sub.name, item.sub.count
    least = f" at {item.sub.min_gbps:.10g} GB/s" if item.sub.min_gbps else " joined by NVLink"
    text = f"request {name}: no {count} free GPUs{least}"
    return Lack(name, text, text, claim=item.claim)


def _disagreement(constraint: Constraint, claim: int) -> Lack:
    kind = "distinctAttribute" if constraint.distinct else "matchAttribute"
    text = f"no free devices satisfy {kind} {constraint.attribute}"
    return Lack("", text, f"without {kind} {constraint.attribute} there would be some", claim=claim)
