"""Demands in words, for tables and reports: the same demand always reads the same."""

from __future__ import annotations

from packing.model import Demand, PartitionRequest, Request, Selector, ShareRequest, WholeRequest


def describe(demand: Demand) -> str:
    """Return `demand` as a phrase, e.g. "2 GPUs on A100 or V100" or "0.5 GPU, 8 cores, 16 GiB".

    GPUs first, then cores and memory in GiB.
    """
    parts = [_request(request) for request in demand.requests] or ["no GPU"]
    if demand.cpu_milli:
        cores = demand.cpu_milli / 1000
        parts.append(f"{cores:.10g} {'core' if cores == 1 else 'cores'}")
    if demand.memory_mib:
        parts.append(f"{demand.memory_mib / 1024:.3g} GiB")
    return ", ".join(parts)


def _request(request: Request) -> str:
    if isinstance(request, WholeRequest):
        words = f"{request.count} {'GPU' if request.count == 1 else 'GPUs'}"
    elif isinstance(request, ShareRequest):
        words = _share(request)
    else:
        words = _partition(request)
    return words + _selector(request.selector)


def _share(request: ShareRequest) -> str:
    parts = [f"{request.compute_milli / 1000:g} GPU"] if request.compute_milli else []
    if request.memory_mib:
        parts.append(f"{request.memory_mib / 1024:.3g} GiB of GPU memory")
    return " with ".join(parts)


def _partition(request: PartitionRequest) -> str:
    if request.profile:
        return f"partition {request.profile}"
    asks = [f"{request.min_memory_mib / 1024:.3g} GiB"] if request.min_memory_mib else []
    asks += [f"{request.min_sms} SMs"] if request.min_sms else []
    return f"partition of at least {' and '.join(asks)}"


def _selector(selector: Selector) -> str:
    words = f" on {' or '.join(sorted(selector.products))}" if selector.products else ""
    words += f" of {' or '.join(sorted(selector.architectures))}" if selector.architectures else ""
    return words + (f" from {selector.min_memory_mib / 1024:.3g} GiB" if selector.min_memory_mib else "")
