"""The state of a cluster as claims see it, from a few objects."""

from __future__ import annotations

from collections.abc import Iterable

from kube.encode import Whereabouts, whereabouts_in
from kube.nodeselect import selects
from kube.objects import DeviceClass, Namespace, Node, NodeSelector, ResourceClaim, ResourceSlice
from kube.pools import Pools
from packing.dra.model import DeviceId, Pool
from packing.model import NodeName
from tests.kube.builders import DRIVER


class Shelf:
    """Implements `Surroundings`. Change the fields as you like; slices through `put_slices`."""

    def __init__(
        self,
        slices: Iterable[ResourceSlice] = (),
        claims: Iterable[ResourceClaim] = (),
        classes: Iterable[DeviceClass] = (),
        namespaces: Iterable[Namespace] = (),
        nodes: Iterable[Node] = (),
        drivers: Iterable[str] = (DRIVER,),
    ) -> None:
        self.drivers = frozenset(drivers)
        self.inventory = 0
        self.claims = {(each.metadata.namespace, each.metadata.name): each for each in claims}
        self.device_classes = {each.metadata.name: each for each in classes}
        self.namespaces = {each.metadata.name: each for each in namespaces}
        self.all_nodes = {each.metadata.name: each for each in nodes}
        self.of_slices = Pools(DRIVER)
        self.put_slices(slices)

    def put_slices(self, slices: Iterable[ResourceSlice]) -> None:
        for each in slices:
            self.of_slices.put(each)
        self.of_slices.refresh()
        self.inventory += 1

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        return self.claims.get((namespace, name))

    def claims_of(self, uid: str) -> list[ResourceClaim]:
        owned = [each for each in self.claims.values() if each.metadata.controller is not None]
        return [each for each in owned if each.metadata.controller.uid == uid]

    def device_class(self, name: str) -> DeviceClass | None:
        return self.device_classes.get(name)

    def classes(self) -> Iterable[DeviceClass]:
        return self.device_classes.values()

    def namespace(self, name: str) -> Namespace | None:
        return self.namespaces.get(name)

    def nodes(self) -> frozenset[NodeName]:
        return frozenset(map(NodeName, self.all_nodes))

    def nodes_admitted(self, selector: NodeSelector) -> frozenset[NodeName]:
        return frozenset(
            NodeName(name) for name, node in self.all_nodes.items() if selects(selector, name, node.metadata.labels)
        )

    def nodes_offering(self, resource: str) -> frozenset[NodeName]:
        offers = {name for name, node in self.all_nodes.items() if node.status.allocatable.get(resource, "0") != "0"}
        return frozenset(map(NodeName, offers))

    def pools(self) -> list[Pool]:
        return [pool for pool in self._pools() if pool.driver in self.drivers]

    def foreign_pools(self) -> list[Pool]:
        return [pool for pool in self._pools() if pool.driver not in self.drivers]

    def whereabouts(self, device: DeviceId) -> Whereabouts:
        return whereabouts_in(self.of_slices, device)

    def _pools(self) -> list[Pool]:
        states = sorted(self.of_slices.states.items())
        return [state.pool for _, state in states if state.pool is not None]
