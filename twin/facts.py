"""What never changes about a machine, as NVML, sysfs and the driver's files tell it. Pure.

Stored beside the state, so that a process opens a twin without parsing machine files.
"""

from __future__ import annotations

from msgspec import Struct

from topology.facts import FabricFacts, NicFacts
from topology.mig import MigGeometry
from twin.codes import Remote

DRIVER_VERSION = "580.105.08"
CUDA_VERSION = "13.0"


class Link(Struct, frozen=True, kw_only=True):
    """One NVLink of a GPU; `peer` is the GPU at the far end, -1 for anything else."""

    remote: Remote
    peer: int = -1
    address: str = ""


class GpuFacts(Struct, frozen=True, kw_only=True):
    """One GPU. Addresses as sysfs writes them."""

    index: int
    minor: int
    uuid: str
    product: str
    brand: int
    architecture: str
    compute_capability: str
    memory_mib: int
    cores: int | None
    pci_address: str
    pci_device_id: int
    pcie_root: str
    numa_node: int
    cpu_affinity: str
    module_id: int | None
    levels: tuple[str, ...]
    links: tuple[Link, ...]
    link_slots: int
    nvlinks: tuple[int, ...]
    geometry: MigGeometry | None
    toggle_needs_reset: bool
    time_slice_supported: bool
    addressing_mode: int = 0
    """nvmlDeviceAddressingModeType_t; 0 where the driver does not tell."""


class MachineFacts(Struct, frozen=True, kw_only=True):
    """The whole machine."""

    id: str
    node: str
    nvlink_version: int
    nvlink_mbps: int
    fabric: FabricFacts
    nics: tuple[NicFacts, ...]
    gpus: tuple[GpuFacts, ...]
