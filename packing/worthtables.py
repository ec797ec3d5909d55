"""Folds the demand mix into tables, so that what a node is worth to it costs a look-up per GPU.

A spec of the mix counts on a node that has its cores and memory to spare; on a GPU, once the GPU has its size left.
Both are thresholds, so the sum over all specs is a step function of (spare cores, spare memory, remainder), tabulated
here. `packing.reference` computes the same sums spec by spec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packing.classes import allowed_gpus, satisfying_profiles
from packing.fabric import Fabric
from packing.kernels.arrays import MAX_GPUS, MAY_BE_PARTITIONED, MILLI, NONE, SLICE_STATES
from packing.mix import Spec
from packing.model import GpuModel, PartitionRequest, ShareRequest, WholeRequest

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A spec and its weight in the mix, in millionths."""

    spec: Spec
    weight: int


def share_size(request: ShareRequest, gpu: GpuModel) -> int:
    """Return the thousandths of `gpu` that a share takes, by its larger dimension, rounded up; above 1000 = too big."""
    if request.memory_mib == 0:
        return request.compute_milli
    if gpu.memory_mib == 0:
        return MILLI + 1
    return max(request.compute_milli, -(-request.memory_mib * MILLI // gpu.memory_mib))


def build_tables(mix: tuple[Weighted, ...], fabric: Fabric, slice_weight: int) -> dict[str, Any]:
    """Return the default policy's arrays over steps; `slice_weight` is in nano-GPU per GPU of stranded slices."""
    cpu_steps = np.array(sorted({item.spec.cpu_milli for item in mix}), dtype=np.int64)
    memory_steps = np.array(sorted({item.spec.memory_mib for item in mix}), dtype=np.int64)
    rows = _Rows(cpu_steps, memory_steps)
    gpu_class, profiles = _gpu_classes(mix, fabric)
    return {
        "cpu_steps": cpu_steps,
        "memory_steps": memory_steps,
        "gpu_class": gpu_class,
        **_share_tables(mix, profiles, rows),
        "slice_worth": _slice_table(mix, fabric, profiles, rows, slice_weight),
        **_set_tables(mix, fabric, rows),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The grid of steps: which rows of a table a spec counts in."""

    cpu_steps: Int64
    memory_steps: Int64

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.cpu_steps) + 1, len(self.memory_steps) + 1

    def of(self, spec: Spec) -> tuple[slice, slice]:
        """Return the rows of nodes with enough cores and memory for `spec`."""
        t = int(np.searchsorted(self.cpu_steps, spec.cpu_milli)) + 1
        q = int(np.searchsorted(self.memory_steps, spec.memory_mib)) + 1
        return slice(t, None), slice(q, None)

    def table(self, tables: int, width: int) -> Int64:
        """Return zeros over (table, t, q, width)."""
        return np.zeros((tables, *self.shape, width), dtype=np.int64)

    def flat(self, table: Int64) -> Int64:
        """Return a table with its rows tq in one axis, as kernels take it."""
        return table.reshape(table.shape[0], -1, table.shape[-1])


@dataclass(frozen=True, slots=True)
class _GpuProfile:
    """What the mix wants of a GPU: per spec the size of a share (0 = none) and the MIG profiles (bit mask)."""

    share_sizes: tuple[int, ...]
    geometry: int
    partitions: tuple[int, ...]


def _gpu_classes(mix: tuple[Weighted, ...], fabric: Fabric) -> tuple[Int64, tuple[_GpuProfile, ...]]:
    """Return [G] the class of every GPU, and what the mix wants of each class."""
    geometry_at = {geometry.id: z for z, geometry in enumerate(fabric.geometries)}
    allowed = [allowed_gpus(fabric, item.spec.request.selector) for item in mix]
    known: dict[_GpuProfile, int] = {}
    by_shape: dict[tuple[int, int, bool], int] = {}
    classes = np.zeros(fabric.gpu_count, dtype=np.int64)
    for n, shape in enumerate(fabric.arrays.node_shape.tolist()):
        first = int(fabric.arrays.gpu_start[n])
        for i, gpu in enumerate(fabric.shapes[shape].gpus):
            splits = bool(fabric.arrays.gpu_modes[first + i] & MAY_BE_PARTITIONED)
            key = (shape, i, splits)
            if key not in by_shape:
                z = geometry_at.get(gpu.mig.id, NONE) if gpu.mig is not None and splits else NONE
                wants = [mask[shape] >> i & 1 for mask in allowed]
                profile = _GpuProfile(_share_sizes(mix, gpu, wants), z, _partitions(mix, fabric, z, wants))
                by_shape[key] = known.setdefault(profile, len(known))
            classes[first + i] = by_shape[key]
    if not known:
        known[_GpuProfile((0,) * len(mix), NONE, (0,) * len(mix))] = 0
    return classes, tuple(known)


def _share_sizes(mix: tuple[Weighted, ...], gpu: GpuModel, wants: list[int]) -> tuple[int, ...]:
    """Return the size of each share spec on `gpu`, 0 where it asks for something else or cannot use it."""
    sizes = []
    for item, wanted in zip(mix, wants, strict=True):
        request = item.spec.request
        size = share_size(request, gpu) if wanted and isinstance(request, ShareRequest) else 0
        sizes.append(size if size <= MILLI else 0)
    return tuple(sizes)


def _partitions(mix: tuple[Weighted, ...], fabric: Fabric, z: int, wants: list[int]) -> tuple[int, ...]:
    """Return the profiles of geometry `z` that satisfy each partition spec, bit mask."""
    masks = []
    for item, wanted in zip(mix, wants, strict=True):
        request = item.spec.request
        if wanted and z != NONE and isinstance(request, PartitionRequest):
            masks.append(satisfying_profiles(fabric.geometries[z], request))
        else:
            masks.append(0)
    return tuple(masks)


def _share_tables(mix: tuple[Weighted, ...], profiles: tuple[_GpuProfile, ...], rows: _Rows) -> dict[str, Int64]:
    """Return size_rank [1001], the number of distinct sizes up to r, and share_weight [A, TQ, J + 1] by that rank."""
    sizes = sorted({size for profile in profiles for size in profile.share_sizes if size})
    size_rank = np.searchsorted(np.array(sizes, dtype=np.int64), np.arange(MILLI + 1), side="right")
    table = rows.table(len(profiles), len(sizes) + 1)
    for a, profile in enumerate(profiles):
        for item, size in zip(mix, profile.share_sizes, strict=True):
            if size:
                table[a][(*rows.of(item.spec), slice(int(size_rank[size]), None))] += item.weight
    return {"size_rank": size_rank.astype(np.int64), "share_weight": rows.flat(table)}


def _slice_table(
    mix: tuple[Weighted, ...], fabric: Fabric, profiles: tuple[_GpuProfile, ...], rows: _Rows, slice_weight: int
) -> Int64:
    """Return [A, TQ, 256] nano-GPU that a GPU's free slices are worth, 0 for GPUs that cannot be partitioned."""
    width = SLICE_STATES if fabric.geometries else 1
    table = rows.table(len(profiles), width)
    for a, profile in enumerate(profiles):
        z = profile.geometry
        if z == NONE:
            continue
        slices = int(fabric.arrays.slice_count[z])
        loss = fabric.arrays.slice_loss[z]
        table[a] -= (loss - loss[0]) * (slice_weight // 1_000_000) // slices
        for item, allowed in zip(mix, profile.partitions, strict=True):
            if allowed:
                table[a][rows.of(item.spec)] += item.weight * _smallest_fit(fabric, z, allowed)
    return rows.flat(table)


def _smallest_fit(fabric: Fabric, z: int, allowed: int) -> Int64:
    """[256] the share of the GPU (thousandths) that the smallest allowed profile which still fits takes; 0 = none."""
    arrays = fabric.arrays
    best = np.zeros(SLICE_STATES, dtype=np.int64)
    order = np.argsort(-arrays.profile_size[z], kind="stable")
    for p in order.tolist():
        if allowed >> p & 1:
            fits = arrays.legal_starts[z, p] != 0
            best[fits] = arrays.profile_size[z, p] * MILLI // arrays.slice_count[z]
    return best


def _set_tables(mix: tuple[Weighted, ...], fabric: Fabric, rows: _Rows) -> dict[str, Int64]:
    """Return set_masks [S, B], set_table [S, B] and set_worth [K, TQ, 17] for specs of whole GPUs.

    Specs that admit the same GPUs of a shape form a group; table 0 is worth nothing and fills the rows.
    """
    allowed = [allowed_gpus(fabric, item.spec.request.selector) for item in mix]
    tables: dict[tuple[int, ...], int] = {(): 0}
    groups: list[list[tuple[int, int]]] = []
    for shape in range(len(fabric.shapes)):
        by_mask: dict[int, list[int]] = {}
        for m, item in enumerate(mix):
            if isinstance(item.spec.request, WholeRequest) and allowed[m][shape]:
                by_mask.setdefault(allowed[m][shape], []).append(m)
        groups.append([(mask, tables.setdefault(tuple(members), len(tables))) for mask, members in by_mask.items()])
    width = max(1, *(len(group) for group in groups))
    padded = [group + [(0, 0)] * (width - len(group)) for group in groups]
    worth = rows.table(len(tables), MAX_GPUS + 1)
    for members, k in tables.items():
        for m in members:
            request = mix[m].spec.request
            assert isinstance(request, WholeRequest)
            counts = np.arange(request.count, MAX_GPUS + 1)
            worth[k][(*rows.of(mix[m].spec), slice(request.count, None))] += mix[m].weight * MILLI * counts
    return {
        "set_masks": np.array([[mask for mask, _ in group] for group in padded], dtype=np.int64),
        "set_table": np.array([[table for _, table in group] for group in padded], dtype=np.int64),
        "set_worth": rows.flat(worth),
    }
