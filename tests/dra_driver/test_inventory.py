"""A node that cannot be published as it is described is refused by node, field and remedy, all faults at once."""

from __future__ import annotations

import pytest

from tests.dra_driver.nodes import GEOMETRIES, gpu, node
from topology.catalog import mig_geometries
from topology.errors import InvalidInputError, InvalidInputsError
from topology.modes import MigMode, Sharing

UNPLACEABLE = next(geometry for geometry in mig_geometries() if not geometry.placeable)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"minor": -1}, r"gpus\[0\].minor: is -1"),
        ({"numa_node": -1}, r"gpus\[0\].numa_node: is -1; must not be negative; leave it out where it is not known"),
        ({"multiprocessors": -1}, r"gpus\[0\].multiprocessors: is -1; must not be negative; leave it out"),
        ({"nvlink_count": -1}, r"gpus\[0\].nvlink_count: is -1; must not be negative$"),
        ({"nvlink_mbps": -1}, r"gpus\[0\].nvlink_mbps: is -1"),
        ({"uuid": ""}, r"gpus\[0\].uuid, product: must be given"),
        ({"memory_bytes": 0}, r"gpus\[0\].memory_bytes: is 0"),
        ({"pci_address": "00000000:5A:00.0"}, r"gpus\[0\].pci_address: is '00000000:5A:00.0'; write it as sysfs does"),
        ({"pcie_root": "0000:00"}, r"gpus\[0\].pcie_root"),
        ({"pcie_levels": ("X", "NEAR")}, r"gpus\[0\].pcie_levels"),
        ({"nvlinks": (0, -1)}, r"gpus\[0\].nvlinks"),
        ({"nvlinks": (0,) * 17}, r"gpus\[0\].nvlinks"),
        ({"mig": UNPLACEABLE}, r"gpus\[0\].mig: geometry .* has no placements"),
        ({"mig_mode": MigMode.ENABLED}, r"gpus\[0\].mig_mode: is enabled but no MIG profiles are known"),
        ({"sharing": (Sharing.MPS, Sharing.MPS)}, r"gpus\[0\].sharing"),
    ],
)
def test_a_gpu_that_cannot_be_is_refused(facts: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match="node node-1: " + message):
        node(gpu(None, **facts))


@pytest.mark.parametrize("name", ["", "Node-1", "a_b", "-a", "a" * 254, "a\n"])
def test_a_name_no_node_has_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="name: must be a DNS subdomain"):
        node(name=name)


def test_gpus_must_be_told_apart() -> None:
    with pytest.raises(InvalidInputsError) as fault:
        node(gpu(None, 0), gpu(None, 0))
    assert {one.field for one in fault.value.faults} == {"gpus", "gpus.minor", "gpus.uuid"}


def test_more_gpus_than_any_machine_has_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="17 GPUs; at most 16"):
        node(*(gpu(GEOMETRIES[0], index) for index in range(17)))


def test_a_lost_gpu_leaves_a_gap() -> None:
    assert [one.index for one in node(gpu(None, 0), gpu(None, 2)).gpus] == [0, 2]
