"""Why nodes cannot serve a pod: per node the first failing constraint of every device, counted; of one, by device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kube.cluster import Cluster
from kube.deciding import devices_alone
from kube.resolved import Resolved, Way
from kube.selections import RequestSelection, Sieve, SieveFault, quoted
from packing.dra.model import DeviceId, Reach, SubRequest
from packing.dra.translate import bits_of
from packing.dra.why import Lack, Why
from packing.model import NodeName

ELSEWHERE = "a claim of the pod is allocated on other nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A constraint that fails on a node. `count`: the devices that fail it first, 1 where it is the node's."""

    text: str
    count: int = 1
    claim: str = ""
    request: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReason:
    """A device of a node and why a request cannot have it; no reason: it can, as far as it is asked alone."""

    device: DeviceId
    claim: str
    request: str
    reason: str


class Reasons:
    """Explains one pod on a cluster as it is now."""

    def __init__(self, cluster: Cluster, resolved: Resolved, barred: Mapping[str, str]) -> None:
        """`barred`: nodes that are out of the question for other reasons than devices, and why."""
        self._packed = cluster.packed()
        self._barred = barred
        self._known: dict[tuple[int, int], tuple[Reason, ...]] = {}
        self._lacks: dict[int, tuple[Lack, ...]] = {}
        whole = cluster.settings.place_all
        self._ways = [(way, self._why(way, whole=whole)) for way in resolved.ways]

    def all(self) -> dict[str, tuple[Reason, ...]]:
        """Return the reasons of every node that cannot serve the pod. Raises SelectorError."""
        found = {}
        for n, node in enumerate(self._packed.inventory.fabric.nodes):
            reasons = self.node(n)
            if reasons:
                found[str(node.name)] = reasons
        return found

    def node(self, n: int) -> tuple[Reason, ...]:
        """Return why a node cannot serve the pod; nothing where it can. Raises SelectorError."""
        name = self._packed.inventory.fabric.nodes[n].name
        if name in self._barred:
            return (Reason(text=self._barred[name]),)
        way, why = self._way(name)
        if way is None or why is None:
            return (Reason(text=ELSEWHERE),)
        return self._told(way, n, self.lacks(n))

    def lacks(self, n: int) -> tuple[Lack, ...]:
        """Return what a node lacks in devices alone; nothing too where it is out of the question. SelectorError."""
        known = self._lacks.get(n)
        if known is None:
            name = self._packed.inventory.fabric.nodes[n].name
            _, why = self._way(name)
            known = self._lacks[n] = () if name in self._barred or why is None else why.node(n)
        return known

    def devices(self, n: int) -> list[DeviceReason]:
        """Return every device that a node reaches, for every request. Raises SelectorError."""
        way, why = self._way(self._packed.inventory.fabric.nodes[n].name)
        if way is None or why is None:
            return []
        lost = {(name, device): reason for name, device, reason in why.devices(n)}
        found = []
        for claim in way.ask.claims:
            for sub in (sub for request in claim.requests for sub in request.alternatives):
                for reach, at, step in _first_failing(sub, self._packed.inventory.reach[n]):
                    device = reach.pool.device(at)
                    reason = lost.get((sub.name, device), "") if step is None else f"not selected: {step}"
                    found.append(DeviceReason(device=device, claim=claim.name, request=sub.name, reason=reason))
        return found

    def _why(self, way: Way, *, whole: bool) -> Why:
        return Why(self._packed.ledger, self._packed.policy, way.ask if whole else devices_alone(way.ask))

    def _way(self, name: NodeName) -> tuple[Way | None, Why | None]:
        return next(((way, why) for way, why in self._ways if way.leads_to(name)), (None, None))

    def _told(self, way: Way, n: int, lacks: tuple[Lack, ...]) -> tuple[Reason, ...]:
        key = (id(lacks), int(self._packed.inventory.layout_at[n]))
        known = self._known.get(key)
        if known is None:
            known = tuple(reason for lack in lacks for reason in self._of_lack(way, n, lack))
            self._known[key] = known
        return known

    def _of_lack(self, way: Way, n: int, lack: Lack) -> list[Reason]:
        if lack.claim < 0:
            return [Reason(text=lack.text, detail=lack.detail)]
        claim = way.ask.claims[lack.claim]
        if not lack.request:
            return [Reason(text=lack.text, claim=claim.name, detail=lack.detail)]
        subs = [sub for request in claim.requests for sub in request.alternatives if sub.name == lack.request]
        counts: Counter[str] = Counter()
        for _, _, step in _first_failing(subs[0], self._packed.inventory.reach[n]):
            if step is not None:
                counts[f"not selected: {step}"] += 1
        counted = [*((reason, number) for number, reason in lack.counts), *counts.items()]
        found = [
            Reason(
                text=f"devices {reason}",
                count=number,
                claim=claim.name,
                request=lack.request,
                detail=lack.detail,
            )
            for reason, number in counted
        ]
        if lack.counts or (counts and not lack.devices):
            return found
        return [Reason(text=lack.text, claim=claim.name, request=lack.request, detail=lack.detail), *found]


def _first_failing(sub: SubRequest, reached: tuple[Reach, ...]) -> list[tuple[Reach, int, str | None]]:
    """Return every device reached with the first selector that is not true of it, None where all are."""
    selection = sub.selection
    assert isinstance(selection, RequestSelection)
    chain: list[Sieve] = []
    sieve: Sieve | None = selection.sieve
    while sieve is not None:
        chain.insert(0, sieve)
        sieve = sieve.parent
    found: list[tuple[Reach, int, str | None]] = []
    for reach in reached:
        left = reach.mask
        for step, each in enumerate(chain):
            try:
                passed = each.mask(reach.pool)
            except SieveFault:
                break  # told as the fault of the whole pod
            found += [(reach, at, _selector(selection, step - 1)) for at in bits_of(left & ~passed)]
            left &= passed
        found += [(reach, at, None) for at in bits_of(left)]
    return found


def _selector(selection: RequestSelection, step: int) -> str:
    """Name an expression of a chain."""
    by_class = step < selection.of_class
    whose = f"class {selection.device_class}" if by_class else selection.request.rpartition(", ")[2]
    number = step if by_class else step - selection.of_class
    return f"{whose}, selector {number} {quoted(selection.sieve.expressions[step])}"
