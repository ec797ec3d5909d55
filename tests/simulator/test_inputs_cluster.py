"""Cluster files, quantities and the schema."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from packing.model import MigMode
from simulator.inputs.cluster import cluster_schema, read_cluster
from simulator.inputs.quantity import cpu_milli, memory_mib
from topology.catalog import machine, machine_names
from topology.errors import InvalidInputError, InvalidInputsError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "cluster.yaml"
SCHEMA = ROOT / "simulator" / "schemas" / "cluster.schema.json"
POOL = {"name": "p", "count": 2, "machine": "hgx-h100-8", "cpu": 96, "memory": "1Ti"}


def read(tmp_path, *pools, text=None, **more):
    path = tmp_path / "cluster.yaml"
    path.write_text(text or yaml.safe_dump({"schemaVersion": "cluster/v1", "pools": list(pools)} | more))
    return read_cluster(path)


def faults(tmp_path, *pools, **more):
    with pytest.raises(InvalidInputsError) as caught:
        read(tmp_path, *pools, **more)
    return [
        (fault.obj.removeprefix(f"{tmp_path / 'cluster.yaml'}").strip(), fault.field) for fault in caught.value.faults
    ]


def test_the_example_is_a_cluster_and_obeys_the_schema():
    cluster = read_cluster(EXAMPLE)
    assert len(cluster.nodes) == 12
    assert cluster.capacity_milli == (6 * 8 - 1 + 2 * 8 + 2 * 4) * 1000
    assert cluster.price_per_hour == 6 * 80 + 2 * 26 + 2 * 9 + 2 * 3
    assert cluster.nodes[3].unhealthy == {5}
    assert cluster.pools[1].nodes[0].mig_mode is MigMode.DYNAMIC
    jsonschema.validate(yaml.safe_load(EXAMPLE.read_text()), json.loads(SCHEMA.read_text()))


def test_the_schema_file_is_what_the_reader_accepts():
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(cluster_schema()))
    jsonschema.Draft202012Validator.check_schema(cluster_schema())


def test_node_names_are_unique_dns_labels_even_for_the_longest_pool(tmp_path):
    nodes = read(tmp_path, POOL | {"name": "a" * 57, "count": 10_001}, POOL | {"name": "a-0"}).nodes
    names = [node.name for node in nodes]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in names)
    assert names[-2:] == ["a-0-0000", "a-0-0001"]


def test_every_shipped_machine_makes_a_pool_of_one_shape(tmp_path):
    pools = [POOL | {"name": name, "machine": name} for name in machine_names()]
    cluster = read(tmp_path, *pools)
    for pool in cluster.pools:
        shape = pool.nodes[0].shape
        assert pool.nodes[1].shape is shape
        assert [gpu.product for gpu in shape.gpus] == [machine(pool.machine).product(i) for i in range(len(shape.gpus))]
        assert shape.links.gpu_count == machine(pool.machine).gpu_count


def test_a_machine_file_is_found_beside_the_cluster_file(tmp_path):
    shipped = ROOT / "topology" / "data" / "machines" / "l4-8-pcie.yaml"
    (tmp_path / "mine.yaml").write_text(shipped.read_text())
    cluster = read(tmp_path, POOL | {"machine": "mine.yaml"}, POOL | {"name": "q", "machine": "./mine.yaml"})
    assert len(cluster.nodes[0].shape.gpus) == 8
    with pytest.raises(InvalidInputsError, match=r"none\.yaml: cannot be read"):
        read(tmp_path, POOL | {"machine": "none.yaml"})


def test_a_pool_without_machine_has_no_gpus(tmp_path):
    pool = {name: value for name, value in POOL.items() if name != "machine"}
    cluster = read(tmp_path, pool)
    assert cluster.capacity_milli == 0
    assert cluster.nodes[0].cpu_milli == 96_000
    assert cluster.nodes[0].memory_mib == 2**20


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "Upper"}, "name"),
        ({"name": "a" * 58}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"count": 0}, "count"),
        ({"count": "2"}, "count"),
        ({"count": True}, "count"),
        ({"cpu": "many"}, "cpu"),
        ({"cpu": -1}, "cpu"),
        ({"cpu": float("nan")}, "cpu"),
        ({"memory": "1TB"}, "memory"),
        ({"memory": "16E"}, "memory"),
        ({"mig": "on"}, "mig"),
        ({"machine": "l4-8-pcie", "mig": "enabled"}, "mig"),
        ({"machine": "", "mig": "dynamic"}, "mig"),
        ({"machine": "no-such"}, "machine"),
        ({"pricePerHour": -1}, "pricePerHour"),
        ({"pricePerHour": float("inf")}, "pricePerHour"),
        ({"pricePerHour": float("nan")}, "pricePerHour"),
        ({"unhealthy": [{"node": 2, "gpus": [0]}]}, "unhealthy"),
        ({"unhealthy": [{"node": 0, "gpus": [8]}]}, "unhealthy"),
        ({"unhealthy": [{"node": 0, "gpus": [0]}, {"node": 0, "gpus": [1]}]}, "unhealthy"),
        ({"unhealthy": [{"node": 0, "gpus": []}]}, "unhealthy[0].gpus"),
        ({"pricePerHours": 1}, ""),
    ],
)
def test_a_bad_pool_is_told_by_name_and_field(tmp_path, change, field):
    [(_, told)] = faults(tmp_path, POOL | change)
    assert told == field


def test_faults_of_all_pools_are_told_at_once(tmp_path):
    found = faults(tmp_path, POOL | {"count": 0}, POOL | {"cpu": "x", "memory": "y", "machine": "z"}, POOL, note="hi")
    assert len(found) == 6
    assert ("", "note") in found
    assert ("pools[0]", "count") in found
    assert ("pool p", "name") in found
    assert ("pool p", "cpu") in found
    assert ("pool p", "memory") in found


def test_every_fault_inside_one_pool_is_told_at_once(tmp_path):
    bad = {"name": "p", "count": 0, "machine": "no-such", "memory": "y", "mig": True, "colour": "red"}
    bad["unhealthy"] = [{"node": 0, "gpus": [0]}, {"node": 0, "gpus": [1]}]
    assert sorted(faults(tmp_path, bad)) == [
        ("pool p", "machine"),
        ("pool p", "memory"),
        ("pool p", "unhealthy"),
        ("pools[0]", ""),
        ("pools[0]", "count"),
        ("pools[0]", "cpu"),
        ("pools[0]", "mig"),
    ]


@pytest.mark.parametrize("word", ["on", "off", "yes", "auto", "[1]"])
def test_a_wrong_mig_mode_is_told_the_right_ones(tmp_path, word):
    text = yaml.safe_dump({"schemaVersion": "cluster/v1", "pools": [POOL]}).replace("  name", f"  mig: {word}\n  name")
    with pytest.raises(InvalidInputsError, match=r"mig: is .*; write one of disabled, enabled, dynamic"):
        read(tmp_path, text=text)


def test_a_faulty_machine_names_its_pool(tmp_path):
    with pytest.raises(InvalidInputsError, match=r"cluster\.yaml pool p: machine: .*no-such"):
        read(tmp_path, POOL | {"machine": "no-such"})
    (tmp_path / "mine.yaml").write_text("schemaVersion: nothing\n")
    with pytest.raises(InvalidInputsError, match=r"pool p: machine: .*mine\.yaml"):
        read(tmp_path, POOL | {"machine": "mine.yaml"})


def test_the_number_of_nodes_is_bounded(tmp_path):
    assert faults(tmp_path, POOL | {"count": 60_000}, POOL | {"name": "q", "count": 60_000}) == [("", "pools")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no YAML mapping; such a file starts with `schemaVersion: cluster/v1`"),
        ("- a", "is no YAML mapping; such a file starts with `schemaVersion: cluster/v1`"),
        ("schemaVersion: cluster/v2", "is 'cluster/v2'; must be 'cluster/v1'"),
        ("schemaVersion: cluster/v1", "pools: must be a list"),
        ("schemaVersion: cluster/v1\npools: []", "pools: must be a list"),
        ("a: [", "is not YAML"),
        ("a: 2026-99-99", "is not YAML"),
        ("a: 1\na: 2", "line 2: repeats the key 'a'"),
        ("a: &x [1]\nb: *x", r"line 2: uses the YAML alias \*x"),
        ("a: " + "[" * 50 + "]" * 50, "nested deeper"),
        ("? [a]\n: 1", "line 1: has a key that is no plain text"),
        ("#" * 2**21, "holds more than"),
    ],
)
def test_a_document_that_is_no_cluster_is_refused(tmp_path, text, problem):
    with pytest.raises(InvalidInputError, match=problem):
        read(tmp_path, text=text or "\n")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_bytes(b"a: \xff")
    with pytest.raises(InvalidInputError, match="byte 3: is not UTF-8"):
        read_cluster(path)


@pytest.mark.parametrize(
    ("quantity", "milli"),
    [(96, 96_000), ("96000m", 96_000), (0.5, 500), ("1.5", 1500), (".5", 500), ("2e1", 20_000), ("1k", 10**6),
     ("100u", 0), ("1999999n", 1), ("1Ki", 1024_000)],
)  # fmt: skip
def test_cores_are_counted_in_thousandths_rounded_down(quantity, milli):
    assert cpu_milli(quantity, "x", "cpu") == milli


@given(st.integers(0, 2**40), st.sampled_from(["", "k", "M", "Ki", "Mi"]))
def test_memory_is_exact_for_any_size_and_suffix(number, suffix):
    factor = {"": 1, "k": 1000, "M": 10**6, "Ki": 1024, "Mi": 2**20}[suffix]
    assert memory_mib(f"{number}{suffix}", "x", "memory") == Fraction(number * factor) // 2**20


@pytest.mark.parametrize(
    "quantity", ["", "-1", "+1", "1 Gi", "Gi", "1e", "1e999", "1ki", "0x10", "1_0", "9" * 50, "\u0661", "8Ei"]
)
def test_what_is_no_quantity_is_refused(quantity):
    with pytest.raises(InvalidInputError, match="node: memory"):
        memory_mib(quantity, "node", "memory")
