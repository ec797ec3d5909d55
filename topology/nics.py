"""Which network cards are nearest to a GPU. Apart from `links`, since the node driver loads no graph library."""

from __future__ import annotations

from dataclasses import dataclass

from topology.facts import PCIE_LEVELS, Machine


@dataclass(frozen=True, slots=True)
class NearestNics:
    """The network cards nearest to one GPU and their PCIe level; empty where the machine lists none."""

    level: str
    names: tuple[str, ...]


def nearest_nics(machine: Machine, gpu: int) -> NearestNics:
    """Return the network cards nearest to GPU `gpu` by PCIe level."""
    for level in reversed(PCIE_LEVELS):
        names = tuple(nic.name for nic in machine.nics if nic.levels[gpu] == level)
        if names:
            return NearestNics(level, names)
    return NearestNics("", ())
