"""What is in use in the cluster: allocated claims, bound pods and reservations, on whatever inventory there is now.

Everything is kept beside the ledger, so that it can be entered anew when nodes or pools change. `freed` counts what
may have made room; a reservation that ends because the same devices are now allocated, or the same pod bound, makes
none, whichever of the two is told first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from packing.dra.inventory import Inventory
from packing.dra.ledger import Ledger
from packing.dra.model import Allocation, Amount, Ask, ClaimUid, Given
from packing.model import NodeName

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HostUse:
    """The node of a pod and what it takes of it: millicores and MiB."""

    node: NodeName
    cpu_milli: int
    memory_mib: int


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A reservation: devices by claim, and what the pod takes of the node. Either may be nothing."""

    pod: str
    claims: Mapping[ClaimUid, tuple[Given, ...]]
    host: HostUse | None


class Books:
    """Claims, pods and reservations in use. Needs an inventory (`enter`) before it can be asked."""

    def __init__(self) -> None:
        self.claims: dict[ClaimUid, tuple[Given, ...]] = {}
        self.pods: dict[str, HostUse] = {}
        self.held: dict[Hashable, Held] = {}
        self.ledger: Ledger | None = None
        self.freed = 0
        self._holding: defaultdict[ClaimUid, set[Hashable]] = defaultdict(set)
        self._holding_host: defaultdict[str, set[Hashable]] = defaultdict(set)
        self._leaving_claims: defaultdict[ClaimUid, list[tuple[Given, ...]]] = defaultdict(list)
        self._leaving_pods: defaultdict[str, list[HostUse]] = defaultdict(list)

    def enter(self, inventory: Inventory) -> Ledger:
        """Enter everything on another inventory; what is on nodes that did not change is taken over as it is."""
        self.ledger = Ledger(inventory) if self.ledger is None else self.ledger.moved(inventory)
        for uid in sorted(self.claims):
            self.ledger.add_claim(uid, self.claims[uid])
        for pod in sorted(self.pods):
            self._add_pod(pod, self.pods[pod])
        for key in sorted(self.held, key=repr):
            self._take(key, self.held[key])
        self.freed += 1
        return self.ledger

    def allocate(self, uid: ClaimUid, givens: tuple[Given, ...]) -> bool:
        """Count what a claim was given, in place of what it was given before; False where nothing changes.

        Reservations of the same claim end with it: its devices are known now.
        """
        for key in tuple(self._holding.get(uid, ())):
            self._end_claim(key, uid)
        before = self.claims.get(uid)
        leaving = self._leaving_claims.pop(uid, [])
        if before == givens:
            return False
        if any(each and not _takes(each, givens) for each in (before, *leaving)):
            self.freed += 1
        self.claims[uid] = givens
        if self.ledger is not None:
            self.ledger.add_claim(uid, givens)
        return True

    def release(self, uid: ClaimUid) -> bool:
        """Forget what a claim was given; False where that is nothing."""
        givens = self.claims.pop(uid, None)
        if givens is None:
            return False
        self.freed += 1
        if self.ledger is not None:
            self.ledger.remove_claim(uid)
        return True

    def bind(self, pod: str, use: HostUse) -> bool:
        """Count what a bound pod takes of its node; False where nothing changes. Reservations of that end with it."""
        for key in tuple(self._holding_host.get(pod, ())):
            self._end_host(key)
        before = self.pods.get(pod)
        leaving = self._leaving_pods.pop(pod, [])
        if before == use:
            return False
        if any(each is not None and not _covers(use, each) for each in (before, *leaving)):
            self.freed += 1
        self.pods[pod] = use
        self._add_pod(pod, use)
        return True

    def unbind(self, pod: str) -> bool:
        """Forget a pod that ended; False where it is not known."""
        if self.pods.pop(pod, None) is None:
            return False
        self.freed += 1
        if self.ledger is not None:
            self.ledger.remove_pod(pod)
        return True

    def hold(self, key: Hashable, pod: str, ask: Ask, allocation: Allocation) -> None:
        """Count an allocation as used until `drop`. Claims that are allocated already count once, as they are."""
        self.drop(key)
        claims = {
            wanted.uid: givens
            for wanted, givens in zip(ask.claims, allocation.claims, strict=True)
            if wanted.uid not in self.claims
        }
        host = HostUse(allocation.node, ask.cpu_milli, ask.memory_mib)
        held = Held(pod, claims, host if pod not in self.pods and (host.cpu_milli or host.memory_mib) else None)
        self.held[key] = held
        for uid in claims:
            self._holding[uid].add(key)
        if held.host is not None:
            self._holding_host[pod].add(key)
        self._take(key, held)

    def drop(self, key: Hashable) -> bool:
        """End a reservation; False where there is none."""
        held = self.held.get(key)
        if held is None:
            return False
        for uid in held.claims:
            self._end_claim(key, uid)
        if held.host is not None:
            self._end_host(key)
        del self.held[key]
        return True

    def settle(self) -> int:
        """Return `freed`, reservations included that ended without what they were for having come about."""
        if self._leaving_claims or self._leaving_pods:
            self._leaving_claims.clear()
            self._leaving_pods.clear()
            self.freed += 1
        return self.freed

    def held_by(self, uid: ClaimUid) -> Iterator[Hashable]:
        """Return the reservations that hold devices for a claim."""
        return iter(sorted(self._holding.get(uid, ()), key=repr))

    def held_for(self, pod: str) -> list[ClaimUid]:
        """Return the names that the ledger has for what is reserved for a pod."""
        return [_held_claim(key, uid) for key, held in self.held.items() if held.pod == pod for uid in held.claims]

    def _take(self, key: Hashable, held: Held) -> None:
        if self.ledger is None:
            return
        for uid, givens in held.claims.items():
            self.ledger.add_claim(_held_claim(key, uid), givens)
        if held.host is not None:
            self._add_pod(_name(key), held.host)

    def _end_claim(self, key: Hashable, uid: ClaimUid) -> None:
        held = self.held[key]
        self._leaving_claims[uid].append(held.claims[uid])
        left = {each: givens for each, givens in held.claims.items() if each != uid}
        self.held[key] = Held(held.pod, left, held.host)
        _discard(self._holding, uid, key)
        if self.ledger is not None:
            self.ledger.remove_claim(_held_claim(key, uid))

    def _end_host(self, key: Hashable) -> None:
        held = self.held[key]
        assert held.host is not None
        self._leaving_pods[held.pod].append(held.host)
        self.held[key] = Held(held.pod, held.claims, None)
        _discard(self._holding_host, held.pod, key)
        if self.ledger is not None:
            self.ledger.remove_pod(_name(key))

    def _add_pod(self, name: str, use: HostUse) -> None:
        if self.ledger is None:
            return
        if use.node in self.ledger.inventory.fabric.index:
            self.ledger.add_pod(name, use.node, use.cpu_milli, use.memory_mib)
        else:
            self.ledger.remove_pod(name)


def _discard(sets: defaultdict[T, set[Hashable]], of: T, key: Hashable) -> None:
    sets[of].discard(key)
    if not sets[of]:
        del sets[of]


def _name(key: Hashable) -> str:
    return f"held {key!r}"


def _held_claim(key: Hashable, uid: ClaimUid) -> ClaimUid:
    return ClaimUid(f"held {uid} {key!r}")


def _takes(before: tuple[Given, ...], after: tuple[Given, ...]) -> bool:
    """Whether everything that was given before is given after."""
    return {(each.device, _amounts(each)) for each in before} <= {(each.device, _amounts(each)) for each in after}


def _amounts(given: Given) -> frozenset[tuple[str, Amount]] | None:
    return None if given.consumed is None else frozenset(given.consumed.items())


def _covers(after: HostUse, before: HostUse) -> bool:
    return after.node == before.node and after.cpu_milli >= before.cpu_milli and after.memory_mib >= before.memory_mib
