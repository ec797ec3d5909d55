"""The openb readers, on the published files and on every kind of bad row."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from packing.model import Demand, LinkWish, Selector, ShareRequest, WholeRequest
from simulator.inputs.openb import gpu_milli, read_nodes, read_pods
from simulator.inputs.rows import MAX_FAULTS_KEPT
from topology.errors import InvalidInputError, InvalidInputsError

OPENB = Path(__file__).parents[2] / "examples" / "openb"
HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time,scheduled_time"
GOOD = "p,1000,64,1,500,,5,9,6"


def pods_of(tmp_path, *rows, header=HEADER, **options):
    path = tmp_path / "pods.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return read_pods(path, **options)


def test_the_benchmark_cluster_has_the_published_size():
    nodes = read_nodes(OPENB / "openb_node_list_gpu_node.csv.gz")
    assert len(nodes) == 1213
    assert sum(len(node.shape.gpus) for node in nodes) == 6212
    assert sum(node.cpu_milli for node in nodes) == 107_018_000
    assert sum(node.memory_mib for node in nodes) * 2**20 == 528_302_452_244_480


def test_nodes_of_one_model_and_count_share_one_shape():
    nodes = read_nodes(OPENB / "openb_node_list_all_node.csv.gz")
    kinds = Counter((node.shape.name, id(node.shape)) for node in nodes)
    assert len(kinds) == len({name for name, _ in kinds}) == 13
    assert {name: count for (name, _), count in kinds.items()}["cpu-only"] == 310


def test_the_default_list_has_the_published_mix():
    pods = read_pods(OPENB / "openb_pod_list_default.csv.gz")
    kinds = Counter()
    for demand, count in pods.counts():
        request = demand.requests[0] if demand.requests else None
        kinds[request.count if isinstance(request, WholeRequest) else type(request)] += count
    assert kinds == {type(None): 1088, ShareRequest: 3078, 1: 3911, 2: 16, 4: 15, 8: 44}
    assert len(pods) == 8152
    assert len(pods.demands) == 151
    assert pods.gpu_milli.sum() == 6_086_800


def test_counts_and_rows_tell_the_same_demand():
    pods = read_pods(OPENB / "openb_pod_list_gpuspec33.csv.gz")
    assert Counter(dict(pods.counts())) == Counter(pods.demand(row) for row in range(len(pods)))
    assert len(set(pods.demands)) == len(pods.demands)
    assert [gpu_milli(pods.demand(row)) for row in range(len(pods))] == pods.gpu_milli.tolist()


def test_lists_without_times_or_models_are_read():
    pods = read_pods(OPENB / "openb_pod_list_multigpu50.csv.gz")
    assert pods.times is None
    assert len(pods) == 9061


def test_plain_and_compressed_files_read_alike(tmp_path):
    packed = OPENB / "openb_pod_list_cpu050.csv.gz"
    plain = tmp_path / "pods.csv"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    one, two = read_pods(packed), read_pods(plain)
    assert one.names == two.names
    assert one.demands == two.demands
    assert one.classes.tolist() == two.classes.tolist()


@pytest.mark.parametrize(
    ("row", "requests"),
    [
        ("p,1,1,0,999,A,,,", ()),
        ("p,1,1,0,x,,,,", ()),
        ("p,1,1,1,460,,,,", (ShareRequest(compute_milli=460),)),
        ("p,1,1,1,1000,,,,", (WholeRequest(count=1, link=LinkWish.PREFER),)),
        ("p,1,1,8,1000,G3|G2,,,", (WholeRequest(count=8, selector=Selector(products=("G3", "G2"))),)),
    ],
)
def test_a_row_becomes_its_demand(tmp_path, row, requests):
    header = HEADER.replace("creation_time", "other").replace("deletion_time", "extra")
    pods = pods_of(tmp_path, row, header=header)
    assert pods.demands == (Demand(cpu_milli=1, memory_mib=1, requests=requests),)


def test_a_pod_still_there_at_the_end_is_never_deleted_and_one_never_started_has_no_start(tmp_path):
    times = pods_of(tmp_path, "p,1,1,0,0,,5,,").times
    assert (times.creation_s[0], times.deletion_s[0]) == (5, np.inf)
    assert np.isnan(times.scheduled_s[0])


BAD_ROWS = {
    "not whole": ("p,1.5,64,1,500,,5,9,6", "cpu_milli"),
    "underscore": ("p,1_000,64,1,500,,5,9,6", "cpu_milli"),
    "other digits": ("p,\u0661,64,1,500,,5,9,6", "cpu_milli"),
    "empty": ("p,,64,1,500,,5,9,6", "cpu_milli"),
    "negative": ("p,1000,-64,1,500,,5,9,6", "memory_mib"),
    "too many digits": ("p," + "9" * 5000 + ",64,1,500,,5,9,6", "cpu_milli"),
    "share of nothing": ("p,1000,64,1,0,,5,9,6", "gpu_milli"),
    "more than a GPU": ("p,1000,64,1,1001,,5,9,6", "gpu_milli"),
    "parts of several": ("p,1000,64,2,500,,5,9,6", "gpu_milli"),
    "too many GPUs": ("p,1000,64,17,1000,,5,9,6", "num_gpu"),
    "no name": (",1000,64,1,500,,5,9,6", "name"),
    "deleted first": ("p,1000,64,1,500,,9,5,", "deletion_time"),
    "scheduled late": ("p,1000,64,1,500,,5,9,10", "scheduled_time"),
    "nan": ("p,1000,64,1,500,,nan,9,6", "creation_time"),
    "infinite": ("p,1000,64,1,500,,5,inf,6", "deletion_time"),
    "before zero": ("p,1000,64,1,500,,-5,9,6", "creation_time"),
    "beyond exact": ("p,1000,64,1,500,,5,1e300,6", "deletion_time"),
    "short": ("p,1000,64,1,500", ""),
    "long": (GOOD + ",1", ""),
}


@pytest.mark.parametrize(("row", "field"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_told_with_file_line_and_field_or_skipped_and_counted(tmp_path, row, field):
    good = GOOD.replace("p,", "q,")
    with pytest.raises(InvalidInputsError) as caught:
        pods_of(tmp_path, good, row)
    [fault] = caught.value.faults
    assert fault.obj == f"{tmp_path / 'pods.csv'} line 3"
    assert fault.field == field
    pods = pods_of(tmp_path, good, row, skip_bad=True)
    assert pods.names == ("q",)
    assert pods.rejected.count == 1
    assert [str(f) for f in pods.rejected.faults] == [str(fault)]


def test_a_name_used_twice_is_a_fault_that_names_the_first_line(tmp_path):
    with pytest.raises(InvalidInputsError, match=r"line 3: name: 'p' is used before, in .* line 2"):
        pods_of(tmp_path, GOOD, GOOD)
    assert pods_of(tmp_path, GOOD, GOOD, skip_bad=True).rejected.count == 1


def test_a_row_that_was_skipped_does_not_occupy_its_name(tmp_path):
    assert pods_of(tmp_path, "p,x,64,1,500,,5,9,6", GOOD, skip_bad=True).names == ("p",)


def test_every_fault_of_every_row_is_told_at_once(tmp_path):
    with pytest.raises(InvalidInputsError) as caught:
        pods_of(tmp_path, "p,x,y,1,500,,5,9,6", GOOD, "r,1,1,1,2000,,5,9,6")
    assert [(f.obj[-6:], f.field) for f in caught.value.faults] == [
        ("line 2", "cpu_milli"), ("line 2", "memory_mib"), ("line 4", "gpu_milli"),
    ]  # fmt: skip


def test_a_wholly_wrong_file_gives_a_short_message(tmp_path):
    with pytest.raises(InvalidInputsError) as caught:
        pods_of(tmp_path, *["p,x,1,0,0,,,,"] * 1000)
    assert len(caught.value.faults) == MAX_FAULTS_KEPT + 1
    assert "1000 bad rows" in str(caught.value)


def test_bytes_that_are_not_utf8_are_a_fault_of_their_row(tmp_path):
    path = tmp_path / "pods.csv"
    path.write_bytes(f"{HEADER}\n{GOOD}\n".encode() + b"\xff\xfe,1000,64,1,500,,5,9,6\n")
    with pytest.raises(InvalidInputsError, match=r"line 3: name: .*UTF-8"):
        read_pods(path)
    assert read_pods(path, skip_bad=True).names == ("p",)


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_harmless(tmp_path):
    path = tmp_path / "pods.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n\r\n{GOOD}\r\n".encode())
    assert read_pods(path).names == ("p",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"name,cpu_milli\n", "lacks the columns memory_mib, num_gpu, gpu_milli"),
        (f"{HEADER},name\n".encode(), "names name more than once"),
        (f'{HEADER}\n"p,1\n'.encode(), "is not CSV"),
        (f"{HEADER}\n{GOOD}\n".encode() * 100, "holds more than 1000 bytes"),
    ],
)
def test_a_file_that_is_no_pod_list_is_refused_with_its_reason(tmp_path, content, problem):
    path = tmp_path / "pods.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=problem):
        read_pods(path, max_bytes=1000)


def test_a_compressed_bomb_a_damaged_and_a_missing_file_are_refused(tmp_path):
    path = tmp_path / "pods.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 10**6))
    with pytest.raises(InvalidInputError, match="holds more than 1000 bytes"):
        read_pods(path, max_bytes=1000)
    path.write_bytes(gzip.compress(b"name,cpu_milli\n" * 9)[:-9])
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_pods(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_pods(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("n,1,1,2,", "line 2: model: '' is empty"),
        ("n,1,1,99,A", "line 2: gpu: '99' is out of range"),
        ("n,-1,1,0,", "line 2: cpu_milli"),
        ("n,1,1,0,\nn,1,1,0,", "line 3: sn: 'n' is used before"),
        ("", "names no node"),
    ],
)
def test_bad_node_rows_are_never_skipped(tmp_path, row, problem):
    path = tmp_path / "nodes.csv"
    path.write_text(f"sn,cpu_milli,memory_mib,gpu,model\n{row}\n")
    with pytest.raises(InvalidInputError, match=problem):
        read_nodes(path)
