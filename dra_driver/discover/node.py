"""Discovery of a node: NVML and sysfs in, `NodeGpus` and notes for the log out. Nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dra_driver.discover.geometry import geometry_of
from dra_driver.discover.nvlinks import GpuLinks, gpu_links
from dra_driver.discover.partitions import instances_of, partitions_of
from dra_driver.discover.sysfs import PciDevice, nearest_cards, network_cards, nvidia_gpus, pci_device
from dra_driver.errors import RetryableError
from dra_driver.inventory import MIB, Gpu, MigInstance, NodeGpus
from dra_driver.nvml.api import (
    ComputeInstance,
    DriverNotLoadedError,
    GpuReading,
    NotFoundError,
    NotPermittedError,
    NotSupportedError,
    Nvml,
    NvmlError,
    ProfileReading,
)
from dra_driver.policy import MigPolicy
from dra_driver.roots import Roots
from topology.mig import MigGeometry
from topology.modes import Sharing, ways_to_share

_FARTHEST = "SYS"


@dataclass(frozen=True, slots=True)
class Discovered:
    """The GPUs, and what a person should know of how they were found."""

    node: NodeGpus
    notes: tuple[str, ...] = ()
    cut: frozenset[str] = frozenset()
    """UUIDs of the GPUs with MIG on: what NVML says of their NVLinks meanwhile is not the whole truth."""
    unread: frozenset[str] = frozenset()
    """UUIDs of GPUs that could not be read to the end: what was known of them holds."""


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What is the same for all GPUs of a discovery."""

    roots: Roots
    policy: MigPolicy
    sharing: tuple[Sharing, ...]
    cards: tuple[tuple[str, PciDevice], ...]
    links: dict[int, GpuLinks]
    indices: frozenset[int]


def discover(
    nvml: Nvml,
    roots: Roots,
    node_name: str,
    policy: MigPolicy = MigPolicy.DYNAMIC,
    sharing: Sequence[Sharing] = tuple(Sharing),
) -> Discovered:
    """Read the GPUs of this node. `sharing`: the ways in which shares are offered, where a GPU can.

    A GPU that does not answer or cannot be read is left out and noted. Raises RetryableError while the driver is not
    loaded or does not know the GPUs yet, NvmlError where NVML refuses them all, InvalidInputError where they cannot be
    published as they are.
    """
    try:
        return _discover(nvml, roots, node_name, policy, tuple(sharing))
    except DriverNotLoadedError as error:
        raise RetryableError(f"node {node_name}: the GPUs cannot be asked: {error}") from error


def _discover(nvml: Nvml, roots: Roots, node_name: str, policy: MigPolicy, sharing: tuple[Sharing, ...]) -> Discovered:
    system, readings = nvml.system(), nvml.gpus()
    lost = set(nvml.lost()) - {gpu.uuid for gpu in readings}
    if not readings and not lost and (waiting := nvidia_gpus(roots.sys)):
        raise RetryableError(
            f"node {node_name}: the NVIDIA driver knows no GPU, but {', '.join(waiting)} on the PCI bus; wait until it "
            f"has started, or bind them to it"
        )
    links, notes = gpu_links(readings)
    around = _Surroundings(
        roots, policy, sharing, network_cards(roots.sys), links, frozenset(gpu.index for gpu in readings)
    )
    gpus: list[Gpu] = []
    said = [*notes, *(f"GPU {uuid}: does not answer, it is not published" for uuid in sorted(lost))]
    said += _unknown_to_nvml(roots, readings)
    unread: dict[str, NvmlError] = {}
    for reading in readings:
        try:
            gpu, its_notes = _gpu(nvml, reading, around)
        except DriverNotLoadedError:
            raise
        except NvmlError as error:
            unread[reading.uuid] = error
            gpu, its_notes = None, (f"cannot be read now: {error}",)
        gpus += [gpu] if gpu else []
        said += [f"GPU {reading.index} ({reading.uuid}): {note}" for note in its_notes]
    if unread and not gpus:
        raise next(iter(unread.values()))
    node = NodeGpus(
        node=node_name,
        driver_version=system.driver_version,
        cuda_driver_version=system.cuda_driver_version,
        gpus=tuple(gpus),
    )
    cut = frozenset(reading.uuid for reading in readings if reading.mig is not None and reading.mig.enabled)
    return Discovered(node, tuple(said), cut, frozenset(unread))


