"""The state of a cluster in memory, live or from a snapshot: events in, answers out. It never waits and never fails.

Events of different kinds may come in any order, and each of them twice. Within a kind they come as a watch tells them;
only of nodes, namespaces, classes and claims, which answers to writes may show too, is an object older than the one
known ignored. What is packed for the core (`arrange`) is redone at the next question, once however many events there
were, and only if nodes or pools changed; what is in use follows every event.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from kube.allocated import given_to
from kube.arrange import Arranger, same_to_us
from kube.books import Books, HostUse
from kube.claims import Claims
from kube.deciding import Decided, Packed
from kube.gpuattributes import OUR_DRIVER
from kube.history import LearnedMix
from kube.kinds import Kind
from kube.objects import (
    DeviceClass,
    DeviceTaintRule,
    Namespace,
    Node,
    NodeSelector,
    Pod,
    ResourceClaim,
    ResourceSlice,
)
from kube.objects_base import Metadata
from kube.podresources import cpu_milli, memory_mib, pod_requests
from kube.pools import Pools
from kube.resolved import Resolved, Surroundings
from kube.store import Shelf, Store
from packing.dra.inventory import Inventory
from packing.dra.ledger import Ledger
from packing.dra.model import Allocation, ClaimUid, Pool
from packing.mix import DemandMix
from packing.model import NodeName
from packing.policy import DEFAULT_POLICY, Constants, make_policy
from topology.errors import InvalidInputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What a cluster is asked with."""

    drivers: tuple[str, ...] = (OUR_DRIVER,)
    """The drivers whose devices we allocate."""
    every_driver: bool = False
    """Those of all resource slices are taken for ours, beside these: another allocates, and we tell what it will."""
    gpu_driver: str = OUR_DRIVER
    """The one of them whose devices are GPUs to the core (docs/devices.md)."""
    policy: str = DEFAULT_POLICY
    constants: Constants | None = None
    seed: int = 0
    mix: DemandMix | None = None
    """The demand to expect; None: learned from the pods that are there (`kube.history`)."""
    place_all: bool = False
    """Cores and memory are ours to decide too. Else kube-scheduler has done so, and they only tell good from better."""
    ignored_taints: frozenset[str] = frozenset()
    """Keys of device taints that keep other schedulers off, and not us."""


