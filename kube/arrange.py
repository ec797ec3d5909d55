"""Nodes and pools -> the Fabric and the Inventory of the core.

Nodes are in the order of the planner's cluster files: by rank, then by name, so that a live cluster breaks ties as the
planner does. The rank of a node is 0 unless its annotation `dovetail.dev/rank` says otherwise (lowest first).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from kube.gpus import EMPTY_LAYOUT, GpuLayout, read_layout
from kube.objects import Node
from kube.pools import Pools
from kube.quantity import parse_quantity
from packing.dra.inventory import Inventory, build_inventory
from packing.dra.model import NANO, Pool, PoolShape, Reach
from packing.fabric import build_fabric
from packing.model import MAX_AMOUNT, NodeName
from packing.model import Node as CoreNode
from topology.errors import InvalidInputError

RANK = "dovetail.dev/rank"
"""Annotation of nodes: whole number; among nodes of equal score the lowest is taken first."""
MIB = 1 << 20
_log = logging.getLogger(__name__)


class Arranger:
    """Arranges nodes and pools. Remembers what pool shapes say of GPUs, as long as there are such pools."""

    def __init__(self, gpu_driver: str) -> None:
        self._gpu_driver = gpu_driver
        self._layouts: WeakKeyDictionary[PoolShape, GpuLayout] = WeakKeyDictionary()

    def arrange(self, nodes: Iterable[Node], pools: Pools, drivers: frozenset[str]) -> Inventory:
        """Return the inventory of `nodes`, with its fabric. `pools` must be refreshed."""
        reach: dict[NodeName, tuple[Reach, ...]] = {}
        core: list[CoreNode] = []
        unready: list[NodeName] = []
        for node in nodes:
            name = NodeName(node.metadata.name)
            reach[name] = pools.reaches(node, drivers)
            core.append(self._node(node, pools.local_pools(name, self._gpu_driver)))
            if pools.unready(node, drivers):
                unready.append(name)
        return build_inventory(build_fabric(tuple(core)), reach, unready)

    def layout(self, pool: Pool) -> GpuLayout:
        """Return what a pool of our GPU driver says of its node; what is odd about it is logged once a shape."""
        known = self._layouts.get(pool.shape)
        if known is None:
            known = self._layouts[pool.shape] = read_layout(pool.shape)
            for fault in known.faults:
                _log.warning("pool=%s %s", pool.name, fault)
        return known

    def _node(self, node: Node, pools: list[Pool]) -> CoreNode:
        """Return a node of the core. The GPUs of one with several pools of our driver are no concern of the core."""
        (pool,) = pools if len(pools) == 1 else (None,)
        layout = EMPTY_LAYOUT if pool is None else self.layout(pool)
        return CoreNode(
            name=NodeName(node.metadata.name),
            shape=layout.shape,
            cpu_milli=_allocatable(node, "cpu", NANO // 1000),
            memory_mib=_allocatable(node, "memory", NANO * MIB),
            mig_mode=layout.mig_mode,
            unhealthy=frozenset() if pool is None else layout.unhealthy(pool),
            rank=rank_of(node),
        )


def rank_of(node: Node) -> int:
    """Return the rank that a node's annotation gives it, 0 without one."""
    text = node.metadata.annotations.get(RANK, "0")
    try:
        return int(text)
    except ValueError:
        _log.warning("node=%s annotation %s is %r; write a whole number, 0 counts", node.metadata.name, RANK, text[:80])
        return 0


def same_to_us(one: Node, other: Node) -> bool:
    """Whether two states of a node are the same to the core: heartbeats and images change nothing."""
    return (
        one.metadata.uid == other.metadata.uid
        and one.status.allocatable == other.status.allocatable
        and one.metadata.labels == other.metadata.labels
        and one.metadata.annotations.get(RANK) == other.metadata.annotations.get(RANK)
    )


def _allocatable(node: Node, resource: str, unit: int) -> int:
    """Return what pods may use of a resource, whole units; 0 where the node does not say."""
    try:
        amount = parse_quantity(node.status.allocatable.get(resource, 0)) // unit
    except InvalidInputError as error:
        _log.warning("node=%s allocatable %s: %s", node.metadata.name, resource, error)
        return 0
    return min(max(amount, 0), MAX_AMOUNT)
