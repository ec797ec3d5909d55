"""Node scores of the published policies, straight from their descriptions. Slow truth for `packing.kernels.score`.

The constants (128 cores, 8 GPUs) and the order of operations are those of the FGD benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from packing.mix import TypicalPod
from packing.model import WHOLE_MILLI, Demand, PartitionRequest, Request, ShareRequest, WholeRequest
from packing.reference_frag import fragmentation, gradient_score, slice_share
from packing.reference_pick import Pick
from packing.reference_state import NodeState, satisfies
from topology.mig import MigGeometry

MAX_CPU = 128_000.0
MAX_GPU = 8_000.0


def simple_score(
    policy: str,
    state: NodeState,
    demand: Demand,
    devices: Pick,
    typical: Sequence[TypicalPod],
    geometries: Sequence[MigGeometry],
) -> int:
    """Return the score of a node before the pod; `devices` are what the pod would get."""
    asked = sum(_asked(request, geometries) for request in demand.requests)
    match policy:
        case "fgd":
            return _fgd(state, demand, devices, typical)
        case "upstream":
            return _upstream(state.with_pod(demand))
        case "dot-product":
            product = (state.cpu_milli / MAX_CPU) * (demand.cpu_milli / MAX_CPU)
            product += (state.left_milli / MAX_GPU) * (asked / MAX_GPU)
            return int(100.0 * (1.0 - product / 2.0))
        case "best-fit" | "worst-fit":
            waste = (state.cpu_milli - demand.cpu_milli) / MAX_CPU * 0.5
            waste += (state.left_milli - asked) / MAX_GPU * 0.5
            score = int((1.0 - waste) * 100.0)
            return score if policy == "best-fit" else -score
        case "gpu-clustering":
            return _clustering(state, demand)
        case "gpu-packing":
            return _packing(state, demand)
        case "spread":
            return state.left_milli // len(state.gpus) if state.gpus else 0
    return 0


def _asked(request: Request, geometries: Sequence[MigGeometry]) -> int:
    """Compute a request asks for, thousandths; a partition counts as the largest it could be on any machine."""
    match request:
        case WholeRequest():
            return WHOLE_MILLI * request.count
        case ShareRequest():
            return request.compute_milli
        case PartitionRequest():
            sizes = [slice_share(g, p) for g in geometries for p in g.profiles if satisfies(p, request)]
            return max(sizes, default=0)


def _fgd(state: NodeState, demand: Demand, devices: Pick, typical: Sequence[TypicalPod]) -> int:
    """By how much fragmentation falls."""
    after = state.with_pod(demand)
    for request, given in zip(demand.requests, devices, strict=True):
        after = after.with_unit(request, given)
    frags = [
        fragmentation(typical, state.node.shape.gpus, there.cpu_milli, [gpu.left_milli for gpu in there.gpus])
        for there in (state, after)
    ]
    return gradient_score(*frags)


def _upstream(after: NodeState) -> int:
    """Least allocated plus balanced allocation of CPU and memory, as kube-scheduler's default plugins."""
    cpu = after.cpu_milli / after.node.cpu_milli if after.node.cpu_milli else 0.0
    memory = after.memory_mib / after.node.memory_mib if after.node.memory_mib else 0.0
    mean = (cpu + memory) / 2.0
    deviation = math.sqrt(((cpu - mean) * (cpu - mean) + (memory - mean) * (memory - mean)) / 2.0)
    return (int(cpu * 100.0) + int(memory * 100.0)) // 2 + int((1.0 - deviation) * 100.0)


def _kind(request: Request) -> tuple[str, int]:
    """Return what GPU clustering tells apart: shares, partitions, and whole GPUs by number."""
    return type(request).__name__, request.count if isinstance(request, WholeRequest) else 0


def _clustering(state: NodeState, demand: Demand) -> int:
    """Return up to 25 for fill, and 75 more where the node hosts this kind alone, 50 with others, 25 where empty."""
    if not demand.requests:
        return 0
    fill = int(25 * (8000 - state.left_milli) / 8000)
    hosted = {_kind(request) for request, _ in state.units}
    if _kind(demand.requests[0]) in hosted:
        return fill + (75 if len(hosted) == 1 else 50)
    return fill if hosted else fill + 25


def _packing(state: NodeState, demand: Demand) -> int:
    """Return 50 to 100 where shared GPUs serve all, 33 to 50 where idle ones must be opened, to 33 on an empty node."""
    if not demand.requests:
        return 0
    idle = len(state.idle)
    if idle == len(state.gpus):
        return max(33 - idle, idle)
    opened = left = 0
    for request in demand.requests:
        if isinstance(request, WholeRequest):
            opened += request.count
        elif isinstance(request, ShareRequest):
            fitting = [gpu for gpu in state.gpus if gpu.takes_share(request)]
            fullest = min(fitting, key=lambda gpu: gpu.left_milli, default=None)
            if fullest is None or not fullest.units:
                opened += 1
            else:
                left += fullest.left_milli * 100 // WHOLE_MILLI
    if opened:
        return max(50 - opened, 33)
    return max(100 - left // 10, 50)
