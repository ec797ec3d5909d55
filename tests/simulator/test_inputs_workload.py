"""`workload.csv` and openb lists as workloads."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from packing.model import (
    Demand,
    LinkWish,
    PartitionRequest,
    Selector,
    ShareRequest,
    Sharing,
    WholeRequest,
)
from simulator.inputs import workload as module
from simulator.inputs.openb import read_pods
from simulator.inputs.workload import COLUMNS, from_openb, read_workload
from topology.errors import InvalidInputError, InvalidInputsError

ROOT = Path(__file__).parents[2]
OPENB = ROOT / "examples" / "openb"


def read(tmp_path, header, *rows, **options):
    path = tmp_path / "workload.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return read_workload(path, **options)


def one_demand(tmp_path, **cells):
    cells = {"submit_s": "0", "duration_s": "1"} | cells
    [demand] = read(tmp_path, ",".join(cells), ",".join(cells.values())).demands
    return demand


def test_three_columns_are_enough_and_the_rest_have_defaults(tmp_path):
    work = read(tmp_path, "submit_s,duration_s,kind", "0,60,whole", "1.5,inf,cpu")
    assert work.demands == (Demand(requests=(WholeRequest(count=1, link=LinkWish.PREFER),)), Demand())
    assert work.submit_s.tolist() == [0, 1.5]
    assert work.duration_s.tolist() == [60, math.inf]
    assert work.names == ("2", "3")


@pytest.mark.parametrize(
    ("cells", "request_"),
    [
        (
            {"kind": "whole", "gpus": "4", "link": "require", "min_gbps": "200.5", "product": "A|B"},
            WholeRequest(count=4, link=LinkWish.REQUIRE, min_gbps=200.5, selector=Selector(products=("A", "B"))),
        ),
        ({"kind": "whole", "min_memory_mib": "9"}, WholeRequest(selector=Selector(min_memory_mib=9))),
        ({"kind": "partition", "profile": "1g.10gb"}, PartitionRequest(profile="1g.10gb")),
        (
            {"kind": "partition", "min_memory_mib": "9", "min_sms": "14"},
            PartitionRequest(min_memory_mib=9, min_sms=14),
        ),
        (
            {"kind": "share", "share_compute_milli": "300", "share_memory_mib": "7", "sharing": "mps"},
            ShareRequest(compute_milli=300, memory_mib=7, sharing=Sharing.MPS),
        ),
    ],
)
def test_a_row_becomes_its_request(tmp_path, cells, request_):
    demand = one_demand(tmp_path, cpu_milli="5", memory_mib="6", **cells)
    assert demand == Demand(cpu_milli=5, memory_mib=6, requests=(request_,))


def test_count_makes_identical_jobs_and_jobs_are_ordered_by_submission(tmp_path):
    work = read(tmp_path, "submit_s,duration_s,kind,count,name", "9,1,cpu,2,late", "3,1,whole,1,early", "9,2,cpu,,last")
    assert work.names == ("early", "late-0", "late-1", "last")
    assert work.submit_s.tolist() == [3, 9, 9, 9]
    assert [work.demands[c].requests != () for c in work.classes] == [True, False, False, False]
    assert work.counts() == [(Demand(), 3), (Demand(requests=(WholeRequest(),)), 1)]


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        ({"kind": "gpu"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"kind": "whole", "gpus": "0"}, "gpus"),
        ({"kind": "whole", "gpus": "17"}, "gpus"),
        ({"kind": "whole", "link": "maybe"}, "link"),
        ({"kind": "whole", "min_gbps": "1"}, "min_gbps"),
        ({"kind": "whole", "min_gbps": "-1", "link": "require"}, "min_gbps"),
        ({"kind": "whole", "profile": "1g.10gb"}, "profile"),
        ({"kind": "cpu", "product": "A"}, "product"),
        ({"kind": "partition"}, "profile"),
        ({"kind": "share"}, "share_compute_milli"),
        ({"kind": "share", "share_compute_milli": "1001"}, "share_compute_milli"),
        ({"kind": "share", "share_compute_milli": "1", "sharing": "vgpu"}, "sharing"),
        ({"kind": "cpu", "count": "0"}, "count"),
        ({"kind": "cpu", "submit_s": "-1"}, "submit_s"),
        ({"kind": "cpu", "submit_s": "inf"}, "submit_s"),
        ({"kind": "cpu", "duration_s": ""}, "duration_s"),
        ({"kind": "cpu", "duration_s": "nan"}, "duration_s"),
        ({"kind": "cpu", "cpu_milli": "0.5"}, "cpu_milli"),
    ],
)
def test_a_bad_cell_is_told_with_line_and_field_or_skipped(tmp_path, cells, field):
    cells = {"submit_s": "0", "duration_s": "1"} | cells
    header, row = ",".join(cells), ",".join(cells.values())
    with pytest.raises(InvalidInputsError) as caught:
        read(tmp_path, header, row)
    assert [(fault.obj.split()[-2:], fault.field) for fault in caught.value.faults] == [(["line", "2"], field)]
    assert read(tmp_path, header, row, skip_bad=True).rejected.count == 1


def test_a_misspelt_column_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="unknown columns 'gpu'"):
        read(tmp_path, "submit_s,duration_s,kind,gpu", "0,1,whole,4")


def test_the_number_of_jobs_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_JOBS", 5)
    with pytest.raises(InvalidInputError, match="line 3: count: makes more than 5 jobs"):
        read(tmp_path, "submit_s,duration_s,kind,count", "0,1,cpu,3", "0,1,cpu,3")


def test_openb_jobs_run_from_start_to_deletion_and_wait_is_not_run_time(tmp_path):
    path = tmp_path / "pods.csv"
    path.write_text(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time,scheduled_time\n"
        "late,1,1,0,0,100,150,120\nnever,1,1,0,0,10,40,\nendless,1,1,0,0,50,,50\n"
    )
    work = from_openb(read_pods(path))
    assert work.names == ("never", "endless", "late")
    assert work.submit_s.tolist() == [10, 50, 100]
    assert work.duration_s.tolist() == [30, math.inf, 30]


def test_every_timed_openb_list_is_a_workload_and_untimed_ones_are_refused():
    pods = read_pods(OPENB / "openb_pod_list_gpuspec33.csv.gz")
    work = from_openb(pods)
    assert len(work) == len(pods)
    assert dict(work.counts()) == dict(pods.counts())
    assert np.all(work.duration_s >= 0)
    with pytest.raises(InvalidInputError, match="cannot be replayed"):
        from_openb(read_pods(OPENB / "openb_pod_list_multigpu20.csv.gz"))


def test_the_documented_columns_are_the_ones_that_are_read():
    text = (ROOT / "simulator" / "schemas" / "workload.md").read_text("utf-8")
    documented = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert documented == set(COLUMNS)
