"""Reader of the openb trace (Alibaba GPU cluster, 2023): node lists and pod lists as CSV.

Columns of a node list: `sn, cpu_milli, memory_mib, gpu, model`. Columns of a pod list: `name, cpu_milli, memory_mib,
num_gpu, gpu_milli` and, where present, `gpu_spec, creation_time, deletion_time, scheduled_time` (seconds).
`gpu_milli` is per GPU and says nothing where `num_gpu` is 0.
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
    GpuModel,
    LinkWish,
    Node,
    NodeName,
    NodeShape,
    Request,
    Selector,
    ShareRequest,
    WholeRequest,
)
from simulator.inputs.rows import Faults, Rejected, Row, read_table
from simulator.inputs.source import MAX_INPUT_BYTES
from topology.errors import InvalidInputError
from topology.quality import flat_quality

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
TIME_COLUMNS = ("creation_time", "deletion_time")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PodTimes:
    """When each pod of a list was created, started and deleted, in seconds from the start of the trace.

    `scheduled_s` is NaN for a pod that never started; `deletion_s` is infinite for one that was still there at the end.
    """

    creation_s: NDArray[np.float64]
    scheduled_s: NDArray[np.float64]
    deletion_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PodList:
    """A pod list in file order. Row i asks for `demands[classes[i]]`; `demands` are distinct, in order of appearance.

    `gpu_milli[i]` is the true GPU demand of row i in thousandths of a GPU (GPUs times share of each).
    `times` is None where the file has no times.
    """

    source: str
    names: tuple[str, ...]
    demands: tuple[Demand, ...]
    classes: NDArray[np.int64]
    gpu_milli: NDArray[np.int64]
    times: PodTimes | None
    rejected: Rejected

    def __len__(self) -> int:
        return len(self.names)

    def demand(self, row: int) -> Demand:
        """Return what row `row` asks for."""
        return self.demands[int(self.classes[row])]

    def counts(self) -> list[tuple[Demand, int]]:
        """Return each distinct demand with the number of rows that ask for it."""
        counts = np.bincount(self.classes, minlength=len(self.demands))
        return [(demand, int(count)) for demand, count in zip(self.demands, counts, strict=True)]


def read_nodes(path: Path, *, max_bytes: int = MAX_INPUT_BYTES) -> list[Node]:
    """Return the nodes of an openb node list, in file order. GPUs of one node are joined by equal links.

    Bad rows are never skipped: a cluster that silently lacks nodes answers a different question.
    Raises InvalidInputsError with every bad row, InvalidInputError for a file that is no node list.
    """
    table = read_table(path, NODE_COLUMNS, max_bytes=max_bytes)
    faults = Faults(table.source)
    shapes: dict[tuple[str, int], NodeShape] = {}
    seen: dict[str, str] = {}
    nodes: list[Node] = []
    for row in table.rows(faults):
        node = _node(row, shapes)
        _check_name(row, "sn", seen)
        if row.faults:
            faults.add(row.faults)
        else:
            seen[node.name] = row.where
            nodes.append(node)
    faults.settle(skip_bad=False)
    if not nodes:
        raise InvalidInputError(table.source, "", "names no node")
    return nodes


def read_pods(path: Path, *, skip_bad: bool = False, max_bytes: int = MAX_INPUT_BYTES) -> PodList:
    """Return the pods of an openb pod list, in file order; with `skip_bad`, without the rows that are wrong.

    Raises InvalidInputsError with every bad row, InvalidInputError for a file that is no pod list.
    """
    table = read_table(path, POD_COLUMNS, max_bytes=max_bytes)
    faults = Faults(table.source)
    timed = all(name in table.columns for name in TIME_COLUMNS)
    seen: dict[str, str] = {}
    index: dict[Demand, int] = {}
    classes, times = [], []
    for row in table.rows(faults):
        demand = _demand(row)
        when = _times(row) if timed else (0.0, 0.0, 0.0)
        _check_name(row, "name", seen)
        if row.faults or demand is None:
            faults.add(row.faults)
            continue
        seen[row.text("name")] = row.where
        classes.append(index.setdefault(demand, len(index)))
        times.append(when)
    rejected = faults.settle(skip_bad=skip_bad)
    demands = tuple(index)
    class_of_row = np.array(classes, dtype=np.int64)
    milli = np.array([gpu_milli(demand) for demand in demands], dtype=np.int64)
    created, scheduled, deleted = np.array(times, dtype=np.float64).reshape(-1, 3).T
    return PodList(
        source=table.source,
        names=tuple(seen),
        demands=demands,
        classes=class_of_row,
        gpu_milli=milli[class_of_row],
        times=PodTimes(creation_s=created, scheduled_s=scheduled, deletion_s=deleted) if timed else None,
        rejected=rejected,
    )


def gpu_milli(demand: Demand) -> int:
    """Return the GPU compute `demand` asks for, in thousandths of a GPU; partitions count nothing here."""
    return sum(
        request.count * WHOLE_MILLI if isinstance(request, WholeRequest) else request.compute_milli
        for request in demand.requests
        if isinstance(request, WholeRequest | ShareRequest)
    )


def _check_name(row: Row, column: str, seen: dict[str, str]) -> None:
    name = row.text(column)
    if not name:
        row.fault(column, "is empty; give each row a name")
    elif name in seen:
        row.fault(column, f"is used before, in {seen[name]}; names must differ")


def _node(row: Row, shapes: dict[tuple[str, int], NodeShape]) -> Node:
    count = row.integer("gpu", high=MAX_GPUS_PER_NODE)
    product = row.text("model") if count else ""
    if count and not product:
        row.fault("model", "is empty on a node with GPUs; name the GPU model")
    key = (product, count)
    if key not in shapes:
        gpus = (GpuModel(product=product),) * count
        shapes[key] = NodeShape(f"{count}x{product}" if count else "cpu-only", gpus, flat_quality(count))
    return Node(
        name=NodeName(row.text("sn")),
        shape=shapes[key],
        cpu_milli=row.integer("cpu_milli"),
        memory_mib=row.integer("memory_mib"),
    )


def _demand(row: Row) -> Demand | None:
    cpu_milli, memory_mib = row.integer("cpu_milli"), row.integer("memory_mib")
    requests = _requests(row)
    return None if row.faults else Demand(cpu_milli=cpu_milli, memory_mib=memory_mib, requests=requests)


def _requests(row: Row) -> tuple[Request, ...]:
    count = row.integer("num_gpu", high=MAX_GPUS_PER_NODE)
    if not count:
        return ()
    milli = row.integer("gpu_milli", low=1, high=WHOLE_MILLI)
    if milli < WHOLE_MILLI and count > 1 and not row.faults:
        row.fault("gpu_milli", f"is a part of a GPU on a pod with {count} GPUs; write {WHOLE_MILLI}, or num_gpu 1")
    products = tuple(filter(None, (name.strip() for name in row.text("gpu_spec").split("|"))))
    selector = Selector(products=products) if products else ANY_GPU
    if milli < WHOLE_MILLI:
        return (ShareRequest(compute_milli=milli, selector=selector),)
    return (WholeRequest(count=count, link=LinkWish.PREFER, selector=selector),)


def _times(row: Row) -> tuple[float, float, float]:
    created = row.number("creation_time")
    scheduled = row.number("scheduled_time", default=math.nan)
    deleted = row.number("deletion_time", default=math.inf)
    if not row.faults and deleted < created:
        row.fault("deletion_time", f"is before creation_time {created:g}; a pod is created first")
    if not row.faults and not math.isnan(scheduled) and not created <= scheduled <= deleted:
        row.fault("scheduled_time", f"is outside creation_time {created:g} to deletion_time {deleted:g}")
    return created, scheduled, deleted
