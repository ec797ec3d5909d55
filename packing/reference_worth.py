"""What a node is worth to the demand to come, spec by spec of the mix. Slow truth for `packing.kernels.worth`.

docs/decisions/0003-default-policy.md derives the terms. Worth is in nano-GPU, weights of specs in millionths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from packing.mix import DemandMix, Spec
from packing.model import WHOLE_MILLI, GpuModel, NodeShape, PartitionRequest, ShareRequest, WholeRequest
from packing.reference_frag import room, slice_loss, slice_share
from packing.reference_links import links_of
from packing.reference_state import Gpu, NodeState, satisfies
from topology.mig import MigGeometry

GIGA = 1_000_000_000
PART_EXPONENT = 2.0
WHOLE_EXPONENT = 0.75
LINK_ROOM = 2
VALUE = {"dovetail": 10.0, "dovetail-wait": 3.0}
WHOLE_SHARE = {"dovetail": 0.0, "dovetail-wait": 1.0}
CPU_PRICE = round(0.015 * GIGA / 1000)
"""Nano-GPU per millicore that idle GPUs will lack."""
MEMORY_PRICE = round(0.006 * GIGA / 1024)
"""The same per MiB."""
KEEP_WHOLE = 0.9
KEEP_SHARE = 1.35
STRANDED = 4 * GIGA // 1_000_000
"""Nano-GPU per millionth of a GPU's slices that no profile could use."""


def geometries_of(shapes: Iterable[NodeShape]) -> tuple[MigGeometry, ...]:
    """Return the geometries with known placements on these machines."""
    found = {gpu.mig.id: gpu.mig for shape in shapes for gpu in shape.gpus if gpu.mig is not None and gpu.mig.placeable}
    return tuple(found.values())


@dataclass
class Worth:
    """Values nodes of a cluster of `shapes` by the demand that `mix` foretells."""

    mix: DemandMix
    shapes: tuple[NodeShape, ...]
    name: str = "dovetail"
    specs: list[tuple[Spec, int]] = field(init=False)
    """With the weight of each."""

    def __post_init__(self) -> None:
        """Weigh the specs: a power of the GPUs each takes, adding up to a million."""
        specs = self.mix.specs()
        sizes = [self._size(spec) for spec in specs]
        raw = np.array([size ** -(PART_EXPONENT if size < 1 else WHOLE_EXPONENT) for size in sizes])
        shares = raw / raw.sum()
        wholes = sum(share for share, size in zip(shares, sizes, strict=True) if size >= 1)
        if 0 < wholes < WHOLE_SHARE[self.name]:
            raised = WHOLE_SHARE[self.name] / wholes
            shares = [share * raised if size >= 1 else share for share, size in zip(shares, sizes, strict=True)]
        self.specs = [(spec, round(share * 1e6)) for spec, share in zip(specs, shares, strict=True)]
        self.values = self.mix.remainder_values().tolist()
        self.cpu_per_gpu, self.memory_per_gpu = self.mix.cores_and_memory_per_gpu()

    def _size(self, spec: Spec) -> float:
        """GPUs a spec takes, at least a thousandth."""
        request = spec.request
        if isinstance(request, WholeRequest):
            return float(request.count)
        if isinstance(request, ShareRequest):
            largest = max((gpu.memory_mib for shape in self.shapes for gpu in shape.gpus), default=0)
            of_memory = request.memory_mib / largest if largest else 0.0
            return max(0.001, request.compute_milli / WHOLE_MILLI, of_memory)
        fitting = [
            profile.size / geometry.memory_slices
            for geometry in geometries_of(self.shapes)
            for profile in geometry.profiles
            if satisfies(profile, request)
        ]
        return min(fitting, default=1.0)

    def link_ideal(self, shape: NodeShape, count: int) -> int:
        """Return the best quality of `count` GPUs on any empty machine with the same products, MB/s."""
        products = {gpu.product for gpu in shape.gpus}
        alike = [other for other in self.shapes if {gpu.product for gpu in other.gpus} == products]
        return max(int(links_of(other.links).ideal[count]) for other in alike if count <= len(other.gpus))

    def of(self, state: NodeState) -> int:
        """Return what a node is worth: its idle GPUs and their links, every remainder, less what will be short."""
        served = [
            (spec, weight)
            for spec, weight in self.specs
            if spec.cpu_milli <= state.cpu_milli and spec.memory_mib <= state.memory_mib
        ]
        idle = state.idle
        worth = LINK_ROOM * links_of(state.node.shape.links).excess(sum(1 << i for i in idle))
        for spec, weight in served:
            if isinstance(spec.request, WholeRequest):
                usable = sum(spec.request.selector.matches(state.gpus[i].model) for i in idle)
                worth += weight * WHOLE_MILLI * usable if usable >= spec.request.count else 0
        worth += sum(self._gpu(gpu, served) for gpu in state.gpus)
        return worth - self._shortage(state)

    def _gpu(self, gpu: Gpu, served: list[tuple[Spec, int]]) -> int:
        """Return what the rest of one GPU is worth to shares and partitions."""
        if gpu.partitioned:
            return self._slices(gpu, served)
        left = gpu.remainder
        worth: int = round(VALUE[self.name] * self.values[left] * GIGA)
        for spec, weight in served:
            if isinstance(spec.request, ShareRequest) and spec.request.selector.matches(gpu.model):
                size = share_size(spec.request, gpu.model)
                worth += weight * left if size is not None and size <= left else 0
        return worth if gpu.units else worth + self._slices(gpu, served)

    def _slices(self, gpu: Gpu, served: list[tuple[Spec, int]]) -> int:
        """Return what free slices are worth to partitions, less what the taken ones have stranded."""
        geometry = gpu.geometry
        if geometry is None or not gpu.may_be_partitioned:
            return 0
        taken = gpu.occupation.slices
        stranded = slice_loss(geometry, taken) - slice_loss(geometry, 0)
        worth = -(stranded * STRANDED // geometry.memory_slices)
        for spec, weight in served:
            request = spec.request
            if isinstance(request, PartitionRequest) and request.selector.matches(gpu.model):
                fitting = [p for p in geometry.profiles if satisfies(p, request) and room(p, taken)]
                worth += weight * min((slice_share(geometry, profile) for profile in fitting), default=0)
        return worth

    def _shortage(self, state: NodeState) -> int:
        """Price of the cores and memory that what is left of the GPUs will lack."""
        cpu = sum(self._kept(gpu.remainder, self.cpu_per_gpu) for gpu in state.gpus)
        memory = sum(self._kept(gpu.remainder, self.memory_per_gpu) for gpu in state.gpus)
        return CPU_PRICE * max(0, cpu - state.cpu_milli) + MEMORY_PRICE * max(0, memory - state.memory_mib)

    def _kept(self, left: int, per_gpu: float) -> int:
        """Cores or memory to keep for a remainder, in the unit of `per_gpu`."""
        if left == WHOLE_MILLI:
            return round(KEEP_WHOLE * per_gpu)
        full = self.values[WHOLE_MILLI]
        return round(KEEP_SHARE * self.values[left] / full * per_gpu) if full > 0 else 0


def share_size(request: ShareRequest, gpu: GpuModel) -> int | None:
    """Return the thousandths of a GPU that a share takes by its larger dimension, rounded up; None = does not fit."""
    if request.memory_mib == 0:
        return request.compute_milli
    if gpu.memory_mib == 0:
        return None
    size = max(request.compute_milli, -(-request.memory_mib * WHOLE_MILLI // gpu.memory_mib))
    return size if size <= WHOLE_MILLI else None
