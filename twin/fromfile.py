"""A machine file made into what NVML, sysfs and the driver tell of such a machine. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from topology.catalog import mig_for_product
from topology.facts import LinkKind, Machine
from topology.pcie import pci_address, pcie_root
from twin.codes import NVLINK_VERSIONS, Remote
from twin.facts import GpuFacts, Link, MachineFacts

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "gpu.dovetail.dev")
_CORES_PER_SM = {"8.6": 128, "8.9": 128, "9.0": 128, "10.0": 128, "10.3": 128, "12.0": 128}
_SWITCH_BUS = 0xC0
UNREADABLE_BUS_ID = "ffffffff:ff:ff.0"
"""What NVML gives for a switch outside the node, or where a virtual machine hides the far end."""


def machine_facts(machine: Machine, node: str, minors: Sequence[int] = ()) -> MachineFacts:
    """Return the facts of a node called `node` that is such a `machine`; UUIDs come from node name and index.

    `minors`: of the device nodes by index of the GPU, where they are not the indices.
    """
    minors = minors or range(machine.gpu_count)
    links = machine.nvlink
    generation = NVLINK_VERSIONS.get(links.generation or 0, 0)
    rate = links.nvml_link_speed_mbps or round(links.gbyte_s_per_link_per_direction * 1000)
    addresses = tuple(pci_address(machine, index) for index in range(machine.gpu_count))
    return MachineFacts(
        id=machine.id,
        node=node,
        nvlink_version=generation,
        nvlink_mbps=rate,
        fabric=machine.fabric,
        nics=machine.nics,
        gpus=tuple(_gpu(machine, node, index, minors[index], addresses) for index in range(machine.gpu_count)),
    )


def _gpu(machine: Machine, node: str, index: int, minor: int, addresses: tuple[str, ...]) -> GpuFacts:
    facts, device = machine.gpu, machine.devices[index]
    product = machine.product(index)
    geometry = mig_for_product(product)
    levels = machine.pcie.levels[index]
    per_sm = _CORES_PER_SM.get(facts.compute_capability, 64)
    return GpuFacts(
        index=index,
        minor=minor,
        uuid=f"GPU-{uuid.uuid5(_NAMESPACE, f'{node}/{index}')}",
        product=product,
        brand=_brand(product),
        architecture=facts.architecture,
        compute_capability=facts.compute_capability,
        memory_mib=facts.memory_total_mib,
        cores=facts.sm_count * per_sm if facts.sm_count else None,
        pci_address=addresses[index],
        pci_device_id=int(facts.pci_device_id or "0x0", 16) << 16 | 0x10DE,
        pcie_root=pcie_root(machine, index),
        numa_node=device.numa_node,
        cpu_affinity=device.cpu_affinity or "",
        module_id=device.module_id,
        levels=levels,
        links=_links(machine, index, addresses),
        link_slots=machine.nvlink.links_per_gpu,
        nvlinks=machine.nvlink.matrix[index],
        geometry=geometry if geometry is not None and geometry.placeable else None,
        toggle_needs_reset=facts.architecture == "Ampere",
        time_slice_supported=facts.architecture != "Pascal",
    )


def _links(machine: Machine, index: int, addresses: tuple[str, ...]) -> tuple[Link, ...]:
    facts, row = machine.nvlink, machine.nvlink.matrix[index]
    if facts.kind is LinkKind.NVSWITCH:
        switches = [f"0000:{_SWITCH_BUS + at:02x}:00.0" for at in range(facts.nvswitch_count)] or [UNREADABLE_BUS_ID]
        return tuple(Link(remote=Remote.SWITCH, address=switches[at % len(switches)]) for at in range(max(row)))
    peers = [peer for peer, count in enumerate(row) for _ in range(count)]
    wired = [Link(remote=Remote.GPU, peer=peer, address=addresses[peer]) for peer in peers]
    return (*wired, *(Link(remote=Remote.NPU, address="0004:00:00.0") for _ in range(facts.links_to_cpu_per_gpu)))


def _brand(product: str) -> int:
    """Return nvmlBrandType_t."""
    if "GeForce" in product:
        return 5
    if product.startswith("Tesla"):
        return 2
    if product.startswith("Quadro RTX"):
        return 12
    return 13 if " RTX " in product else 14
