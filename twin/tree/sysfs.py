"""/sys: PCI devices under their root complexes, switches as the PCIe levels ask for, NUMA nodes, network cards.

GPUs and cards of one leaf switch are PIX to each other, of one root port PXB, of one root complex PHB, of one NUMA node
NODE. A card is put where its nearest GPU asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from topology.facts import PCIE_LEVELS, NicFacts
from twin.facts import GpuFacts, MachineFacts
from twin.tree.paths import link, write

_DISPLAY_CLASS, _CONTROLLER_3D, _INFINIBAND_CLASS = "0x030000", "0x030200", "0x020700"


@dataclass(frozen=True)
class Slot:
    """Where a PCI device hangs: names of root complex, root port and leaf switch, unique on the machine."""

    root: str
    port: str
    leaf: str
    numa_node: int

    def path(self, address: str) -> str:
        """Return the path below /sys/devices. Root port, outer switch (up, down), leaf switch (up, down), device."""
        domain = self.root.removeprefix("pci").partition(":")[0]
        tail = address[-2:]
        port, leaf = (f"{domain}:{name}" for name in (self.port, self.leaf))
        bridges = f"{port}:01.0/{port}:02.0/{leaf}:03.0/{leaf}:04.0/{leaf}:{address[5:7]}.{int(tail[-1], 16)}"
        return f"{self.root}/{bridges}/{address}"


def write_sys(root: Path, facts: MachineFacts, driver_version: str) -> None:
    """Write the part of /sys that tells of GPUs and network cards."""
    for gpu in facts.gpus:
        kind = _DISPLAY_CLASS if gpu.brand in (5, 12, 13) else _CONTROLLER_3D
        ids = (gpu.pci_device_id & 0xFFFF, gpu.pci_device_id >> 16, kind)
        folder = _device(root, gpu_slot(facts, gpu), gpu.pci_address, ids, gpu.cpu_affinity)
        write(folder, "uevent", f"DRIVER=nvidia\nPCI_SLOT_NAME={gpu.pci_address}\n")
    for at, nic in enumerate(facts.nics):
        _card(root, nic_slot(facts, nic, at), nic.name, _nic_address(facts, at))
    write(root, "sys/module/nvidia/version", f"{driver_version}\n")
    for node, cpus in sorted({gpu.numa_node: gpu.cpu_affinity for gpu in facts.gpus if gpu.numa_node >= 0}.items()):
        write(root, f"sys/devices/system/node/node{node}/cpulist", f"{cpus}\n")


def gpu_slot(facts: MachineFacts, gpu: GpuFacts) -> Slot:
    """Return where a GPU hangs: its switch and root port are named after the first GPU that has them too."""
    port = _first(facts, gpu, ("X", "PIX", "PXB"))
    leaf = _first(facts, gpu, ("X", "PIX"))
    return Slot(gpu.pcie_root, f"a{port:x}", f"b{leaf:x}", gpu.numa_node)


def _first(facts: MachineFacts, gpu: GpuFacts, levels: tuple[str, ...]) -> int:
    return next(peer.index for peer in facts.gpus if gpu.levels[peer.index] in levels)


def nic_slot(facts: MachineFacts, nic: NicFacts, number: int) -> Slot:
    """Return where a card hangs: with its nearest GPU, as far along as its level to it says."""
    nearest = max(facts.gpus, key=lambda gpu: PCIE_LEVELS.index(nic.levels[gpu.index]))
    level, beside = nic.levels[nearest.index], gpu_slot(facts, nearest)
    own = f"{0xC0 + number:x}"
    nodes = {gpu.numa_node for gpu in facts.gpus}
    away = next(node for node in range(len(nodes) + 1) if node not in nodes)
    return Slot(
        root=beside.root if level in ("PIX", "PXB", "PHB") else f"pcif{number:03x}:00",
        port=beside.port if level in ("PIX", "PXB") else own,
        leaf=beside.leaf if level == "PIX" else own,
        numa_node=away if level == "SYS" else beside.numa_node,
    )


def _nic_address(facts: MachineFacts, number: int) -> str:
    taken = {gpu.pci_address for gpu in facts.gpus}
    return next(
        address for offset in range(256) if (address := f"0000:{(number + offset) % 256:02x}:1f.0") not in taken
    )


def _device(root: Path, slot: Slot, address: str, ids: tuple[int, int, str], cpus: str) -> Path:
    folder = root / "sys/devices" / slot.path(address)
    vendor, device, kind = ids
    write(folder, "vendor", f"{vendor:#06x}\n")
    write(folder, "device", f"{device:#06x}\n")
    write(folder, "class", f"{kind}\n")
    write(folder, "numa_node", f"{slot.numa_node}\n")
    write(folder, "local_cpulist", f"{cpus}\n")
    link(root / "sys/bus/pci/devices" / address, folder)
    return folder


def _card(root: Path, slot: Slot, name: str, address: str) -> None:
    folder = _device(root, slot, address, (0x15B3, 0x101B, _INFINIBAND_CLASS), "")
    card = folder / "infiniband" / name
    write(card, "node_type", "1: CA\n")
    link(card / "device", folder)
    link(root / "sys/class/infiniband" / name, card)
