"""Pools of our driver as the core sees them: GPU models, link quality, MIG geometry and mode, and which GPUs are sound.

Where the core's picture of a node is not exactly what is published, `packing.dra.layout` notices, and claims there are
decided by the general search over devices: nothing is lost but time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from kube.gpuattributes import GpuDevices, devices_by_gpu, text
from kube.gpulinks import gpu_count, machine_of
from packing.dra.model import NANO, DeviceShape, Effect, Pool, PoolShape
from packing.model import MAX_GPUS_PER_NODE, GpuModel, NodeShape
from topology.catalog import mig_for_product
from topology.facts import Machine
from topology.mig import MigGeometry
from topology.modes import MigMode
from topology.quality import flat_quality, set_quality

MIB = 1 << 20
NO_GPUS = NodeShape("cpu-only", (), flat_quality(0))
_KEPT_OFF = (Effect.NO_SCHEDULE, Effect.NO_EXECUTE)


@dataclass(frozen=True, slots=True, eq=False)
class GpuLayout:
    """What all nodes with a pool of one shape have in common."""

    shape: NodeShape
    mig_mode: MigMode
    absent: frozenset[int]
    """GPUs that cannot be given as a whole although nothing says that they are fixed in MIG mode."""
    positions: Mapping[int, int]
    """GPU -> its devices, bit per position in the pool shape."""
    faults: tuple[str, ...]
    """What is odd about it: where publishing contradicts itself or what is known of the product."""

    def unhealthy(self, pool: Pool) -> frozenset[int]:
        """Return the GPUs of `pool` that the core must not use: absent ones, and those kept off by a taint."""
        if not pool.tainted:
            return self.absent
        kept_off = sum(1 << at for at, taints in pool.tainted.items() if any(t.effect in _KEPT_OFF for t in taints))
        return self.absent | {gpu for gpu, mask in self.positions.items() if mask & kept_off}


EMPTY_LAYOUT = GpuLayout(NO_GPUS, MigMode.DISABLED, frozenset(), {}, ())


def read_layout(shape: PoolShape) -> GpuLayout:
    """Return what a pool shape of our driver says of its nodes. Never fails: what cannot be is named in `faults`."""
    gpus = devices_by_gpu(shape)
    faults = [
        f"device {device.name} does not say what of which GPU it is" for device in shape.devices if not device.part
    ]
    count = min(gpu_count(shape.driver, gpus), MAX_GPUS_PER_NODE)
    machine = machine_of(shape.driver, gpus, count, faults)
    geometries = {index: _geometry(shape.driver, gpu, faults) for index, gpu in gpus.items()}
    mode, fixed_off = _mig_mode(gpus, geometries, faults)
    models = tuple(
        _model(shape.driver, gpus[index], None if index in fixed_off else geometries[index])
        if index in gpus
        else GpuModel(product=machine.product(index), architecture=machine.gpu.architecture)
        for index in range(count)
    )
    absent = frozenset(index for index in range(count) if index not in gpus or _is_absent(gpus[index]))
    return GpuLayout(
        shape=_node_shape(machine, models),
        mig_mode=mode,
        absent=absent,
        positions={index: gpu.positions for index, gpu in gpus.items()},
        faults=tuple(faults),
    )


@lru_cache(maxsize=256)
def _node_shape(machine: Machine, models: tuple[GpuModel, ...]) -> NodeShape:
    """Return one shape for all that are alike, so that their nodes share tables."""
    return NodeShape(machine.id, models, set_quality(machine)) if models else NO_GPUS


def _geometry(driver: str, gpu: GpuDevices, faults: list[str]) -> MigGeometry | None:
    """Return NVIDIA's placements of this product; None where there are none, or others are published."""
    product = text(gpu.any.attributes, f"{driver}/productName")
    geometry = mig_for_product(product)
    known = geometry if geometry is not None and geometry.placeable else None
    if not gpu.partitions:
        return known
    legal = (
        {(profile.name, start, profile.size) for profile in known.profiles for start in profile.starts} if known else ()
    )
    if set(gpu.partitions) == legal:
        return known
    faults.append(f"GPU {gpu.index} publishes other MIG placements than are known of {product or 'its product'}")
    return None


def _mig_mode(
    gpus: Mapping[int, GpuDevices], geometries: Mapping[int, MigGeometry | None], faults: list[str]
) -> tuple[MigMode, frozenset[int]]:
    """Return the mode that the node's GPUs have in common, and those on which MIG is off beside others where it is not.

    Where some are fixed in MIG mode and others switch, all count as switching: the core knows one mode a node.
    """
    modes = {index: _mode(gpu) for index, gpu in gpus.items() if geometries[index] is not None}
    off = frozenset(index for index, mode in modes.items() if mode is MigMode.DISABLED)
    others = {mode for mode in modes.values() if mode is not MigMode.DISABLED}
    if not others:
        return MigMode.DISABLED, frozenset()
    if len(others) > 1:
        faults.append("some GPUs are fixed in MIG mode and others switch; the quick way knows one mode a node")
        return MigMode.DYNAMIC, off
    return others.pop(), off


def _mode(gpu: GpuDevices) -> MigMode:
    if not gpu.partitions:
        return MigMode.DISABLED
    return MigMode.ENABLED if gpu.is_fixed_in_mig else MigMode.DYNAMIC


def _is_absent(gpu: GpuDevices) -> bool:
    return gpu.whole is None and not gpu.is_fixed_in_mig


def _model(driver: str, gpu: GpuDevices, geometry: MigGeometry | None) -> GpuModel:
    """Return the model of a GPU. One fixed in MIG mode publishes no whole: what its largest partition has is known."""
    said = gpu.any.attributes
    devices = [gpu.whole] if gpu.whole else [*gpu.partitions.values(), *gpu.shares.values()]
    return GpuModel(
        product=text(said, f"{driver}/productName"),
        architecture=text(said, f"{driver}/architecture"),
        memory_mib=_largest(devices, "memory") // (NANO * MIB),
        sm_count=_largest(devices, "multiprocessors") // NANO,
        mig=geometry,
    )


def _largest(devices: Iterable[DeviceShape], name: str) -> int:
    return max((device.capacity[name].value for device in devices if name in device.capacity), default=0)
