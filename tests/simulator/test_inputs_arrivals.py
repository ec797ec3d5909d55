"""Recorded and drawn arrival orders."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.inputs.arrivals import available, draw_arrivals, read_arrivals, with_ranks
from simulator.inputs.openb import read_nodes, read_pods
from topology.errors import InvalidInputError

OPENB = Path(__file__).parents[2] / "examples" / "openb"
RECORDED = OPENB / "openb_arrivals_seeds42-51.npz"
CAPACITY = 6_212_000


@pytest.fixture(scope="module")
def default():
    return read_pods(OPENB / "openb_pod_list_default.csv.gz")


def test_every_recorded_run_belongs_to_its_list_and_ends_near_130_percent():
    runs = available(RECORDED)
    assert len(runs) == 14
    for variant, seeds in runs.items():
        assert seeds == tuple(range(42, 52))
        pods = read_pods(OPENB / f"openb_pod_list_{variant}.csv.gz")
        arrivals = read_arrivals(RECORDED, variant, 42, pods=len(pods), nodes=1213)
        assert 1.29 < pods.gpu_milli[arrivals.pods].sum() / CAPACITY < 1.31


@pytest.mark.parametrize(
    ("variant", "seed", "pods", "nodes", "problem"),
    [
        ("default", 42, 8000, 1213, "of a pod list with 8000 rows"),
        ("default", 42, 8152, 1212, "is not an order of 1212 nodes"),
        ("default", 41, 8152, 1213, "is not recorded here"),
        ("other", 42, 8152, 1213, "is not recorded here"),
    ],
)
def test_a_recording_for_other_inputs_is_refused(variant, seed, pods, nodes, problem):
    with pytest.raises(InvalidInputError, match=problem):
        read_arrivals(RECORDED, variant, seed, pods=pods, nodes=nodes)


def recording(tmp_path, pods, ranks):
    path = tmp_path / "a.npz"
    np.savez(path, allow_pickle=True, **{"v/1/pods": pods, "v/1/node_rank": ranks})
    return path


@pytest.mark.parametrize(
    ("pods", "ranks"),
    [
        (np.array([0, -1]), np.arange(3)),
        (np.array([0, 1.5]), np.arange(3)),
        (np.array([[0, 1]]), np.arange(3)),
        (np.array([0, None], dtype=object), np.arange(3)),
        (np.array([0, 1]), np.array([0, 1, 1])),
        (np.array([0, 1]), np.array([1, 2, 3])),
        (np.array([2**64 - 1], dtype=np.uint64), np.arange(3)),
    ],
)
def test_arrays_that_are_no_rows_or_no_order_are_refused(tmp_path, pods, ranks):
    with pytest.raises(InvalidInputError):
        read_arrivals(recording(tmp_path, pods, ranks), "v", 1, pods=2, nodes=3)


def test_damaged_files_and_lying_headers_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK not a zip")
    with pytest.raises(InvalidInputError, match=r"cannot be read as \.npz"):
        available(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)})
    for content in (header.getvalue(), b"junk", b""):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("v/1/pods.npy", content)
            archive.writestr("v/1/node_rank.npy", content)
        with pytest.raises(InvalidInputError, match="v/1/pods"):
            read_arrivals(path, "v", 1, pods=2, nodes=3)


@given(seed=st.integers(0, 2**64), until=st.floats(0, 3))
def test_drawn_arrivals_stop_with_the_first_that_passes_the_target(default, seed, until):
    arrivals = draw_arrivals(default, CAPACITY, seed, nodes=50, until=until)
    arrived = np.cumsum(default.gpu_milli[arrivals.pods])
    assert arrived[-1] > until * CAPACITY
    assert np.all(arrived[:-1] <= until * CAPACITY)
    assert sorted(arrivals.node_rank) == list(range(50))
    head = arrivals.pods[: len(default)]
    assert len(set(head.tolist())) == len(head), "the list itself comes first, each pod once"


def test_the_same_seed_draws_the_same_and_another_seed_another_order(default):
    one, two, other = (draw_arrivals(default, CAPACITY, seed, nodes=9) for seed in (7, 7, 8))
    assert one.pods.tobytes() == two.pods.tobytes()
    assert one.node_rank.tobytes() == two.node_rank.tobytes()
    assert one.pods.tobytes() != other.pods.tobytes()


def test_a_list_without_gpu_demand_cannot_fill_a_cluster(tmp_path):
    path = tmp_path / "pods.csv"
    path.write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1,1,0,0\n")
    with pytest.raises(InvalidInputError, match="no pod with GPU demand"):
        draw_arrivals(read_pods(path), CAPACITY, 1, nodes=1)


@pytest.mark.parametrize("options", [{"until": np.nan}, {"until": -1}, {"until": 1e12}, {"seed": -1}, {"nodes": -1}])
def test_targets_that_make_no_sense_are_refused(default, options):
    with pytest.raises(InvalidInputError):
        draw_arrivals(default, CAPACITY, **({"seed": 1, "nodes": 1} | options))


def test_ranks_go_to_the_nodes_in_order_of_name():
    nodes = read_nodes(OPENB / "openb_node_list_gpu_node.csv.gz")
    rank = np.random.default_rng(3).permutation(len(nodes))
    ranked = with_ranks(nodes[::-1], rank)
    assert [node.rank for node in sorted(ranked, key=lambda node: node.name)] == rank.tolist()
    with pytest.raises(InvalidInputError, match="ranks 1213 nodes"):
        with_ranks(nodes[1:], rank)
