"""Usage and InUse of one inventory, kept in step: claims by UID, pods' cores and memory.

What the core cannot hold (a device that two claims hold, a share of nothing) stays in InUse alone and is tried again
when something leaves the node; until then `place()` does not speak for that node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from packing.dra.amounts import mib, whole
from packing.dra.inuse import InUse
from packing.dra.inventory import Inventory
from packing.dra.model import Amount, ClaimUid, Given, GpuPart, PartKind
from packing.kernels.arrays import CPU, MEMORY, Flags, Ints
from packing.model import (
    MAX_REQUESTS_PER_POD,
    ClaimId,
    Demand,
    Devices,
    NodeName,
    PartitionRequest,
    Placement,
    Request,
    ShareRequest,
    WholeRequest,
)
from packing.usage import Usage
from topology.errors import InvalidInputError

Unit = tuple[Request, Devices]

MEMORY_CAPACITY = "memory"
COMPUTE_CAPACITY = "computeMilli"
"""Capacities of a share, as our driver publishes them (docs/devices.md)."""


class Ledger:
    """What is in use on an inventory.

    `exact` [N]: nodes of which core and devices say the same. `version` [N]: the change, counted by `events`, that last
    concerned each node.
    """

    def __init__(self, inventory: Inventory) -> None:
        """Start with nothing in use."""
        self.inventory = inventory
        self.usage = Usage(inventory.fabric)
        self.in_use = InUse()
        self.exact: Flags = np.ones(len(inventory.reach), dtype=np.bool_)
        self.version: Ints = np.zeros(len(inventory.reach), dtype=np.int64)
        self.events = 0
        self._held: dict[str, list[ClaimId]] = {}
        """What the core holds for a claim or a pod."""
        self._waiting: dict[int, dict[str, None]] = {}
        """Node -> claims and pods of which it does not hold all."""
        self._pods: dict[str, tuple[NodeName, int, int]] = {}

    def add_claim(self, claim: ClaimUid, results: Iterable[Given]) -> bool:
        """Take up what an allocated claim holds; False where nothing changes."""
        results = tuple(results)
        if self.in_use.claims.get(claim) == results:
            return False
        self.remove_claim(claim)
        self.in_use.add(claim, results)
        self._give(f"claim {claim}")
        self._changed(results)
        return True

    def remove_claim(self, claim: ClaimUid) -> bool:
        """Forget what a claim holds; False where it is not known."""
        results = self.in_use.claims.get(claim, ())
        if not self.in_use.remove(claim):
            return False
        self._take_back(f"claim {claim}")
        self._changed(results)
        return True

    def add_pod(self, pod: str, node: NodeName, cpu_milli: int, memory_mib: int) -> bool:
        """Take up the cores and memory of a pod, by UID; False where nothing changes or the node is not known."""
        held = (node, cpu_milli, memory_mib)
        if self._pods.get(pod) == held or node not in self.inventory.fabric.index:
            return False
        self.remove_pod(pod)
        self._pods[pod] = held
        self._give(f"pod {pod}")
        self._pod_changed(node)
        return True

    def remove_pod(self, pod: str) -> bool:
        """Forget a pod; False where it is not known."""
        held = self._pods.pop(pod, None)
        if held is None:
            return False
        self._take_back(f"pod {pod}")
        self._pod_changed(held[0])
        return True

    @contextmanager
    def without(self, claims: Iterable[ClaimUid], pods: Iterable[str] = ()) -> Iterator[None]:
        """Let go of claims and pods for the length of a `with`; then they are held again."""
        gone = {claim: self.in_use.claims[claim] for claim in claims if claim in self.in_use.claims}
        left = {pod: self._pods[pod] for pod in pods if pod in self._pods}
        for claim in gone:
            self.remove_claim(claim)
        for pod in left:
            self.remove_pod(pod)
        try:
            yield
        finally:
            for claim, results in gone.items():
                self.add_claim(claim, results)
            for pod, (node, cpu_milli, memory_mib) in left.items():
                self.add_pod(pod, node, cpu_milli, memory_mib)

    def copy(self) -> Ledger:
        """Return an independent copy."""
        twin = Ledger(self.inventory)
        for claim, results in self.in_use.claims.items():
            twin.add_claim(claim, results)
        for pod, held in self._pods.items():
            twin.add_pod(pod, *held)
        return twin

    def moved(self, inventory: Inventory) -> Ledger:
        """Return what is in use on another inventory of the same cluster. This ledger is not to be used any more.

        Nodes that did not change are taken over as they are; what is held on the others is given anew.
        """
        twin = Ledger(inventory)
        twin.in_use = self.in_use
        twin.usage = self.usage.moved(inventory.fabric, self._same_nodes(inventory))
        twin._pods = {pod: held for pod, held in self._pods.items() if held[0] in inventory.fabric.index}
        holders = [*(f"claim {claim}" for claim in self.in_use.claims), *(f"pod {pod}" for pod in twin._pods)]
        waiting = frozenset().union(*self._waiting.values())
        for holder in holders:
            held = self._held.get(holder, [])
            kept = [claim for claim in held if claim in twin.usage.claims]
            if held and len(kept) == len(held) and holder not in waiting:
                twin._held[holder] = held
                continue
            for claim in kept:
                twin.usage.release(claim)
            twin._give(holder)
        return twin

    def _same_nodes(self, inventory: Inventory) -> list[tuple[int, int]]:
        """Return (index here, index there) of nodes that are the same in both, and of which nothing waits."""
        here, there = self.inventory, inventory
        found = []
        for at, node in enumerate(there.fabric.nodes):
            before = here.fabric.index.get(node.name)
            if (
                before is not None
                and before not in self._waiting
                and here.fabric.nodes[before] == node
                and _devices(here, before) == _devices(there, at)
            ):
                found.append((before, at))
        return found

    def _changed(self, results: tuple[Given, ...]) -> None:
        """Give a new version to the nodes that reach the devices."""
        self.events += 1
        for pool in {given.device[:2] for given in results}:
            nodes = self.inventory.nodes_of.get(pool)
            if nodes is not None:
                self.version[nodes] = self.events

    def _pod_changed(self, node: NodeName) -> None:
        self.events += 1
        self.version[self.inventory.fabric.index[node]] = self.events

    def _give(self, holder: str) -> None:
        """Tell the core what a claim or pod holds."""
        kind, _, uid = holder.partition(" ")
        if kind == "pod":
            self._give_pod(holder, *self._pods[uid])
            return
        for node, givens in self._by_node(self.in_use.claims[ClaimUid(uid)]).items():
            name = self.inventory.fabric.nodes[node].name
            try:
                units = self._units(node, givens)
                for first in range(0, len(units), MAX_REQUESTS_PER_POD):
                    some = units[first : first + MAX_REQUESTS_PER_POD]
                    demand = Demand(requests=tuple(request for request, _ in some))
                    placement = Placement(node=name, devices=tuple(devices for _, devices in some))
                    self._restore(holder, demand, placement)
            except InvalidInputError:
                self._waiting.setdefault(node, {})[holder] = None
                self.exact[node] = False

    def _give_pod(self, holder: str, node: NodeName, cpu_milli: int, memory_mib: int) -> None:
        """Take up cores and memory; of a pod that holds more than is left, as static pods may, all that is left."""
        at = self.inventory.fabric.index[node]
        left = self.usage.arrays.nodes[at]
        if cpu_milli > left[CPU] or memory_mib > left[MEMORY]:
            cpu_milli, memory_mib = min(cpu_milli, int(left[CPU])), min(memory_mib, int(left[MEMORY]))
            self._waiting.setdefault(at, {})[holder] = None
        self._restore(holder, Demand(cpu_milli=cpu_milli, memory_mib=memory_mib), Placement(node=node, devices=()))

    def _restore(self, holder: str, demand: Demand, placement: Placement) -> None:
        held = self._held.setdefault(holder, [])
        claim = ClaimId(f"{holder}/{len(held)}")
        self.usage.restore(claim, demand, placement)
        held.append(claim)

    def _take_back(self, holder: str) -> None:
        """Tell the core that a claim or pod is gone, and try again what had no room beside it."""
        nodes = {node for node, waiting in self._waiting.items() if waiting.pop(holder, 0) is None}
        for claim in self._held.pop(holder, []):
            nodes.add(self.usage.claims[claim].node)
            self.usage.release(claim)
        for node in nodes:
            self._try_again(node)

    def _try_again(self, node: int) -> None:
        """Give what waits on a node, in the order it came."""
        waiting = self._waiting.pop(node, {})
        self.exact[node] = True
        for holder in waiting:
            for claim in self._held.pop(holder, []):
                self.usage.release(claim)
            self._give(holder)

    def _by_node(self, results: tuple[Given, ...]) -> dict[int, list[tuple[int, Given]]]:
        """Return the results that are GPUs of ours, with their bits, by node."""
        nodes: dict[int, list[tuple[int, Given]]] = {}
        for given in results:
            located = None if given.admin else self.inventory.locate(given.device)
            if located is not None:
                nodes.setdefault(located.node, []).append((located.bit, given))
        return nodes

    def _units(self, node: int, givens: list[tuple[int, Given]]) -> list[Unit]:
        """Return devices of a node as the core has them; whole GPUs of one request are one unit.

        InvalidInputError where it has none such.
        """
        units: list[Unit] = []
        wholes: dict[str, list[int]] = {}
        parts = self.inventory.layout(node).parts
        for bit, given in givens:
            part = parts.get(bit)
            if part is None or (given.consumed is not None) != (part.kind is PartKind.SHARE):
                raise InvalidInputError(f"device {given.device.name}", "", "is allocated as what it is not")
            if part.kind is PartKind.WHOLE:
                wholes.setdefault(given.request, []).append(part.gpu)
            else:
                units.append(part_unit(part, given))
        units += [(WholeRequest(count=len(gpus)), Devices(gpus=tuple(sorted(gpus)))) for gpus in wholes.values()]
        return units


def _devices(inventory: Inventory, node: int) -> list[tuple[str, str, int, int]]:
    """Return what identifies the devices that a node reaches."""
    return [(one.pool.driver, one.pool.name, id(one.pool.shape), one.mask) for one in inventory.reach[node]]


def part_unit(part: GpuPart, given: Given) -> Unit:
    """Return a partition or a share as a request of the core and its devices; InvalidInputError: a share of nothing."""
    if part.kind is PartKind.PARTITION:
        devices = Devices(gpus=(part.gpu,), profile=part.profile, start=part.start)
        return PartitionRequest(profile=part.profile), devices
    compute, memory = share_amounts(given.consumed or {})
    return ShareRequest(compute_milli=compute, memory_mib=memory, sharing=part.sharing), Devices(gpus=(part.gpu,))


def share_amounts(consumed: Mapping[str, Amount]) -> tuple[int, int]:
    """Return (thousandths of a GPU, MiB) of a share by its consumed capacity."""
    return whole(consumed.get(COMPUTE_CAPACITY, Amount(0))), mib(consumed.get(MEMORY_CAPACITY, Amount(0)))
