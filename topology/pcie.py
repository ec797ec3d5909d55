"""Where the GPUs of a machine sit on PCIe, as sysfs would write it; what a machine file leaves out is made up."""

from __future__ import annotations

from topology.facts import Machine

_SAME_ROOT = ("X", "PIX", "PXB", "PHB")
"""Distances that do not leave a host bridge."""


def pci_address(machine: Machine, index: int) -> str:
    """Return the address as sysfs writes it (four digits of domain, lower case), one made up where none is known."""
    known = machine.devices[index].pci_bus_id
    if known is None:
        return f"0000:{0x10 * (index + 1) % 0x100:02x}:00.0"
    domain, _, rest = known.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def pcie_root(machine: Machine, index: int) -> str:
    """Return the root complex, `pci0000:4f`.

    Machine files know none: GPUs no farther apart than a host bridge get one, named after the first of them.
    """
    first = next(at for at, level in enumerate(machine.pcie.levels[index]) if level in _SAME_ROOT)
    return "pci" + pci_address(machine, first).rpartition(":")[0]