class Cluster:
    """All that is known of a cluster. Sink of watch events; answers `resolve` and `decide`; keeps reservations.

    Implements `kube.resolved.Surroundings`, and the books of the scheduler.
    """

    def __init__(self, settings: ClusterSettings | None = None) -> None:
        """Start without objects."""
        self.settings = settings or ClusterSettings()
        self.drivers: frozenset[str] = frozenset(self.settings.drivers)
        self.pool_book = Pools(self.settings.gpu_driver, self.settings.ignored_taints)
        self.store = Store()
        self.books = Books()
        self._claims = Claims()
        self._arranger = Arranger(self.settings.gpu_driver)
        self._mix = LearnedMix(self.settings.mix)
        self._packed: Packed | None = None
        self._changes = 0
        self._inventories = 0

    @classmethod
    def from_snapshot(cls, objects: Iterable[object], settings: ClusterSettings | None = None) -> Self:
        """Return the cluster that `objects` are, in whichever order.

        Nodes that slices name and nobody lists are there too, with cores and memory that nobody knows.
        """
        cluster = cls(settings)
        for each in objects:
            cluster.put(each)
        cluster._refresh()
        for name in cluster.pool_book.node_names() - cluster.nodes():
            cluster.put(Node(metadata=Metadata(name=name)))
        return cluster

    # Events

    def keep(self, kind: Kind[Any], objects: Sequence[Any]) -> Sequence[Any]:
        """Return what to keep of objects for `replace`: resource slices are large, what is read of them is small."""
        return self.pool_book.keep(objects) if kind.type is ResourceSlice else objects

    def replace(self, kind: Kind[Any], objects: Iterable[Any]) -> None:
        """Take `objects`, or what `keep` returned of them, for all of a kind that there are."""
        if kind.type is ResourceSlice:
            self.pool_book.replace(objects)
            return
        found = list(objects)
        if kind.type is DeviceTaintRule:
            self.pool_book.replace_rules(found)
            return
        if kind.type is Pod:
            for uid in self.books.pods.keys() - {pod.metadata.identity for pod in found}:
                self._changes += self.books.unbind(uid)
        else:
            shelf = self._shelf(kind.type)
            for gone in [] if shelf is None else shelf.missing_from(found):
                self.remove(gone)
        for each in found:
            self.put(each)

    def put(self, new: object) -> None:
        """Take an object that is new or has changed. Kinds that nothing here depends on are ignored."""
        match new:
            case Pod():
                self._put_pod(new)
            case ResourceClaim():
                self._put_claim(new)
            case Node():
                self._put_node(new)
            case ResourceSlice():
                self.pool_book.put(new)
            case DeviceTaintRule():
                self.pool_book.put_rule(new)
            case DeviceClass():
                self._changes += self.store.classes.put(new)[1]
            case Namespace():
                self._changes += self.store.namespaces.put(new)[1]

    def remove(self, gone: object) -> None:
        """Take the deletion of an object, by its last known state. One that nobody knows is no error."""
        match gone:
            case Pod():
                self._changes += self.books.unbind(gone.metadata.identity)
            case ResourceClaim():
                at = gone.metadata
                known = self.store.remove_claim(at.namespace, at.name, at.uid)
                if known is not None:
                    self.books.release(ClaimUid(known.metadata.identity))
                    self._changes += 1
            case Node():
                if self.store.remove_node(gone.metadata.name, gone.metadata.uid) is not None:
                    self._repack()
            case ResourceSlice():
                self.pool_book.remove(gone.metadata.name)
            case DeviceTaintRule():
                self.pool_book.remove_rule(gone.metadata.name)
            case DeviceClass():
                self._changes += self.store.classes.remove("", gone.metadata.name) is not None
            case Namespace():
                self._changes += self.store.namespaces.remove("", gone.metadata.name) is not None

    def _put_pod(self, pod: Pod) -> None:
        uid = pod.metadata.identity
        if pod.over or not pod.spec.node_name:
            self._changes += self.books.unbind(uid)
            return
        try:
            needs = pod_requests(pod)
        except InvalidInputError as error:
            _log.warning("pod=%s/%s requests: %s", pod.metadata.namespace, pod.metadata.name, error)
            needs = {}
        use = HostUse(NodeName(pod.spec.node_name), cpu_milli(needs), memory_mib(needs))
        self._changes += self.books.bind(uid, use)

    def _put_claim(self, claim: ResourceClaim) -> None:
        old, taken = self.store.put_claim(claim)
        if not taken:
            return
        uid = ClaimUid(claim.metadata.identity)
        if old is not None and old.metadata.identity != uid:
            self.books.release(ClaimUid(old.metadata.identity))
        if claim.status.allocation is None:
            self.books.release(uid)
        else:
            self.books.allocate(uid, given_to(claim))
        self._changes += 1

    def _put_node(self, node: Node) -> None:
        old, taken = self.store.put_node(node)
        if taken and (old is None or not same_to_us(old, node)):
            self._repack()

    def _shelf(self, kind: type) -> Shelf[Any] | None:
        shelves: dict[type, Shelf[Any]] = {
            Node: self.store.nodes,
            Namespace: self.store.namespaces,
            DeviceClass: self.store.classes,
            ResourceClaim: self.store.claims,
        }
        return shelves.get(kind)

    # Reservations

    def hold(self, key: Hashable, resolved: Resolved, allocation: Allocation) -> None:
        """Count an allocation as used until dropped, or until its claims are seen allocated."""
        way = resolved.way_to(allocation.node)
        assert way is not None, "the allocation is of one of the ways"
        self.books.hold(key, resolved.pod.metadata.identity, way.ask, allocation)
        self._changes += 1

    def drop(self, key: Hashable) -> None:
        """End a reservation; nothing where there is none."""
        self._changes += self.books.drop(key)

    # Questions

    @property
    def version(self) -> int:
        """A number that changes with everything that can change an answer."""
        self._refresh()
        return self._changes

    def resolve(self, pod: Pod, around: Surroundings | None = None) -> Resolved:
        """Return what a pod asks for. Raises Refusal when no node can serve it, as things are.

        `around`: as things would be, of the same pools and drivers.
        """
        self._refresh()
        return self._claims.resolve(pod, around or self)

    def decide(self, resolved: Resolved, among: Collection[str] | None = None, *, slack: float = 0.0) -> Decided:
        """Choose node and devices for a pod, changing nothing.

        `among` restricts the nodes. With `slack` (whole GPUs of future demand) the answer also has the next best nodes
        that lose no more than that beside the best. Cores and memory make nodes better or worse; unless `place_all`
        is set they refuse none, since kube-scheduler has decided on them before.
        """
        return self.packed().decide(resolved, among, slack, self.freed)

    def predict(self, resolved: Resolved, among: Collection[str] | None = None) -> list[tuple[Allocation, int]]:
        """Return what the in-tree allocator would pick on each node, with the policy's score of it, best first.

        Nodes where it would find nothing, or of which that cannot be told within bounds, are not there.
        """
        return self.packed().predict(resolved, among)

    def sharing(self, resolved: Resolved, among: Collection[str] | None = None) -> frozenset[NodeName]:
        """Return the nodes where a request of the pod admits devices that may be allocated several times."""
        return self.packed().sharing(resolved, among)

    def fits_without(self, resolved: Resolved, node: NodeName, claims: Collection[ClaimUid]) -> bool:
        """Whether a pod's devices fit on a node once these claims are freed. Leaves everything as it was."""
        packed = self.packed()
        with packed.without(claims):
            return packed.decide(resolved, (node,), 0.0, self.freed).allocation is not None

    @property
    def freed(self) -> int:
        """A number that changes whenever something may have made room: until then, what did not fit does not fit."""
        return self.books.settle()

    def packed(self) -> Packed:
        """Return the cluster as the core has it now. Packs it where nodes or pools changed."""
        self._refresh()
        if self._packed is None:
            inventory = self._arranger.arrange(self.store.nodes, self.pool_book, self.drivers)
            ledger = self.books.enter(inventory)
            self._packed = self._pack(inventory, ledger)
        elif self._mix.is_due(len(self.books.pods)):
            self._packed = self._pack(self._packed.inventory, self._packed.ledger)
            self._changes += 1
        return self._packed

    def _pack(self, inventory: Inventory, ledger: Ledger) -> Packed:
        mix = self._mix.of(self.books, self.store.claims, inventory)
        chosen = self.settings
        policy = make_policy(chosen.policy, mix, inventory.fabric, seed=chosen.seed, constants=chosen.constants)
        return Packed(inventory, ledger, policy, place_all=chosen.place_all)

    def _refresh(self) -> None:
        """Bring pools up to date."""
        if self.pool_book.stale:
            for key in sorted(self.pool_book.refresh()):
                state = self.pool_book.states.get(key)
                if state is not None and state.fault:
                    _log.warning("driver=%s pool=%s %s", *key, state.fault)
                for device, need in state.beyond_us.items() if state else ():
                    _log.warning("driver=%s pool=%s device=%s is left out: it needs %s", *key, device, need)
            if self.settings.every_driver:
                self.drivers = frozenset(self.settings.drivers) | {key.driver for key in self.pool_book.states}
            self._inventories += 1
            self._repack()

    def _repack(self) -> None:
        self._packed = None
        self._changes += 1

    # What claims are resolved in

    @property
    def inventory(self) -> int:
        """A number that changes whenever the pools do."""
        self._refresh()
        return self._inventories

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        """Return a claim."""
        return self.store.claims.get(namespace, name)

    def claims_of(self, uid: str) -> list[ResourceClaim]:
        """Return the claims whose controller is the pod of that UID."""
        return self.store.claims_of(uid)

    def device_class(self, name: str) -> DeviceClass | None:
        """Return a class."""
        return self.store.classes.get("", name)

    def classes(self) -> Iterator[DeviceClass]:
        """Return all classes."""
        return iter(self.store.classes)

    def namespace(self, name: str) -> Namespace | None:
        """Return a namespace."""
        return self.store.namespaces.get("", name)

    def nodes_admitted(self, selector: NodeSelector) -> frozenset[NodeName]:
        """Return the nodes that a selector admits."""
        return self.store.nodes_admitted(selector)

    def nodes(self) -> frozenset[NodeName]:
        """Return all nodes."""
        return self.store.node_names()

    def nodes_offering(self, resource: str) -> frozenset[NodeName]:
        """Return the nodes whose allocatable has some of a resource."""
        return self.store.nodes_offering(resource)

    def pools(self) -> list[Pool]:
        """Return the usable pools of our drivers, by driver and name."""
        self._refresh()
        return self.pool_book.usable(lambda driver: driver in self.drivers)

    def foreign_pools(self) -> list[Pool]:
        """Return the usable pools of all other drivers, by driver and name."""
        self._refresh()
        return self.pool_book.usable(lambda driver: driver not in self.drivers)
