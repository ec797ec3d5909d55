"""The devices that each node reaches, and how they are the GPUs of the core: static, rebuilt when pools change.

Nodes alike share a `Layout`. A device of a node is a bit: the pools it reaches stand one after the other in the order
of the in-tree allocator, each with all positions of its shape, reached or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from packing.dra.inuse import positions
from packing.dra.layout import Layout, layout_of
from packing.dra.model import DeviceId, Effect, Reach
from packing.fabric import Fabric
from packing.kernels.arrays import Flags, Ints
from packing.model import NodeName

NO_POOLS: tuple[Reach, ...] = ()


@dataclass(frozen=True, slots=True)
class Located:
    """A device of our GPUs: its node and its bit in the layout of that node."""

    node: int
    bit: int


@dataclass(frozen=True, eq=False, repr=False)
class Inventory:
    """Nodes as the fabric has them, in its order, and what each reaches.

    `plain` [N]: nodes whose GPUs are exactly what the core takes them for, so that `place()` speaks for their devices
    too; taints that keep pods away are on all devices of a GPU, which is unhealthy to the core. `tainted` [N]: nodes
    with such taints, which a toleration brings back. `unready` [N]: nodes that reach a pool whose slices are incomplete
    or invalid, on which nothing may be asked for with `All`.
    """

    fabric: Fabric
    reach: tuple[tuple[Reach, ...], ...]
    layouts: tuple[Layout, ...]
    layout_at: Ints
    plain: Flags
    tainted: Flags
    unready: Flags

    def __repr__(self) -> str:
        """Say the size alone."""
        return f"Inventory({len(self.reach)} nodes, {len(self.layouts)} layouts)"

    def layout(self, node: int) -> Layout:
        """Return the layout of a node."""
        return self.layouts[int(self.layout_at[node])]

    def device(self, node: int, bit: int) -> DeviceId:
        """Return the name of a device of a node."""
        r, position = self.layout(node).place_of(bit)
        return self.reach[node][r].pool.device(position)

    def locate(self, device: DeviceId) -> Located | None:
        """Return where a device of our GPUs is; None for any other."""
        at = self._gpu_pools.get((device.driver, device.pool))
        if at is None:
            return None
        node, r = at
        position = positions(self.reach[node][r].pool.shape).get(device.name)
        return None if position is None else Located(node, self.layout(node).starts[r] + position)

    @cached_property
    def _gpu_pools(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Pool -> (node, which of the pools it reaches), for pools of our GPUs."""
        return {
            (reach.pool.driver, reach.pool.name): (n, r)
            for n, reached in enumerate(self.reach)
            for r, reach in enumerate(reached)
            if reach.local and self.layout(n).has_parts[r]
        }

    @cached_property
    def nodes_of(self) -> dict[tuple[str, str], Ints]:
        """Driver and pool -> indices of the nodes that reach it."""
        nodes: dict[tuple[str, str], list[int]] = {}
        for n, reached in enumerate(self.reach):
            for one in reached:
                nodes.setdefault((one.pool.driver, one.pool.name), []).append(n)
        return {pool: np.array(found, dtype=np.int64) for pool, found in nodes.items()}


def build_inventory(
    fabric: Fabric, reach: Mapping[NodeName, Sequence[Reach]], unready: Iterable[NodeName] = ()
) -> Inventory:
    """Arrange the pools that nodes reach as the in-tree allocator does; nodes not named reach none."""
    layouts: dict[tuple[object, ...], int] = {}
    found: list[Layout] = []
    at, arranged = [], []
    for n, node in enumerate(fabric.nodes):
        reached = tuple(sorted(reach.get(node.name, NO_POOLS), key=_in_tree))
        key = (
            int(fabric.arrays.node_shape[n]),
            node.mig_mode,
            node.unhealthy,
            *((id(one.pool.shape), one.mask, one.local) for one in reached),
        )
        if key not in layouts:
            layouts[key] = len(found)
            found.append(layout_of(node, key[0], reached))  # type: ignore[arg-type]
        at.append(layouts[key])
        arranged.append(reached)
    tainted = [_tainted(found[i], reached) for i, reached in zip(at, arranged, strict=True)]
    plain = [
        found[i].plain and _kept_off(found[i], bits) == _with_devices(found[i], node.unhealthy)
        for i, bits, node in zip(at, tainted, fabric.nodes, strict=True)
    ]
    missing = frozenset(unready)
    return Inventory(
        fabric=fabric,
        reach=tuple(arranged),
        layouts=tuple(found),
        layout_at=np.array(at, dtype=np.int64),
        plain=np.array(plain, dtype=np.bool_),
        tainted=np.array([bits != 0 for bits in tainted], dtype=np.bool_),
        unready=np.array([node.name in missing for node in fabric.nodes], dtype=np.bool_),
    )


def _in_tree(reach: Reach) -> tuple[bool, str, str]:
    """Order of pools (1.36 and later): by driver and name, those with binding conditions last."""
    devices = reach.pool.shape.devices
    waits = any(device.binding_conditions for at, device in enumerate(devices) if reach.mask >> at & 1)
    return waits, reach.pool.driver, reach.pool.name


def _tainted(layout: Layout, reached: tuple[Reach, ...]) -> int:
    """Return the GPUs of ours, and parts of them, with a taint that keeps pods away, bit mask."""
    bits = 0
    for one, start in zip(reached, layout.starts, strict=True):
        for at, taints in one.pool.tainted.items():
            if start + at in layout.parts and any(taint.effect is not Effect.NONE for taint in taints):
                bits |= 1 << (start + at)
    return bits


def _kept_off(layout: Layout, tainted: int) -> frozenset[int] | None:
    """Return the GPUs all of whose devices are tainted; None where of some GPU only some are."""
    if not tainted:
        return frozenset()
    some = {part.gpu for bit, part in layout.parts.items() if tainted >> bit & 1}
    spared = {part.gpu for bit, part in layout.parts.items() if not tainted >> bit & 1}
    return None if some & spared else frozenset(some)


def _with_devices(layout: Layout, gpus: frozenset[int]) -> frozenset[int]:
    """Return the GPUs that have devices at all."""
    return gpus & {part.gpu for part in layout.parts.values()} if gpus else gpus
