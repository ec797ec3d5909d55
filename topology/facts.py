"""What is known of one kind of node: GPUs, NVLink, PCIe, NICs, rack fabric. Values only, as in schema gpu-topology/v1.

Units: memory MiB, rates GB/s per direction. Lists are in order of the GPU index.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

MAX_GPUS = 16
PCIE_LEVELS = ("SYS", "NODE", "PHB", "PXB", "PIX")
"""How close two devices are on PCIe, farthest first; the words are those of `nvidia-smi topo -m`."""

Count = Annotated[int, Meta(ge=0, le=1024)]
# Texts that are printed as they are: nothing in them may steer a terminal.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
CpuList = Annotated[str, Meta(pattern=r"^[0-9,:/ -]{0,4096}$")]
Matrix = tuple[tuple[Count, ...], ...]
Levels = tuple[str, ...]


class LinkKind(StrEnum):
    """How NVLink joins GPUs: wired pairs, bridges over pairs, switches (shared by all peers), or not at all."""

    DIRECT = "direct"
    BRIDGE = "bridge"
    NVSWITCH = "nvswitch"
    NONE = "none"


class GpuFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The product that the devices of a node are unless they say otherwise."""

    count: int
    product_name: str
    product_name_variants: tuple[str, ...] = ()
    architecture: str = ""
    compute_capability: str = ""
    sm_count: int | None = None
    memory_total_mib: Annotated[int, Meta(ge=0, le=1 << 30)]
    marketing_memory_gb: int | None = None
    mig_capable: bool = False
    pci_device_id: str | None = None


class DeviceFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU: where it sits, and its product where that differs from the node's."""

    index: int
    numa_node: int
    cpu_affinity: CpuList | None = None
    pci_bus_id: str | None = None
    module_id: int | None = None
    product_name: str | None = None


class NvlinkFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """NVLink of the node. `matrix[i][j]`: links wired between i and j; with switches: links of either into them."""

    kind: LinkKind
    generation: int | None = None
    links_per_gpu: Count = 0
    gbyte_s_per_link_per_direction: Annotated[float, Meta(ge=0, le=10_000)] = 0
    nvml_link_speed_mbps: int | None = None
    nvswitch_count: int = 0
    matrix_semantics: str = ""
    links_to_cpu_per_gpu: Count = 0
    switches_outside_node: bool = False
    matrix: Matrix


class PcieFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PCIe of the node; `gbyte_s_per_direction` states the rate of a generation this program does not know."""

    generation: int
    gbyte_s_per_direction: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    levels: tuple[Levels, ...]


class NicFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network card and its PCIe level against each GPU."""

    name: Name
    levels: Levels


class FabricFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registration with a rack-wide NVLink fabric, as NVML reports it. Absent health is not bad health."""

    state: str = "not-supported"
    status: str = ""
    cluster_uuid: str = ""
    clique_id: int | None = None
    health_summary: str = ""
    health_bandwidth: str = ""
    domain_size_gpus: int | None = None
    nodes_per_domain: int | None = None
    slot_number: int | None = None
    tray_index: int | None = None
    host_id: int | None = None
    peer_type: str = ""
    note: str = ""


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"machine_class": "class"}):
    """One kind of node, checked by `topology.machine.parse_machine`. `warnings` say what had to be mended."""

    schema: str
    id: Name
    title: str = ""
    machine_class: str = ""
    gpu: GpuFacts
    devices: tuple[DeviceFacts, ...]
    nvlink: NvlinkFacts
    pcie: PcieFacts
    nics: tuple[NicFacts, ...] = ()
    fabric: FabricFacts = FabricFacts()
    provenance: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __hash__(self) -> int:
        # Provenance holds mappings, which have no hash; what decides behaviour does.
        return hash((self.id, self.devices, self.nvlink, self.pcie, self.nics))

    @property
    def gpu_count(self) -> int:
        """Number of GPUs."""
        return len(self.devices)

    def product(self, index: int) -> str:
        """Return the product name of GPU `index`, its own where it states one."""
        return self.devices[index].product_name or self.gpu.product_name


def same_nvlink_domain(one: FabricFacts, other: FabricFacts) -> bool:
    """Whether GPUs of two nodes are NVLink peers: both registered, same non-zero cluster UUID, same clique.

    A single HGX board registers with an all-zero UUID; that never joins nodes (as in NCCL and the NVIDIA DRA driver).
    """
    return clique_name(one) == clique_name(other) != ""


def clique_name(fabric: FabricFacts) -> str:
    """Return `<cluster UUID>.<clique id>`, as NVIDIA writes it; empty where the GPU has no peers on other nodes."""
    if not _registered(fabric) or fabric.clique_id is None:
        return ""
    return f"{fabric.cluster_uuid.lower()}.{fabric.clique_id}"


def _registered(fabric: FabricFacts) -> bool:
    return (
        fabric.state == "completed"
        and fabric.status == "success"
        and any(digit not in "0-" for digit in fabric.cluster_uuid)
    )
