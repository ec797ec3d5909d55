"""PCI devices as sysfs tells them: where they hang, on which NUMA node, which network cards are near."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from topology.facts import PCIE_LEVELS
from topology.nics import NearestNics

_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
NVIDIA = "0x10de"
_DISPLAY = "0x03"
"""PCI class of VGA and 3D controllers."""


@dataclass(frozen=True, slots=True)
class PciDevice:
    """`path`: from the root complex over the bridges to the device; empty where sysfs does not have it."""

    path: tuple[str, ...] = ()
    numa_node: int | None = None

    @property
    def root(self) -> str:
        """Return the root complex, such as `pci0000:4f`; empty where unknown."""
        return self.path[0] if self.path else ""


def pci_device(sys: Path, address: str) -> PciDevice:
    """Return where the device with this address hangs."""
    return _device(sys / "bus/pci/devices" / address) if address else PciDevice()


def _device(link: Path) -> PciDevice:
    # The link leads to /sys/devices/pci0000:4f/0000:4f:01.0/.../0000:53:00.0.
    parts = link.resolve().parts
    root = next((at for at, part in enumerate(parts) if _ROOT.fullmatch(part)), None)
    return PciDevice(parts[root:] if root is not None else (), _numa_node(link))


def _numa_node(device: Path) -> int | None:
    try:
        node = int(_text(device / "numa_node"))
    except ValueError:
        return None
    return node if node >= 0 else None


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""


def nvidia_gpus(sys: Path) -> tuple[str, ...]:
    """Return the PCI addresses of NVIDIA's GPUs, whether or not a driver knows them."""
    folder = sys / "bus/pci/devices"
    found = (device.name for device in _entries(folder) if _text(device / "vendor") == NVIDIA and _is_gpu(device))
    return tuple(sorted(found))


def _is_gpu(device: Path) -> bool:
    return _text(device / "class").startswith(_DISPLAY)


def network_cards(sys: Path) -> tuple[tuple[str, PciDevice], ...]:
    """Return cards that can read GPU memory (RDMA: InfiniBand, RoCE, EFA), by name in natural order.

    Virtual functions are left out where their card is here too.
    """
    cards = [
        (card.name, _device(card / "device"))
        for card in _entries(sys / "class/infiniband")
        if not (card / "device/physfn").exists()
    ]
    return tuple(sorted(cards, key=lambda card: _natural(card[0])))


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return


def _natural(name: str) -> list[tuple[int, str]]:
    """Order in which mlx5_10 comes after mlx5_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def nearest_cards(gpu: PciDevice, cards: tuple[tuple[str, PciDevice], ...]) -> NearestNics:
    """Return the cards nearest to a GPU; none where sysfs does not have the GPU."""
    levels = {name: pcie_level(gpu, card) for name, card in cards} if gpu.path else {}
    for level in reversed(PCIE_LEVELS):
        names = tuple(name for name, its in levels.items() if its == level)
        if names:
            return NearestNics(level, names)
    return NearestNics("", ())


def pcie_level(one: PciDevice, other: PciDevice) -> str:
    """Return the distance of two PCI devices in the words of `nvidia-smi topo -m`, as NCCL derives it from paths."""
    common = 0
    for here, there in zip(one.path, other.path, strict=False):
        if here != there:
            break
        common += 1
    if not common:
        return "NODE" if one.numa_node == other.numa_node else "SYS"
    if common == 1:
        return "PHB"
    # Below one switch two devices share all but its downstream ports and themselves.
    return "PIX" if common >= max(len(one.path), len(other.path)) - 2 else "PXB"
