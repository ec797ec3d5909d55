"""Workloads: jobs with a submission time, a duration and a demand; read from `workload.csv` or from an openb pod list.

The columns of `workload.csv` are explained in `simulator/schemas/workload.md`; only `submit_s, duration_s, kind` are
required.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packing.model import (
    ANY_GPU,
    MAX_GPUS_PER_NODE,
    WHOLE_MILLI,
    Demand,
    LinkWish,
    PartitionRequest,
    Request,
    Selector,
    ShareRequest,
    Sharing,
    WholeRequest,
)
from simulator.inputs.openb import PodList
from simulator.inputs.rows import Faults, Rejected, Row, read_table
from simulator.inputs.source import MAX_INPUT_BYTES
from topology.errors import InvalidInputError

REQUIRED = ("submit_s", "duration_s", "kind")
KINDS: dict[str, tuple[str, ...]] = {
    "whole": ("gpus", "link", "min_gbps", "min_memory_mib", "product"),
    "partition": ("profile", "min_memory_mib", "min_sms", "product"),
    "share": ("share_compute_milli", "share_memory_mib", "sharing", "min_memory_mib", "product"),
    "cpu": (),
}
"""Kinds of job, and the columns that mean something only for some of them."""

COMMON = ("count", "cpu_milli", "memory_mib", "name")
COLUMNS = (*REQUIRED, *COMMON, *dict.fromkeys(name for names in KINDS.values() for name in names))
MAX_JOBS = 5_000_000
"""Most jobs of one workload, after `count` is expanded."""


NONE_REJECTED = Rejected()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Workload:
    """Jobs in order of submission. Job i asks for `demands[classes[i]]`; `demands` are distinct.

    Times are seconds; a duration may be infinite (a service that never ends).
    """

    source: str
    names: tuple[str, ...]
    submit_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    classes: NDArray[np.int64]
    demands: tuple[Demand, ...]
    rejected: Rejected = NONE_REJECTED

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.submit_s) == len(self.duration_s) == len(self.classes)
        assert bool(np.all(self.submit_s[:-1] <= self.submit_s[1:])), "jobs are in order of submission"

    def __len__(self) -> int:
        return len(self.names)

    def counts(self) -> list[tuple[Demand, int]]:
        """Return each distinct demand with the number of jobs that ask for it."""
        counts = np.bincount(self.classes, minlength=len(self.demands))
        return [(demand, int(count)) for demand, count in zip(self.demands, counts, strict=True)]


def read_workload(path: Path, *, skip_bad: bool = False, max_bytes: int = MAX_INPUT_BYTES) -> Workload:
    """Return the jobs in `path` (`.csv` or `.csv.gz`); with `skip_bad`, without the rows that are wrong.

    Raises InvalidInputsError with every bad row, InvalidInputError for a file that is no workload.
    """
    table = read_table(path, REQUIRED, max_bytes=max_bytes)
    _refuse_misspelt(table.source, table.columns)
    faults = Faults(table.source)
    index: dict[Demand, int] = {}
    names: list[str] = []
    jobs: list[tuple[float, float, int]] = []
    for row in table.rows(faults):
        submit_s, duration_s = row.number("submit_s"), _duration(row)
        count = row.integer("count", low=1, high=MAX_JOBS, default=1)
        demand = _demand(row)
        if row.faults or demand is None:
            faults.add(row.faults)
            continue
        if len(jobs) + count > MAX_JOBS:
            raise InvalidInputError(row.where, "count", f"makes more than {MAX_JOBS} jobs in all; split the workload")
        name = row.text("name") or row.where.rpartition(" ")[2]
        names += [name] if count == 1 else [f"{name}-{number}" for number in range(count)]
        jobs += [(submit_s, duration_s, index.setdefault(demand, len(index)))] * count
    return _sorted(table.source, names, jobs, tuple(index), faults.settle(skip_bad=skip_bad))


def from_openb(pods: PodList) -> Workload:
    """Return the pods of an openb list as jobs: submitted when created, running from their start to their deletion.

    A pod that never started in the trace is given its whole life as duration: nothing better is known of it.
    Raises InvalidInputError for a list without times.
    """
    if pods.times is None:
        raise InvalidInputError(
            pods.source, "creation_time, deletion_time", "are missing: this list cannot be replayed"
        )
    times = pods.times
    started_s = np.where(np.isnan(times.scheduled_s), times.creation_s, times.scheduled_s)
    jobs = zip(times.creation_s.tolist(), (times.deletion_s - started_s).tolist(), pods.classes.tolist(), strict=True)
    return _sorted(pods.source, list(pods.names), list(jobs), pods.demands, pods.rejected)


def _sorted(
    source: str, names: list[str], jobs: list[tuple[float, float, int]], demands: tuple[Demand, ...], rejected: Rejected
) -> Workload:
    # Stable: jobs submitted at one instant keep the order of the file.
    order = sorted(range(len(jobs)), key=lambda job: jobs[job][0])
    return Workload(
        source=source,
        names=tuple(names[job] for job in order),
        submit_s=np.array([jobs[job][0] for job in order], dtype=np.float64),
        duration_s=np.array([jobs[job][1] for job in order], dtype=np.float64),
        classes=np.array([jobs[job][2] for job in order], dtype=np.int64),
        demands=demands,
        rejected=rejected,
    )


def _refuse_misspelt(source: str, columns: tuple[str, ...]) -> None:
    # Most columns may be left out, so a misspelt one would silently mean "the default" in every row.
    if unknown := [name for name in columns if name not in COLUMNS]:
        problem = f"has unknown columns {', '.join(map(repr, unknown))}; known are {', '.join(COLUMNS)}"
        raise InvalidInputError(source, "header", problem)


def _duration(row: Row) -> float:
    return math.inf if row.text("duration_s") == "inf" else row.number("duration_s")


def _demand(row: Row) -> Demand | None:
    kind = row.choice("kind", tuple(KINDS))
    cpu_milli, memory_mib = row.integer("cpu_milli", default=0), row.integer("memory_mib", default=0)
    for names in KINDS.values():
        for name in names:
            if name not in KINDS[kind] and row.text(name):
                row.fault(name, f"means nothing for kind {kind}; leave it empty")
    # A name can belong to several kinds and would then be told twice.
    row.faults = list({str(fault): fault for fault in row.faults}.values())
    try:
        request = _request(row, kind)
    except InvalidInputError as error:
        # The request refuses combinations that are fine cell by cell; a bad cell was told already.
        if not row.faults:
            column = f"share_{error.field}" if kind == "share" else error.field
            row.faults.append(InvalidInputError(row.where, column, error.problem))
        return None
    if row.faults:
        return None
    return Demand(cpu_milli=cpu_milli, memory_mib=memory_mib, requests=(request,) if request else ())


def _request(row: Row, kind: str) -> Request | None:
    if kind == "cpu":
        return None
    min_memory_mib = row.integer("min_memory_mib", default=0)
    products = tuple(filter(None, (name.strip() for name in row.text("product").split("|"))))
    if kind == "partition":
        return PartitionRequest(
            profile=row.text("profile"),
            min_memory_mib=min_memory_mib,
            min_sms=row.integer("min_sms", default=0),
            selector=Selector(products=products) if products else ANY_GPU,
        )
    selector = Selector(products=products, min_memory_mib=min_memory_mib)
    if kind == "whole":
        return WholeRequest(
            count=row.integer("gpus", low=1, high=MAX_GPUS_PER_NODE, default=1),
            link=LinkWish(row.choice("link", tuple(LinkWish), default=LinkWish.PREFER)),
            min_gbps=row.number("min_gbps", default=0),
            selector=selector,
        )
    return ShareRequest(
        compute_milli=row.integer("share_compute_milli", high=WHOLE_MILLI, default=0),
        memory_mib=row.integer("share_memory_mib", default=0),
        sharing=Sharing(row.choice("sharing", tuple(Sharing), default=Sharing.TIME_SLICING)),
        selector=selector,
    )
