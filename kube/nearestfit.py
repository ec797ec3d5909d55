"""The nearest fit: single changes that would make a pod fit, each proved by the allocator on the changed input.

Of every rung (one request's count, one taint, ...) the least change that works; then the fewest devices to be freed on
one node, by claims that nobody but their pods needs. Bounded in tries, so that every machine answers alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kube.changes import Around, Change, Kind, changes, profiles_of
from kube.cluster import Cluster
from kube.objects import Pod, ResourceClaim
from kube.reasons import Reasons
from kube.resolved import Resolved, ToAllocate
from kube.trial import Key, Trial
from packing.dra.model import Allocation, Amount, ClaimUid, DeviceId, Pool, Taint
from packing.dra.problem import CAPACITY, COUNTERS, IN_USE, TAINTED

MAX_TRIES = 40
"""Changed claims tried."""
MAX_FREED = 24
"""Nodes, or claims, freed to see whether that helps."""
MOST_SHOWN = 3
"""Changes of one kind that are told."""
BUSY = frozenset({IN_USE, COUNTERS, CAPACITY})
ORDER = tuple(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A change that works, and what the pod would then get."""

    kind: Kind
    text: str
    allocation: Allocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A claim that holds devices of a node, and who uses it."""

    uid: ClaimUid
    devices: tuple[DeviceId, ...]
    user: str


class Holders:
    """Who holds which devices: looked up once for a question."""

    def __init__(self, cluster: Cluster, keep: Collection[Key] = ()) -> None:
        """Look at all claims in use. Reservations hold too, and are nobody's to free; nor are the claims to `keep`."""
        self.by_pool: defaultdict[tuple[str, str], list[ClaimUid]] = defaultdict(list)
        self._given = cluster.packed().ledger.in_use.claims
        self._claims = {
            ClaimUid(each.metadata.identity): each
            for each in cluster.store.claims
            if (each.metadata.namespace, each.metadata.name) not in keep
        }
        for uid, givens in self._given.items():
            for pool in dict.fromkeys(given.device[:2] for given in givens if not given.admin):
                self.by_pool[pool].append(uid)

    def holder(self, uid: ClaimUid) -> Holder | None:
        """Return what a claim holds; None for a reservation."""
        claim = self._claims.get(uid)
        if claim is None:
            return None
        devices = tuple(given.device for given in self._given[uid] if not given.admin)
        return Holder(uid=uid, devices=devices, user=user_of(claim))

    def of(self, device: DeviceId) -> list[str]:
        """Return who holds a device or a share of it."""
        found = []
        for uid in self.by_pool.get(device[:2], ()):
            if any(given.device == device and not given.admin for given in self._given[uid]):
                holder = self.holder(uid)
                found.append("a pod that is being bound" if holder is None else holder.user)
        return found


def user_of(claim: ResourceClaim) -> str:
    """Name who uses a claim: its pods, else the claim itself."""
    space = claim.metadata.namespace
    users = [f"{space}/{each.name}" for each in claim.status.reserved_for if each.resource == "pods"]
    if not users:
        return f"claim {space}/{claim.metadata.name}"
    return users[0] if len(users) == 1 else f"{users[0]} and {len(users) - 1} more"


