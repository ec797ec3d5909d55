"""Why a demand does not fit: the first failing constraint of every node, grouped and counted.

The constraints and their fixed order are the codes of `packing.kernels.explain`. A group's text names the best that any
of its nodes has, so that texts are few: `7 no 4-GPU NVLink island (largest 3)`. Counts add up to the refusing nodes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from packing.classes import DemandClasses
from packing.fabric import Fabric
from packing.kernels import explain as codes
from packing.kernels.arrays import NONE, UNDECIDED, UNIT_COLUMNS, Ints, new_choice, new_local
from packing.kernels.explain import explain_nodes
from packing.memory import memory_of
from packing.model import (
    MAX_REQUESTS_PER_POD,
    Demand,
    PartitionRequest,
    Reason,
    Request,
    Selector,
    ShareRequest,
    WholeRequest,
)
from packing.place import place
from packing.policy import Policy
from packing.usage import Usage

MAX_LINE_BYTES = 1024
"""Longest one-line form: what Kubernetes keeps of the message of an event."""
MAX_NAME_CHARS = 60


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Explanation:
    """Every node's verdict on one demand. `rows` is [N, 3]: code, request (NONE: the pod's), detail (NONE: unknown)."""

    fabric: Fabric
    demand: Demand
    rows: Ints

    @property
    def fitting(self) -> int:
        """Number of nodes on which the demand fits."""
        return int(np.count_nonzero(self.rows[:, 0] == codes.FITS))

    def fits(self, node: int) -> bool:
        """Whether the demand fits on one node."""
        return bool(self.rows[node, 0] == codes.FITS)

    def text(self, node: int) -> str:
        """Return what one node lacks; empty where the demand fits."""
        code, unit, detail = (int(value) for value in self.rows[node])
        return reason_text(self.fabric, self.demand, code, unit, detail)

    def reasons(self) -> tuple[Reason, ...]:
        """Return the reasons of all nodes that refuse, most frequent first, then by text."""
        refusing = self.rows[self.rows[:, 0] != codes.FITS]
        nodes: Counter[str] = Counter()
        # Unknown links are a reason of their own, not a small detail.
        keys = np.column_stack([refusing[:, :2], refusing[:, 2] == NONE])
        for key in np.unique(keys, axis=0).tolist():
            code, unit, _ = key
            group = refusing[(keys == key).all(axis=1)]
            nodes[reason_text(self.fabric, self.demand, code, unit, int(group[:, 2].max()))] += len(group)
        return tuple(Reason(text=t, nodes=n) for t, n in sorted(nodes.items(), key=lambda item: (-item[1], item[0])))

    def line(self) -> str:
        """Return the one-line form, at most 1 KB: `0/12 nodes: 7 no 4-GPU NVLink island (largest 3), 5 MIG mode on`."""
        return reasons_line(self.fitting, len(self.rows), self.reasons())


def explain(fabric: Fabric, usage: Usage, demand: Demand, policy: Policy) -> Explanation:
    """Say of every node why it refuses `demand`, or that it fits. `usage` is left as it is.

    "Fits" is what `place()` says of that node. The policy matters only where the bounded search for several requests
    ends without an answer: its own choices may have found one.
    """
    assert usage.fabric is fabric, "usage and fabric belong together"
    c = usage.classes.index(demand)
    rows = _rows(fabric, usage, usage.classes, c)
    unknown = rows[:, 0] == codes.BOUND
    if unknown.any():
        place(fabric, usage, demand, policy)
        memory = memory_of(usage, policy)
        scores = memory.cache.scores[memory.row(c), : len(fabric.nodes)]
        rows[unknown & (scores > UNDECIDED), 0] = codes.FITS
    never = rows[:, 0] == codes.NEVER_LINKED
    if never.any():
        rows[never & _links_unknown(fabric)[fabric.arrays.node_shape], 2] = NONE
    rows.flags.writeable = False
    return Explanation(fabric=fabric, demand=demand, rows=rows)


def _links_unknown(fabric: Fabric) -> NDArray[np.bool_]:
    """[S] whether a shape has several GPUs and nobody knows how they are joined."""
    return np.array([len(shape.gpus) > 1 and not shape.links.quality_mbps.any() for shape in fabric.shapes])


def _rows(fabric: Fabric, usage: Usage, classes: DemandClasses, c: int) -> Ints:
    """Return what the kernel says of every node."""
    rows = np.zeros((len(fabric.nodes), 3), dtype=np.int64)
    unit = np.zeros(UNIT_COLUMNS, dtype=np.int64)
    local, choice = new_local(MAX_REQUESTS_PER_POD + 1), new_choice(MAX_REQUESTS_PER_POD)
    explain_nodes(fabric.arrays, usage.arrays, classes.arrays, c, unit, local, choice, rows)
    return rows


def reasons_line(fitting: int, nodes: int, reasons: tuple[Reason, ...]) -> str:
    """Join reasons as users of kubectl know them, most frequent first; what does not fit into 1 KB is only counted."""
    line = f"{fitting}/{nodes} nodes"
    rest = sum(reason.nodes for reason in reasons)
    mark = ": "
    for reason in reasons:
        longer = f"{line}{mark}{reason.nodes} {reason.text}"
        if len(longer.encode()) > MAX_LINE_BYTES - 32:
            return f"{line}{mark}{rest} for other reasons"
        line, mark, rest = longer, ", ", rest - reason.nodes
    return line


def reason_text(fabric: Fabric, demand: Demand, code: int, unit: int, detail: int) -> str:
    """Return the sentence of a code; `detail` is the best that any node of the group has."""
    if unit == NONE:
        return _pod_text(demand, code, detail)
    request = demand.requests[unit]
    if code == codes.NOT_SELECTED:
        return f"no {_selected(request.selector)}"
    if code in _FIXED:
        return _FIXED[code]
    match request:
        case WholeRequest():
            return _whole_text(request, code, detail)
        case ShareRequest():
            return _share_text(request, code, detail)
        case PartitionRequest():
            return _partition_text(fabric, request, code, detail)


_FIXED = {
    codes.NO_GPU: "no GPU",
    codes.MIG_OFF: "MIG mode off",
    codes.SHARE_MODE: "GPUs whole, partitioned or shared in another mode",
    codes.PARTITION_MODE: "GPUs used whole or shared",
}


def _pod_text(demand: Demand, code: int, detail: int) -> str:
    """Return the sentence of a constraint that is the pod's, not one request's."""
    match code:
        case codes.SMALL_CPU:
            return f"too small for {cores(demand.cpu_milli)} (largest {cores(detail)})"
        case codes.SMALL_MEMORY:
            return f"too small for {gib(demand.memory_mib)} memory (largest {gib(detail)})"
        case codes.NO_CPU:
            return f"not enough CPU (most {cores(detail)})"
        case codes.NO_MEMORY:
            return f"not enough memory (most {gib(detail)})"
        case codes.TOGETHER:
            return "requests fit one by one but not together"
        case codes.BOUND:
            return "search bound hit"
    return ""


def _whole_text(request: WholeRequest, code: int, detail: int) -> str:
    count = request.count
    gpus = "GPU" if count == 1 else "GPUs"
    match code:
        case codes.SMALL_COUNT:
            return f"fewer than {count} {gpus} (most {detail})"
        case codes.UNHEALTHY:
            return f"fewer than {count} {gpus} healthy (most {detail})"
        case codes.MIG_ON:
            return f"MIG mode on ({detail} {'GPU' if detail == 1 else 'GPUs'} without)" if detail else "MIG mode on"
        case codes.BUSY:
            return f"fewer than {count} {gpus} free (most {detail})" if detail else "no GPU free"
    if detail == NONE:
        return "links unknown"
    never = "machine without" if code == codes.NEVER_LINKED else "no"
    if request.min_gbps:
        free = "" if code == codes.NEVER_LINKED else " free"
        return f"{never} {count}{free} {gpus} at {request.min_gbps:.10g} GB/s (best {detail / 1000:.10g})"
    return f"{never} {count}-GPU NVLink island (largest {detail})"


def _share_text(request: ShareRequest, code: int, detail: int) -> str:
    match code:
        case codes.SMALL_GPU_MEMORY:
            return f"GPU memory below {gib(request.memory_mib)} (largest {gib(detail)})"
        case codes.SHARE_COMPUTE:
            return f"no GPU with {request.compute_milli / 10:g} % left (most {detail / 10:g} %)"
        case codes.SHARE_MEMORY:
            return f"no GPU with {gib(request.memory_mib)} left (most {gib(detail)})"
        case codes.MIG_ON:
            return "MIG mode on"
    return "GPUs unhealthy"


def _partition_text(fabric: Fabric, request: PartitionRequest, code: int, detail: int) -> str:
    wanted = _shortened(request.profile) or f"a partition of {_least(request)}"
    match code:
        case codes.UNKNOWN_PROFILE:
            return f"GPUs cannot have {wanted}"
        case codes.PARTITION_ENGINES:
            return f"engines of {wanted} taken"
        case codes.PARTITION_ROOM:
            if not detail:
                return "no room for any partition"
            mask = (1 << codes.PROFILE_BITS) - 1
            profiles = fabric.geometries[detail >> codes.PROFILE_BITS & mask].profiles
            return f"no room for {wanted} (largest {profiles[mask - (detail & mask)].name})"
    return "GPUs unhealthy"


def _least(request: PartitionRequest) -> str:
    asks = [gib(request.min_memory_mib)] if request.min_memory_mib else []
    return " and ".join(asks + ([f"{request.min_sms} SMs"] if request.min_sms else []))


def _selected(selector: Selector) -> str:
    """Name the GPUs a selector admits, in one short phrase."""
    words = _shortened(" or ".join(selector.products)) or "GPU"
    words += f" of {_shortened(' or '.join(selector.architectures))}" if selector.architectures else ""
    return words + (f" with {gib(selector.min_memory_mib)}" if selector.min_memory_mib else "")


def _shortened(text: str) -> str:
    """Keep a name given by a user from filling the line."""
    return text if len(text) <= MAX_NAME_CHARS else f"{text[: MAX_NAME_CHARS - 3]}..."


def cores(milli: int) -> str:
    """Return CPU for people: `1 core`, `1.5 cores`."""
    return f"{milli / 1000:.15g} {'core' if milli == 1000 else 'cores'}"


def gib(mib: int) -> str:
    """Return memory for people, in GiB: four digits, but never in powers of ten."""
    return f"{mib / 1024:.0f} GiB" if mib >= 1000 * 1024 else f"{mib / 1024:.4g} GiB"


def explain_gpu(fabric: Fabric, usage: Usage, request: Request, node: int, gpu: int) -> str:
    """Return why one GPU cannot serve `request` (of whole GPUs: one without links); empty where it can."""
    if isinstance(request, WholeRequest):
        request = WholeRequest(selector=request.selector)
    demand = Demand(requests=(request,))
    classes = DemandClasses(fabric)
    c = classes.index(demand)
    # The selector cannot name a GPU, so the class admits this one alone.
    classes.arrays.allowed[c, 0] &= 1 << gpu
    code, unit, detail = _rows(fabric, usage, classes, c)[node].tolist()
    match code:
        case codes.BUSY:
            return "in use"
        case codes.SHARE_MODE | codes.PARTITION_MODE:
            return "in another use"
        case codes.SHARE_COMPUTE:
            return f"{detail / 10:g} % left"
        case codes.SHARE_MEMORY:
            return f"{gib(detail)} left"
        case codes.UNHEALTHY:
            return "unhealthy"
    return reason_text(fabric, demand, code, unit, detail)
