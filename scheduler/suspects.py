"""Claims and pods with which something may be wrong, kept with every change, so that looking costs by their number.

Of tens of thousands of claims and pods these are few: what runs with its devices is none of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TypeVar

from kube.objects import Pod, ResourceClaim
from kube.podclaims import claim_names
from packing.dra.model import ClaimUid, DeviceId
from scheduler.reservations import PodUid
from scheduler.view import FINALIZER, is_allocated, reserved_pods

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item", bound=Hashable)


class Suspects:
    """Told of every claim and pod, as the ledger is."""

    def __init__(self) -> None:
        self.unused: set[ClaimUid] = set()
        """Claims with devices, for nobody."""
        self.kept: set[ClaimUid] = set()
        """Claims without devices that have the finalizer."""
        self.pending: set[PodUid] = set()
        """Pods without a node that are not over."""
        self.starting: set[PodUid] = set()
        """Pods with a node whose containers have not been started."""
        self.doubled: set[DeviceId] = set()
        """Devices that several claims have, neither sharing nor administering them."""
        self.holders: dict[DeviceId, set[ClaimUid]] = defaultdict(set)
        self.used: dict[PodUid, set[ClaimUid]] = defaultdict(set)
        """Claims with devices by the pods that they are reserved for."""
        self.naming: dict[tuple[str, str], set[PodUid]] = defaultdict(set)
        """(namespace, name) of a claim -> the pods that name it and are not over."""
        self._devices: dict[ClaimUid, frozenset[DeviceId]] = {}
        self._users: dict[ClaimUid, frozenset[PodUid]] = {}
        self._names: dict[PodUid, frozenset[tuple[str, str]]] = {}

    def claim_seen(self, claim: ResourceClaim) -> None:
        """Take a claim, new or changed."""
        uid, allocated = ClaimUid(claim.metadata.uid), is_allocated(claim)
        _keep(self.unused, uid, allocated and not claim.status.reserved_for)
        _keep(self.kept, uid, not allocated and FINALIZER in claim.metadata.finalizers)
        self._hold(uid, devices_of(claim))
        users = frozenset(PodUid(each) for each in reserved_pods(claim)) if allocated else frozenset()
        _index(self.used, uid, self._users.get(uid, frozenset()), users)
        self._users[uid] = users

    def claim_gone(self, claim: ResourceClaim) -> None:
        """Forget a claim."""
        uid = ClaimUid(claim.metadata.uid)
        self.unused.discard(uid)
        self.kept.discard(uid)
        self._hold(uid, frozenset())
        del self._devices[uid]
        _index(self.used, uid, self._users.pop(uid, frozenset()), frozenset())

    def pod_seen(self, pod: Pod) -> None:
        """Take a pod, new or changed."""
        uid, placed = PodUid(pod.metadata.uid), bool(pod.spec.node_name)
        _keep(self.pending, uid, not placed and not pod.over)
        _keep(self.starting, uid, placed and pod.status.phase in {"", "Pending"})
        names = frozenset() if pod.over else frozenset((pod.metadata.namespace, name) for name in names_of(pod))
        _index(self.naming, uid, self._names.get(uid, frozenset()), names)
        self._names[uid] = names

    def pod_gone(self, pod: Pod) -> None:
        """Forget a pod."""
        uid = PodUid(pod.metadata.uid)
        self.pending.discard(uid)
        self.starting.discard(uid)
        _index(self.naming, uid, self._names.pop(uid, frozenset()), frozenset())

    def _hold(self, uid: ClaimUid, devices: frozenset[DeviceId]) -> None:
        before = self._devices.get(uid, frozenset())
        self._devices[uid] = devices
        _index(self.holders, uid, before, devices)
        for device in before ^ devices:
            _keep(self.doubled, device, len(self.holders.get(device, ())) > 1)


def devices_of(claim: ResourceClaim) -> frozenset[DeviceId]:
    """Return the devices that a claim has for itself alone."""
    allocation = claim.status.allocation
    results = allocation.devices.results if allocation is not None else ()
    alone = (each for each in results if not each.admin_access and not each.share_id)
    return frozenset(DeviceId(each.driver, each.pool, each.device) for each in alone)


def names_of(pod: Pod) -> list[str]:
    """Return the names of a pod's claims, as far as they exist."""
    special = pod.status.extended_resource_claim_status
    names = claim_names(pod)
    return names + ([special.resource_claim_name] if special is not None else [])


def _keep(among: set[Item], item: Item, so: bool) -> None:  # noqa: FBT001 - the state to bring about
    if so:
        among.add(item)
    else:
        among.discard(item)


def _index(by: dict[Key, set[Item]], item: Item, before: Iterable[Key], after: frozenset[Key]) -> None:
    """Move an item from the keys that it had to those that it has; a key without items is gone."""
    for key in before:
        if key not in after:
            by[key].discard(item)
            if not by[key]:
                del by[key]
    for key in after:
        by[key].add(item)