class NearestFit:
    """Looks for changes that make a pod fit which does not."""

    def __init__(
        self,
        cluster: Cluster,
        pod: Pod,
        resolved: Resolved,
        reasons: Reasons,
        *,
        among: Collection[str] | None = None,
        beyond: Collection[str] | None = None,
        keep: Collection[Key] = (),
    ) -> None:
        """`among` are the nodes that may be chosen; `beyond` those that could be, were no node asked for by name.

        Claims to `keep` are not freed.
        """
        self._keep = frozenset(keep)
        self._cluster = cluster
        self._pod, self._resolved, self._reasons = pod, resolved, reasons
        self._beyond = beyond
        self._trial = Trial(cluster)
        self._among = self._trial.flags(among)
        self._packed = self._trial.packed
        nodes = self._packed.inventory.fabric.nodes
        self._nodes = [n for n, node in enumerate(nodes) if among is None or node.name in among]
        self.bounded = False

    def find(self) -> list[Near]:
        """Return what would help, nearest first."""
        found = [*self._elsewhere(), *self._asking(), *self._freeing()]
        return sorted(found, key=lambda each: ORDER.index(each.kind))

    def _elsewhere(self) -> list[Near]:
        """Return the node it would go to, had nobody asked for another one."""
        if self._beyond is None:
            return []
        found = self._trial.serve(self._resolved, self._trial.flags(self._beyond)).allocation
        if found is None:
            return []
        return [Near(kind=Kind.NODE, text=f"let it go to node {found.node}", allocation=found)]

    def _asking(self) -> list[Near]:
        """Return the least change of each rung of each claim."""
        found: list[Near] = []
        done: set[str] = set()
        shown: defaultdict[Kind, int] = defaultdict(int)
        tries = 0
        for wanted, change in self._changes():
            if change.rungs in done or shown[change.kind] == MOST_SHOWN:
                continue
            if tries == MAX_TRIES:
                self.bounded = True
                break
            tries += 1
            key = (wanted.claim.metadata.namespace, wanted.claim.metadata.name)
            allocation = self._trial.altered(self._pod, {key: change.claim}, self._among)
            if allocation is not None:
                done.add(change.rungs)
                shown[change.kind] += 1
                found.append(Near(kind=change.kind, text=change.text, allocation=allocation))
        return found

    def _changes(self) -> list[tuple[ToAllocate, Change]]:
        """Return the candidates, those that cost least first, so that the bound hides the others."""
        found = []
        around = self._around()
        for way in self._resolved.ways:
            for wanted in way.claims:
                if wanted.claim.metadata.name:
                    found += [(wanted, change) for change in changes(wanted.claim, wanted.ask, around)]
        return sorted(found, key=lambda each: ORDER.index(each[1].kind))

    def _around(self) -> Around:
        taints: dict[Taint, None] = {}
        pools = {id(reach.pool): reach.pool for n in self._nodes for reach in self._packed.inventory.reach[n]}
        if any(reason == TAINTED for n in self._nodes for lack in self._reasons.lacks(n) for _, reason in lack.counts):
            for pool in pools.values():
                for several in pool.tainted.values():
                    taints.update(dict.fromkeys(several))
        return Around(
            taints=tuple(taints),
            left=lambda name: self._left(name, list(pools.values())),
            profiles=profiles_of({id(pool.shape): pool.shape for pool in pools.values()}.values()),
        )

    def _left(self, name: str, pools: Sequence[Pool]) -> list[Amount]:
        left: set[Amount] = set()
        for pool in pools:
            held = self._packed.ledger.in_use.pool(pool).consumed
            for device in pool.shape.devices:
                if device.multiple and name in device.capacity:
                    used = held.get(device.name, {}).get(name, 0)
                    left.add(Amount(device.capacity[name].value - used))
        return sorted(left, reverse=True)

    def _freeing(self) -> list[Near]:
        """Return the fewest devices whose freeing on one node helps."""
        holders = Holders(self._cluster, self._keep)
        options: dict[tuple[int, tuple[ClaimUid, ...]], tuple[int, int]] = {}
        for n in self._nodes:
            lacks = self._reasons.lacks(n)
            if not lacks:
                continue
            busy = sum(number for lack in lacks for number, reason in lack.counts if reason in BUSY)
            together = any(not lack.counts for lack in lacks)
            if busy or together:
                for claims, cost in self._candidates(n, holders):
                    options[n, claims] = (cost, n)
        ranked = sorted(options, key=lambda option: options[option])
        for tries, (n, claims) in enumerate(ranked):
            if tries == MAX_FREED:
                self.bounded = True
                break
            allocation = self._trial.freed(self._resolved, claims, n)
            if allocation is not None:
                return [self._freed(n, self._fewest(n, claims, holders), holders)]
        return []

    def _candidates(self, n: int, holders: Holders) -> list[tuple[tuple[ClaimUid, ...], int]]:
        """Return claims to free on a node with what they hold: the cheapest alone, then more and more of them."""
        pools = [reach.pool for reach in self._packed.inventory.reach[n] if reach.local]
        known = dict.fromkeys(uid for pool in pools for uid in holders.by_pool.get((pool.driver, pool.name), ()))
        held = [holder for uid in known if (holder := holders.holder(uid)) is not None]
        held.sort(key=lambda each: (len(each.devices), each.user))
        missing = self._missing(n)
        found: list[tuple[tuple[ClaimUid, ...], int]] = []
        found += [((each.uid,), len(each.devices)) for each in held if len(each.devices) >= missing][:4]
        total: list[ClaimUid] = []
        cost = 0
        for each in held:
            total.append(each.uid)
            cost += len(each.devices)
            if len(total) > 1 and cost >= missing:
                found.append((tuple(total), cost))
        return found[:4] + ([(tuple(total), cost)] if len(total) > 1 else [])

    def _missing(self, n: int) -> int:
        """Return how many devices have to be freed at the least."""
        least = 1
        for lack in self._reasons.lacks(n):
            if lack.missing:
                # Partitions and shares overlap: freeing one device may free many.
                overlap = any(reason != IN_USE for _, reason in lack.counts)
                least = max(least, 1 if overlap else lack.missing)
        return least

    def _fewest(self, n: int, claims: tuple[ClaimUid, ...], holders: Holders) -> tuple[ClaimUid, ...]:
        """Leave out claims that need not be freed, the largest first."""
        kept = list(claims)
        for uid in sorted(claims, key=lambda each: -len(_devices(holders, each))):
            rest = tuple(each for each in kept if each != uid)
            if rest and self._trial.freed(self._resolved, rest, n) is not None:
                kept.remove(uid)
        return tuple(kept)

    def _freed(self, n: int, claims: tuple[ClaimUid, ...], holders: Holders) -> Near:
        node = self._packed.inventory.fabric.nodes[n].name
        allocation = self._trial.freed(self._resolved, claims, n)
        assert allocation is not None, "it was found to help"
        parts = []
        for uid in claims:
            holder = holders.holder(uid)
            assert holder is not None
            names = ", ".join(sorted(device.name for device in holder.devices))
            parts.append(f"{names} on {node}, held by {holder.user}")
        return Near(kind=Kind.FREE, text=f"free {'; '.join(parts)}", allocation=allocation)


def _devices(holders: Holders, uid: ClaimUid) -> tuple[DeviceId, ...]:
    holder = holders.holder(uid)
    return () if holder is None else holder.devices


def near_to_json(near: Near) -> Mapping[str, object]:
    """Return a change as JSON values."""
    devices = ["/".join(given.device) for claim in near.allocation.claims for given in claim]
    return {"kind": near.kind.value, "text": near.text, "node": near.allocation.node, "devices": devices}
