"""The rules of schema gpu-topology/v1: what a machine file must hold, and what is mended."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from topology import catalog
from topology.errors import InvalidInputError, InvalidInputsError
from topology.facts import FabricFacts, same_nvlink_domain
from topology.machine import parse_machine


def _document(n: int = 2) -> dict[str, Any]:
    return {
        "schema": "gpu-topology/v1",
        "id": "test",
        "gpu": {"count": n, "product_name": "A GPU", "memory_total_mib": 40960},
        "devices": [{"index": i, "numa_node": 0} for i in range(n)],
        "nvlink": {
            "kind": "direct",
            "links_per_gpu": 4,
            "gbyte_s_per_link_per_direction": 25,
            "matrix": [[0 if i == j else 1 for j in range(n)] for i in range(n)],
        },
        "pcie": {"generation": 4, "levels": [["X" if i == j else "PHB" for j in range(n)] for i in range(n)]},
    }


class _PlainDumper(yaml.SafeDumper):
    """Writes repeated values out: aliases are refused before anything else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _set(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    *way, last = path.split(".")
    at: Any = changed
    for step in way:
        at = at[int(step)] if step.isdigit() else at[step]
    at[int(last) if last.isdigit() else last] = value
    return changed


@pytest.mark.parametrize("name", catalog.machine_names())
def test_every_shipped_machine_is_sound(name: str) -> None:
    machine = catalog.machine(name)
    assert machine.id == name
    assert machine.warnings == ()
    assert hash(machine) == hash(catalog.machine(name))


@pytest.mark.parametrize("name", catalog.machine_names())
def test_shipped_pcie_levels_are_ultrametric(name: str) -> None:
    # A tree of switches and sockets: of three GPUs, the two longest distances are equal.
    order = ["X", "PIX", "PXB", "PHB", "NODE", "SYS"]
    levels = [[order.index(level) for level in row] for row in catalog.machine(name).pcie.levels]
    n = len(levels)
    assert all(
        levels[i][k] <= max(levels[i][j], levels[j][k]) for i in range(n) for j in range(n) for k in range(n) if i != k
    )


FAULTS = [
    ("schema", "gpu-topology/v9", "schema"),
    ("id", "", "id"),
    ("gpu.count", 3, "gpu.count"),
    ("devices.1.index", 0, "devices"),
    ("devices.0.numa_node", -5, "numa_node"),
    ("nvlink.matrix", [[0, 1]], "nvlink.matrix"),
    ("nvlink.matrix", [[1, 1], [1, 0]], "nvlink.matrix[0][0]"),
    ("nvlink.matrix", [[0, 5], [5, 0]], "links_per_gpu"),
    ("nvlink.matrix.0.1", -1, "nvlink.matrix[0][1]"),
    ("nvlink.kind", "none", "nvlink.kind"),
    ("nvlink.kind", "optical", "nvlink.kind"),
    ("nvlink.gbyte_s_per_link_per_direction", 0, "gbyte_s"),
    ("nvlink.gbyte_s_per_link_per_direction", float("nan"), "gbyte_s"),
    ("nvlink.gbyte_s_per_link_per_direction", float("inf"), "gbyte_s"),
    ("pcie.generation", 9, "pcie.generation"),
    ("pcie.levels", [["X", "PHB"]], "pcie.levels"),
    ("pcie.levels.0.1", "XGMI", "pcie.levels[0][1]"),
    ("pcie.levels.0.0", "PIX", "pcie.levels[0][0]"),
    ("pcie.levels.0.1", "PIX", "pcie.levels[0][1]"),
    ("nics", [{"name": "mlx5_0", "levels": ["PIX"]}], "nics.mlx5_0"),
    ("nics", [{"name": "a", "levels": ["PIX", "PIX"]}] * 2, "nics"),
    ("nics", [{"name": "a\x1b[31m", "levels": ["PIX", "PIX"]}], "nics[0].name"),
    ("devices.0.cpu_affinity", "\x1b]0;title", "cpu_affinity"),
    ("warnings", ["mine"], "warnings"),
    ("nvlinks", {}, "nvlinks"),
    ("devices", [], "devices"),
    ("gpu.count", "two", "gpu.count"),
]


@pytest.mark.parametrize(("path", "value", "named"), FAULTS)
def test_a_fault_is_named_with_its_field(path: str, value: object, named: str) -> None:
    text = yaml.dump(_set(_document(), path, value), Dumper=_PlainDumper)
    with pytest.raises(InvalidInputError) as caught:
        parse_machine(text, "rack.yaml")
    assert "rack.yaml" in str(caught.value)
    assert named in str(caught.value)


def test_several_faults_are_reported_together() -> None:
    document = _set(_set(_document(), "gpu.count", 7), "pcie.levels.0.1", "PIX")
    with pytest.raises(InvalidInputsError) as caught:
        parse_machine(yaml.safe_dump(document), "rack.yaml")
    assert [fault.field for fault in caught.value.faults] == ["gpu.count", "pcie.levels[0][1]"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "mapping"),
        ("[1, 2]", "mapping"),
        ("a: [", "not YAML"),
        ("a: !!python/object:os.system {}", "not YAML"),
        ("a: &x [1]\nb: *x", "alias"),
        ("[" * 5000, "nested"),
        ("# " + "x" * (1 << 20), "larger"),
        ("a: \x00", "not YAML"),
        ("a: 2001-99-99", "not YAML"),
    ],
)
def test_hostile_text_is_refused_before_values_are_built(text: str, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        parse_machine(text, "rack.yaml")


def test_seventeen_gpus_are_too_many() -> None:
    with pytest.raises(InvalidInputError, match="1 to 16"):
        parse_machine(yaml.safe_dump(_document(17)), "rack.yaml")


def test_counts_that_differ_by_direction_become_the_smaller_with_a_warning() -> None:
    machine = parse_machine(yaml.safe_dump(_set(_document(), "nvlink.matrix", [[0, 4], [3, 0]])), "rack.yaml")
    assert machine.nvlink.matrix == ((0, 3), (3, 0))
    assert machine.warnings == ("nvlink.matrix: GPUs 0 and 1 report 4 and 3 links; took 3",)


def test_an_unknown_pcie_generation_may_state_its_rate() -> None:
    document = _set(_set(_document(), "pcie.generation", 9), "pcie.gbyte_s_per_direction", 500)
    assert parse_machine(yaml.safe_dump(document), "rack.yaml").pcie.gbyte_s_per_direction == 500


def test_a_device_may_be_another_product_than_its_node() -> None:
    machine = catalog.machine("mixed-a100-sxm-pcie")
    assert machine.product(3) == "NVIDIA A100-PCIE-40GB"
    assert machine.product(0) == "NVIDIA A100-SXM4-40GB"


def _fabric(uuid: str, clique: int | None, state: str = "completed", status: str = "success") -> FabricFacts:
    return FabricFacts(state=state, status=status, cluster_uuid=uuid, clique_id=clique)


RACK = "00000001-0000-0000-0000-00000000000a"


@pytest.mark.parametrize(
    ("one", "other", "peers"),
    [
        (_fabric(RACK, 2), _fabric(RACK.upper(), 2), True),
        (_fabric(RACK, 2), _fabric(RACK, 3), False),
        (_fabric(RACK, 2), _fabric(RACK.replace("1", "2"), 2), False),
        (_fabric("00000000-0000-0000-0000-000000000000", 0), _fabric("00000000-0000-0000-0000-000000000000", 0), False),
        (_fabric("", 0), _fabric("", 0), False),
        (_fabric(RACK, 2), _fabric(RACK, 2, state="in-progress"), False),
        (_fabric(RACK, 2), _fabric(RACK, 2, status="failure"), False),
        (_fabric(RACK, None), _fabric(RACK, None), False),
    ],
)
def test_nodes_are_nvlink_peers_only_with_equal_nonzero_uuid_and_clique(
    one: FabricFacts, other: FabricFacts, *, peers: bool
) -> None:
    assert same_nvlink_domain(one, other) is peers
    assert same_nvlink_domain(other, one) is peers


def test_an_hgx_board_with_its_zero_uuid_joins_nobody() -> None:
    board = catalog.machine("hgx-h100-8").fabric
    rack = catalog.machine("gb200-nvl72-node").fabric
    assert not same_nvlink_domain(board, board)
    assert same_nvlink_domain(rack, rack)
    assert not same_nvlink_domain(rack, catalog.machine("gb300-nvl72-node").fabric)


def test_an_unknown_machine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="dgx1-v100"):
        catalog.machine("../../etc/passwd")
