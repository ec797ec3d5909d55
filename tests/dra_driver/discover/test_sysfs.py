"""PCI paths, NUMA nodes and cards nearby, from trees as sysfs has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra_driver.discover.sysfs import PciDevice, nearest_cards, network_cards, nvidia_gpus, pci_device, pcie_level

GPU = ("pci0000:4f", "0000:4f:01.0", "0000:50:00.0", "0000:51:00.0", "0000:53:00.0")


def put(sys: Path, path: tuple[str, ...], **files: str) -> Path:
    folder = sys.joinpath("devices", *path)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    (sys / "bus/pci/devices").mkdir(parents=True, exist_ok=True)
    (sys / "bus/pci/devices" / path[-1]).symlink_to(folder)
    return folder


def put_card(sys: Path, name: str, path: tuple[str, ...], **files: str) -> Path:
    folder = put(sys, path, **files)
    card = folder / "infiniband" / name
    card.mkdir(parents=True)
    (card / "device").symlink_to(folder)
    (sys / "class/infiniband").mkdir(parents=True, exist_ok=True)
    (sys / "class/infiniband" / name).symlink_to(card)
    return folder


def test_root_and_numa_node_come_from_the_link_and_the_file(tmp_path: Path) -> None:
    put(tmp_path, GPU, numa_node="3")
    device = pci_device(tmp_path, "0000:53:00.0")
    assert (device.path, device.root, device.numa_node) == (GPU, "pci0000:4f", 3)


@pytest.mark.parametrize("text", ["-1", "", "junk"])
def test_a_numa_node_that_the_machine_does_not_tell_is_none(text: str, tmp_path: Path) -> None:
    put(tmp_path, GPU, numa_node=text)
    assert pci_device(tmp_path, "0000:53:00.0").numa_node is None


def test_domains_of_eight_digits_are_roots_too(tmp_path: Path) -> None:
    """Virtual machines on Azure have such domains."""
    put(tmp_path, ("pci10000:00", "10000:00:01.0", "10000:01:00.0"), numa_node="0")
    assert pci_device(tmp_path, "10000:01:00.0").root == "pci10000:00"


def test_what_sysfs_does_not_have_is_unknown(tmp_path: Path) -> None:
    assert pci_device(tmp_path, "0000:53:00.0") == PciDevice()
    assert pci_device(tmp_path, "") == PciDevice()
    assert network_cards(tmp_path) == ()
    assert nvidia_gpus(tmp_path) == ()


@pytest.mark.parametrize(
    ("card", "numa_node", "level"),
    [
        (("pci0000:4f", "0000:4f:01.0", "0000:50:00.0", "0000:51:04.0", "0000:54:00.0"), 0, "PIX"),
        (("pci0000:4f", "0000:4f:01.0", "0000:50:00.0", "0000:51:04.0", "0000:54:00.0", "0000:55:00.0"), 0, "PXB"),
        (("pci0000:4f", "0000:4f:02.0", "0000:60:00.0"), 0, "PHB"),
        (("pci0000:7f", "0000:7f:02.0", "0000:80:00.0"), 0, "NODE"),
        (("pci0000:7f", "0000:7f:02.0", "0000:80:00.0"), 1, "SYS"),
    ],
)
def test_distances_are_those_of_nvidia_smi_topo(card: tuple[str, ...], numa_node: int, level: str) -> None:
    assert pcie_level(PciDevice(GPU, 0), PciDevice(card, numa_node)) == level
    assert pcie_level(PciDevice(card, numa_node), PciDevice(GPU, 0)) == level


def test_the_nearest_cards_come_in_natural_order_without_virtual_functions(tmp_path: Path) -> None:
    switch = GPU[:3]
    put(tmp_path, GPU, numa_node="0")
    for at, name in enumerate(("mlx5_10", "mlx5_9")):
        put_card(tmp_path, name, (*switch, f"0000:51:{at + 4:02x}.0", f"0000:6{at}:00.0"), numa_node="0")
    virtual = put_card(tmp_path, "mlx5_11", (*switch, "0000:51:07.0", "0000:60:00.1"), numa_node="0")
    (virtual / "physfn").symlink_to(tmp_path)
    put_card(tmp_path, "mlx5_0", ("pci0000:7f", "0000:7f:02.0", "0000:80:00.0"), numa_node="0")
    nearest = nearest_cards(pci_device(tmp_path, "0000:53:00.0"), network_cards(tmp_path))
    assert (nearest.level, nearest.names) == ("PIX", ("mlx5_9", "mlx5_10"))


def test_a_gpu_without_a_place_is_near_nothing() -> None:
    assert nearest_cards(PciDevice(), (("mlx5_0", PciDevice(GPU, 0)),)).names == ()


def test_gpus_on_the_bus_are_told_from_other_devices_of_nvidia(tmp_path: Path) -> None:
    """An NVSwitch is a bridge, an audio function is multimedia."""
    put(tmp_path, GPU, vendor="0x10de", **{"class": "0x030200"})
    put(tmp_path, ("pci0000:c0", "0000:c1:00.0"), vendor="0x10de", **{"class": "0x068000"})
    put(tmp_path, (*GPU[:-1], "0000:53:00.1"), vendor="0x10de", **{"class": "0x040300"})
    put(tmp_path, ("pci0000:00", "0000:00:02.0"), vendor="0x8086", **{"class": "0x030000"})
    assert nvidia_gpus(tmp_path) == ("0000:53:00.0",)


NAMES = st.lists(st.sampled_from("abc"), min_size=2, max_size=6).map(tuple)


@given(one=NAMES, other=NAMES, here=st.integers(0, 1), there=st.integers(0, 1))
def test_distance_is_symmetric(one: tuple[str, ...], other: tuple[str, ...], here: int, there: int) -> None:
    assert pcie_level(PciDevice(one, here), PciDevice(other, there)) == pcie_level(
        PciDevice(other, there), PciDevice(one, here)
    )
