"""A simulated node has the facts of its machine file, the same in every run."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from dra_driver.inventory import MIB, NodeGpus
from dra_driver.publish import resource_slices
from dra_driver.simulated import simulated_gpus
from tests.dra_driver.apirules import devices, faults
from topology.catalog import machine, machine_names
from topology.links import link_graph, nvlink_islands
from topology.modes import MigMode, Sharing

machines = pytest.mark.parametrize("name", machine_names())


def wholes(name: str) -> dict[int, dict[str, dict[str, object]]]:
    listed = devices(resource_slices(simulated_gpus(machine(name), "n"))).values()
    return {
        device["attributes"]["index"]["int"]: device["attributes"]
        for device in listed
        if device["attributes"]["type"]["string"] == "gpu"
    }


@machines
def test_every_machine_of_the_catalog_can_be_published(name: str) -> None:
    slices = resource_slices(simulated_gpus(machine(name), "node-1"))
    assert faults(slices) == []
    assert len([d for d in devices(slices) if d.removeprefix("gpu-").isdigit()]) == machine(name).gpu_count


@machines
def test_the_description_goes_through_json_and_back(name: str) -> None:
    node = simulated_gpus(machine(name), "node-1")
    assert msgspec.json.decode(msgspec.json.encode(node), type=NodeGpus) == node


@machines
def test_nvlink_domains_are_the_islands_of_the_link_graph(name: str) -> None:
    """Two ways to the same groups: the driver may not load the graph library."""
    found: dict[str, set[int]] = {}
    for index, attributes in wholes(name).items():
        if "nvlinkDomain" in attributes:
            found.setdefault(str(attributes["nvlinkDomain"]["string"]), set()).add(index)
    islands = {f"nvlink-{island[0]}": set(island) for island in nvlink_islands(link_graph(machine(name)))}
    assert found == {domain: island for domain, island in islands.items() if len(island) > 1}


@machines
def test_links_and_distances_are_those_of_the_file(name: str) -> None:
    facts = machine(name)
    words = ["X", "PIX", "PXB", "PHB", "NODE", "SYS"]
    for index, attributes in wholes(name).items():
        assert [words[int(digit)] for digit in str(attributes["pcieLevels"]["string"])] == list(
            facts.pcie.levels[index]
        )
        row = facts.nvlink.matrix[index]
        peers = str(attributes["nvlinkPeers"]["string"]) if "nvlinkPeers" in attributes else ",".join("0" for _ in row)
        assert [int(links) for links in peers.split(",")] == list(row)


def test_an_hgx_h100() -> None:
    gpu = simulated_gpus(machine("hgx-h100-8"), "node-1").gpus[4]
    assert (gpu.product, gpu.memory_bytes, gpu.multiprocessors) == ("NVIDIA H100 80GB HBM3", 81559 * MIB, 132)
    assert (gpu.pci_address, gpu.numa_node, gpu.nics) == ("0000:97:00.0", 1, ("mlx5_4",))
    assert gpu.nic_level == machine("hgx-h100-8").nics[4].levels[4] == "PIX"
    assert (gpu.nvlink_count, gpu.nvswitch, gpu.mig_mode) == (18, True, MigMode.DYNAMIC)
    # Every GPU of this board has a switch and a root port of its own.
    assert len({g.pcie_root for g in simulated_gpus(machine("hgx-h100-8"), "node-1").gpus}) == 8


def test_gpus_under_one_host_bridge_share_a_root() -> None:
    roots = [gpu.pcie_root for gpu in simulated_gpus(machine("dgx-a100-40"), "n").gpus]
    assert roots[0] == roots[1] != roots[2] == roots[3]
    assert len(set(roots)) == 4


def test_a_rack_has_a_clique_and_a_single_board_has_none() -> None:
    assert {a["nvlinkClique"]["string"] for a in wholes("gb200-nvl72-node").values()} == {
        "00000001-0000-0000-0000-000000000001.2"
    }
    assert all("nvlinkClique" not in attributes for attributes in wholes("hgx-h100-8").values())


def test_a_gpu_without_mig_is_never_in_mig_mode() -> None:
    node = simulated_gpus(machine("l40s-8-pcie"), "n", mig_mode=MigMode.ENABLED, sharing=[Sharing.MPS])
    assert {gpu.mig_mode for gpu in node.gpus} == {MigMode.DISABLED}
    assert {gpu.sharing for gpu in node.gpus} == {(Sharing.MPS,)}


def test_two_products_in_one_node_keep_their_own_names() -> None:
    assert len({gpu.product for gpu in simulated_gpus(machine("mixed-a100-sxm-pcie"), "n").gpus}) == 2


def test_uuids_come_from_node_and_index_alone() -> None:
    one = [gpu.uuid for gpu in simulated_gpus(machine("hgx-h100-8"), "node-1").gpus]
    assert one == [gpu.uuid for gpu in simulated_gpus(machine("hgx-h200-8"), "node-1").gpus]
    assert one[0] == "GPU-e9ab10d1-776e-52c9-9231-e3368f226bcb"
    other = [gpu.uuid for gpu in simulated_gpus(machine("hgx-h100-8"), "node-2").gpus]
    assert len({*one, *other}) == 16


def test_another_process_writes_the_same_bytes_without_compiler_or_graph_library() -> None:
    program = (
        "import json, sys; from dra_driver.publish import resource_slices; from topology.catalog import machine\n"
        "from dra_driver.simulated import simulated_gpus\n"
        "print(json.dumps(resource_slices(simulated_gpus(machine('dgx1-v100'), 'n'))))\n"
        "sys.exit(bool({'numba', 'networkx', 'scipy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == resource_slices(simulated_gpus(machine("dgx1-v100"), "n"))
    assert ran.stdout.strip() == json.dumps(resource_slices(simulated_gpus(machine("dgx1-v100"), "n")))
