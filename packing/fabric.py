"""The static side of a cluster: nodes in tie order, and the tables their shapes and MIG geometries share.

Built once per change of nodes or devices (`packing.pack`), read by every decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packing.kernels.arrays import MAX_GPUS, MAY_BE_PARTITIONED, MAY_RUN_PODS, NONE, SLICE_STATES, FabricArrays
from packing.linktable import LinkTable, build_link_table
from packing.migtable import build_mig_table
from packing.model import MAX_AMOUNT, MigMode, Node, NodeName, NodeShape
from topology.errors import InvalidInputError
from topology.mig import MigGeometry
from topology.quality import flat_quality


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fabric:
    """Nodes in index order (rank, then name), the shapes and geometries they use, and the arrays of both."""

    nodes: tuple[Node, ...]
    index: dict[NodeName, int]
    shapes: tuple[NodeShape, ...]
    geometries: tuple[MigGeometry, ...]
    arrays: FabricArrays

    def __repr__(self) -> str:
        """Say the size alone: the arrays of a real cluster fill megabytes of a log."""
        return f"Fabric({len(self.nodes)} nodes, {self.gpu_count} GPUs, {len(self.shapes)} shapes)"

    @property
    def gpu_count(self) -> int:
        """GPUs of the cluster, healthy or not."""
        return int(self.arrays.gpu_start[-1])

    def link_table(self, shape: int) -> LinkTable:
        """Return the set tables of one shape."""
        return _link_table(self.shapes[shape])


def build_fabric(nodes: tuple[Node, ...]) -> Fabric:
    """Index the nodes and gather their tables. InvalidInputError for duplicate names or impossible nodes."""
    ordered = tuple(sorted(nodes, key=lambda node: (node.rank, node.name)))
    index = {node.name: at for at, node in enumerate(ordered)}
    if len(index) != len(ordered):
        names = [node.name for node in ordered]
        double = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError(f"node {double}", "name", "appears twice; node names are unique")
    shapes = _distinct_shapes(ordered)
    geometries = _distinct_geometries(shapes)
    for node in ordered:
        _check(node)
    arrays = FabricArrays(
        **_node_arrays(ordered, shapes, geometries), **_link_arrays(shapes), **_mig_arrays(geometries)
    )
    for array in arrays:
        array.flags.writeable = False
    return Fabric(nodes=ordered, index=index, shapes=shapes, geometries=geometries, arrays=arrays)


def _check(node: Node) -> None:
    """Refuse what no kernel could make sense of."""
    if not 0 <= node.cpu_milli <= MAX_AMOUNT or not 0 <= node.memory_mib <= MAX_AMOUNT:
        raise InvalidInputError(f"node {node.name}", "cpu_milli, memory_mib", f"must be 0 to {MAX_AMOUNT}")
    if any(not 0 <= gpu < len(node.shape.gpus) for gpu in node.unhealthy):
        raise InvalidInputError(
            f"node {node.name}", "unhealthy", f"names GPUs the node lacks: {sorted(node.unhealthy)}"
        )


def _distinct_shapes(nodes: tuple[Node, ...]) -> tuple[NodeShape, ...]:
    """Return the shapes in order of first use; identity decides, since shapes hold arrays."""
    shapes: dict[int, NodeShape] = {}
    for node in nodes:
        shapes.setdefault(id(node.shape), node.shape)
    if not shapes:
        return (NodeShape("none", (), flat_quality(0)),)
    return tuple(shapes.values())


def _distinct_geometries(shapes: tuple[NodeShape, ...]) -> tuple[MigGeometry, ...]:
    """Return the MIG geometries whose placements are known, in order of first use."""
    found: dict[str, MigGeometry] = {}
    for shape in shapes:
        for gpu in shape.gpus:
            if gpu.mig is not None and gpu.mig.placeable:
                known = found.setdefault(gpu.mig.id, gpu.mig)
                if known != gpu.mig:
                    problem = f"two MIG geometries are called {gpu.mig.id}; give one another id"
                    raise InvalidInputError(f"node shape {shape.name}", "mig", problem)
    return tuple(found.values())


def _node_arrays(
    nodes: tuple[Node, ...], shapes: tuple[NodeShape, ...], geometries: tuple[MigGeometry, ...]
) -> dict[str, Any]:
    """Return the arrays with a row per node or GPU."""
    shape_at = {id(shape): at for at, shape in enumerate(shapes)}
    geometry_at = {geometry.id: at for at, geometry in enumerate(geometries)}
    memory, geometry, modes = [], [], []
    for node in nodes:
        for i, gpu in enumerate(node.shape.gpus):
            z = geometry_at[gpu.mig.id] if gpu.mig is not None and gpu.mig.placeable else NONE
            memory.append(gpu.memory_mib)
            geometry.append(z)
            modes.append(0 if i in node.unhealthy else _modes(node.mig_mode, partitionable=z != NONE))
    counts = [len(node.shape.gpus) for node in nodes]
    return {
        "node_shape": np.array([shape_at[id(node.shape)] for node in nodes], dtype=np.int64),
        "gpu_start": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "node_size": np.array([(node.cpu_milli, node.memory_mib) for node in nodes], dtype=np.int64).reshape(-1, 2),
        "gpu_memory": np.array(memory, dtype=np.int64),
        "gpu_geometry": np.array(geometry, dtype=np.int64),
        "gpu_modes": np.array(modes, dtype=np.int64),
        "shape_gpus": np.array([len(shape.gpus) for shape in shapes], dtype=np.int64),
    }


def _modes(mode: MigMode, *, partitionable: bool) -> int:
    """Return what a healthy GPU may be used for. MIG mode on a GPU that cannot be partitioned changes nothing."""
    if not partitionable or mode is MigMode.DISABLED:
        return MAY_RUN_PODS
    return MAY_BE_PARTITIONED if mode is MigMode.ENABLED else MAY_RUN_PODS | MAY_BE_PARTITIONED


@lru_cache(maxsize=256)
def _link_table(shape: NodeShape) -> LinkTable:
    """Return the set tables of a shape; one per shape, shared by its nodes."""
    return build_link_table(shape.links)


@lru_cache(maxsize=MAX_GPUS + 1)
def _flat_value(gpu_count: int) -> NDArray[np.int64]:
    """Return the worth of every set of a machine whose links are all alike."""
    return build_link_table(flat_quality(gpu_count)).value


def link_excess(table: LinkTable, gpu_count: int) -> NDArray[np.int64]:
    """[2**n] nano-GPU by which links lower the worth of a free set beyond its size; 0 where links are all alike."""
    flat = _flat_value(gpu_count)
    sizes = np.array([mask.bit_count() for mask in range(1 << gpu_count)], dtype=np.int64)
    by_size = flat[(1 << np.arange(gpu_count + 1, dtype=np.int64)) - 1]
    excess: NDArray[np.int64] = table.value - by_size[sizes]
    return excess


def _islands(shape: NodeShape) -> list[int]:
    """[17] 1 where some set of that size is joined by NVLink alone on the empty node."""
    n = len(shape.gpus)
    sizes = np.array([mask.bit_count() for mask in range(1 << n)], dtype=np.int64)
    joined = set(sizes[shape.links.nvlink == 1].tolist())
    return [int(size in joined) for size in range(MAX_GPUS + 1)]


def _link_arrays(shapes: tuple[NodeShape, ...]) -> dict[str, Any]:
    """Return the arrays over GPU sets, all shapes in one row."""
    tables = [_link_table(shape) for shape in shapes]
    sizes = [len(shape.gpus) for shape in shapes]
    ideal = np.zeros((len(shapes), MAX_GPUS + 1), dtype=np.int64)
    for at, table in enumerate(tables):
        ideal[at, : sizes[at] + 1] = table.ideal
    products = [frozenset(gpu.product for gpu in shape.gpus) for shape in shapes]
    alike = np.array([[one == other for other in products] for one in products])
    masks = [1 << n for n in sizes]
    sets = [(n + 1) << n for n in sizes]
    return {
        "mask_start": np.concatenate([[0], np.cumsum(masks)[:-1]]).astype(np.int64),
        "set_start": np.concatenate([[0], np.cumsum(sets)[:-1]]).astype(np.int64),
        "quality": np.concatenate([shape.links.quality_mbps for shape in shapes]),
        "nvlink": np.concatenate([shape.links.nvlink.astype(np.int64) for shape in shapes]),
        "link_excess": np.concatenate([link_excess(t, n) for t, n in zip(tables, sizes, strict=True)]),
        "ideal": ideal,
        "product_ideal": np.stack([ideal[same].max(axis=0) for same in alike]),
        "island": np.array([_islands(shape) for shape in shapes], dtype=np.int64),
        "best_sets": np.stack(
            [
                np.concatenate([t.best_none.ravel() for t in tables]),
                np.concatenate([t.best_prefer.ravel() for t in tables]),
                np.concatenate([t.best_quality.ravel() for t in tables]),
            ]
        ),
    }


def _mig_arrays(geometries: tuple[MigGeometry, ...]) -> dict[str, Any]:
    """Return the arrays over MIG geometries, padded to the longest."""
    zs = max(1, len(geometries))
    ps = max([1, *(len(geometry.profiles) for geometry in geometries)])
    slice_count = np.ones(zs, dtype=np.int64)
    size = np.zeros((zs, ps), dtype=np.int64)
    legal = np.zeros((zs, ps, SLICE_STATES), dtype=np.int64)
    best = np.full((zs, ps, SLICE_STATES), NONE, dtype=np.int64)
    loss = np.zeros((zs, SLICE_STATES), dtype=np.int64)
    take = np.zeros((zs, ps), dtype=np.int64)
    block = np.zeros((zs, ps), dtype=np.int64)
    for z, geometry in enumerate(geometries):
        table = build_mig_table(geometry)
        p, states = table.legal_starts.shape
        slice_count[z] = geometry.memory_slices
        size[z, :p] = [profile.size for profile in geometry.profiles]
        legal[z, :p, :states] = table.legal_starts
        best[z, :p, :states] = table.best_start
        loss[z, :states] = table.frag
        take[z, :p] = table.excl_take
        block[z, :p] = table.excl_block
    return {
        "slice_count": slice_count,
        "profile_size": size,
        "legal_starts": legal,
        "best_start": best,
        "slice_loss": loss,
        "profile_excl": np.stack([take, block]),
    }