def _unknown_to_nvml(roots: Roots, readings: Sequence[GpuReading]) -> list[str]:
    told = {reading.pci_address for reading in readings}
    left = (address for address in nvidia_gpus(roots.sys) if address not in told)
    return [f"GPU at {address}: is on the PCI bus, but NVML does not tell it; it is not published" for address in left]


def _gpu(nvml: Nvml, reading: GpuReading, around: _Surroundings) -> tuple[Gpu | None, tuple[str, ...]]:
    """Return the GPU, None where it cannot be published, and notes."""
    if reading.memory_bytes < 2 * MIB:
        return None, ("NVML tells no memory of its own, it is not published",)
    profiles, note = _profiles(nvml, reading)
    geometry, notes = geometry_of(reading, profiles)
    instances = _instances(nvml, reading, geometry)
    notes = (*note, *notes)
    parts = partitions_of(reading, geometry, instances, around.policy)
    if parts.hidden:
        return None, (*notes, f"{parts.hidden}; it is not published")
    pci, links = pci_device(around.roots.sys, reading.pci_address), around.links[reading.index]
    nearest = nearest_cards(pci, around.cards)
    gpu = Gpu(
        index=reading.index,
        minor=reading.minor,
        uuid=reading.uuid,
        product=reading.product,
        memory_bytes=reading.memory_bytes,
        brand=reading.brand,
        architecture=reading.architecture,
        cuda_compute_capability=reading.cuda_compute_capability,
        multiprocessors=reading.multiprocessors,
        addressing_mode=reading.addressing_mode,
        pci_address=reading.pci_address,
        pcie_root=pci.root,
        pcie_levels=_levels(reading, around.indices),
        numa_node=pci.numa_node,
        nics=nearest.names,
        nic_level=nearest.level,
        nvlink_count=links.count,
        nvlink_mbps=links.mbps,
        nvlinks=links.row,
        nvswitch=links.switched,
        fabric=reading.fabric,
        mig=parts.geometry,
        mig_mode=parts.mode,
        instances=instances,
        # A guest of vGPU cannot set anything up.
        sharing=() if reading.virtual else ways_to_share(around.sharing, reading.cuda_compute_capability),
    )
    return gpu, notes


def _profiles(nvml: Nvml, reading: GpuReading) -> tuple[Sequence[ProfileReading], tuple[str, ...]]:
    if reading.mig is None or reading.virtual:
        return (), ()
    try:
        return nvml.gpu_instance_profiles(reading.uuid), ()
    except NotPermittedError as error:
        return (), (f"MIG placements are not told ({error}); it is published without parts",)


def _instances(nvml: Nvml, reading: GpuReading, geometry: MigGeometry | None) -> tuple[MigInstance, ...]:
    if reading.mig is None or not reading.mig.enabled or geometry is None:
        return ()
    existing = nvml.gpu_instances(reading.uuid)
    parts = {one.id: _compute_instances(nvml, reading.uuid, one.id) for one in existing}
    return instances_of(geometry, existing, {number: its for number, its in parts.items() if its is not None})


def _compute_instances(nvml: Nvml, uuid: str, gpu_instance: int) -> Sequence[ComputeInstance] | None:
    """Return the compute instances, None where the GPU instance has gone: claims end while we look."""
    try:
        return nvml.compute_instances(uuid, gpu_instance)
    except (NotFoundError, NotSupportedError):
        return None


def _levels(reading: GpuReading, present: frozenset[int]) -> tuple[str, ...]:
    """Return the distances; none where that to any GPU is unknown. What is not there is as far away as can be."""
    levels = tuple(level or ("" if peer in present else _FARTHEST) for peer, level in enumerate(reading.pcie_levels))
    return levels if all(levels) else ()
