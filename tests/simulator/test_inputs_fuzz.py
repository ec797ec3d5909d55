"""Whatever bytes a file holds, a reader returns a value or says what is wrong with the input: never another error."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulator.inputs.arrivals import available, read_arrivals
from simulator.inputs.cluster import read_cluster
from simulator.inputs.openb import NODE_COLUMNS, POD_COLUMNS, TIME_COLUMNS, read_nodes, read_pods
from simulator.inputs.workload import COLUMNS, KINDS, read_workload
from topology.errors import InvalidInputError

EXAMPLES = Path(__file__).parents[2] / "examples"

CELLS = ["", "0", "1", "-1", "1000", "17", "1e9", "nan", "inf", '"', "a|b", "\ud800", "\0", *KINDS]
cells = st.sampled_from(CELLS) | st.text(max_size=5)
SCALARS = [
    "1",
    "-1",
    "x",
    "1Ti",
    ".nan",
    "!!bool x",
    '!!int ""',
    "!!timestamp x",
    "2026-99-99",
    "[1]",
    "{a: 1}",
    "[",
    "*a",
]
scalars = st.sampled_from(SCALARS) | st.text(max_size=4)
keys = st.sampled_from(["name", "count", "machine", "cpu", "memory", "mig", "pricePerHour", "unhealthy", "<<", "?"])


def bytes_of(text):
    return text.encode("utf-8", errors="surrogatepass")


def tables(columns):
    row = st.lists(cells, min_size=len(columns), max_size=len(columns)) | st.lists(cells, max_size=4)
    return st.lists(row, max_size=4).map(
        lambda rows: bytes_of("\n".join([",".join(columns), *(",".join(row) for row in rows)]))
    )


def attempt(tmp_path_factory, ending, content, read):
    path = tmp_path_factory.getbasetemp() / f"fuzz{ending}"
    path.write_bytes(content)
    with contextlib.suppress(InvalidInputError):
        read(path)


@given(
    content=st.binary() | tables((*POD_COLUMNS, "gpu_spec", *TIME_COLUMNS, "scheduled_time")), skip_bad=st.booleans()
)
def test_pod_lists(tmp_path_factory, content, skip_bad):
    attempt(tmp_path_factory, ".csv", content, lambda path: read_pods(path, skip_bad=skip_bad))
    attempt(tmp_path_factory, ".csv.gz", content, read_pods)


@given(content=st.binary() | tables(NODE_COLUMNS))
def test_node_lists(tmp_path_factory, content):
    attempt(tmp_path_factory, ".csv", content, read_nodes)


@given(content=st.binary() | tables(COLUMNS), skip_bad=st.booleans())
def test_workloads(tmp_path_factory, content, skip_bad):
    attempt(tmp_path_factory, ".csv", content, lambda path: read_workload(path, skip_bad=skip_bad))


@given(content=st.binary(), pairs=st.lists(st.tuples(keys, scalars), max_size=6))
def test_cluster_files(tmp_path_factory, content, pairs):
    attempt(tmp_path_factory, ".yaml", content, read_cluster)
    body = "\n".join(f"    {key}: {value}" for key, value in pairs)
    content = bytes_of(f"schemaVersion: cluster/v1\npools:\n  -\n{body}\n")
    attempt(tmp_path_factory, ".yaml", content, read_cluster)


@given(at=st.integers(0, 2000), change=st.binary(min_size=1, max_size=8))
def test_recordings(tmp_path_factory, at, change):
    whole = tmp_path_factory.getbasetemp() / "small.npz"
    if not whole.exists():
        np.savez_compressed(whole, **{"v/1/pods": np.arange(50) % 7, "v/1/node_rank": np.arange(9)})
    content = bytearray(whole.read_bytes())
    at %= len(content)
    content[at : at + len(change)] = change

    def read(path):
        available(path)
        read_arrivals(path, "v", 1, pods=7, nodes=9)

    attempt(tmp_path_factory, ".npz", bytes(content), read)
