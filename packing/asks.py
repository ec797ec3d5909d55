"""Ways to ask for less: ladders of demands, each step asking a little less than the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from packing.fabric import Fabric
from packing.kernels.arrays import CPU, LEFT, MEMORY, MEMORY_LEFT, Ints
from packing.model import (
    WHOLE_MILLI,
    Demand,
    LinkWish,
    PartitionRequest,
    Request,
    ShareRequest,
    Sharing,
    WholeRequest,
)
from packing.usage import Usage


class Kind(StrEnum):
    """Kinds of change; among equal costs the first here is nearest."""

    LINK = "link"
    SHARING = "sharing"
    MIG_MODE = "mig-mode"
    CPU = "cpu"
    MEMORY = "memory"
    SIZE = "size"
    COUNT = "count"
    FREE = "free"
    MEND = "mend"
    ADD_NODE = "add-node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A demand that asks for less, and what the pod gives up: thousandths of a GPU, millicores, MiB."""

    kind: Kind
    text: str
    demand: Demand
    gpu_milli: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class Ladder:
    """Steps, nearest first. Where `monotone`, every step fits wherever one before it does."""

    steps: tuple[Step, ...]
    monotone: bool = True


def ladders(fabric: Fabric, usage: Usage, demand: Demand) -> Iterator[Ladder]:
    """Yield every way to ask for less of one thing; values are those that some node or GPU has."""
    yield Ladder(tuple(_less_cpu(usage, demand)))
    yield Ladder(tuple(_less_memory(usage, demand)))
    for u, request in enumerate(demand.requests):
        match request:
            case WholeRequest():
                yield Ladder(tuple(_weaker_links(fabric, demand, u, request)))
                yield Ladder(tuple(_fewer_gpus(demand, u, request)), monotone=False)
            case ShareRequest():
                yield Ladder(tuple(_other_sharing(demand, u, request)))
                yield Ladder(tuple(_less_compute(usage, demand, u, request)))
                yield Ladder(tuple(_less_gpu_memory(fabric, usage, demand, u, request)))
            case PartitionRequest():
                yield Ladder(tuple(_smaller_profiles(fabric, demand, u, request)), monotone=False)
                yield Ladder(tuple(_less_partition_memory(fabric, demand, u, request)))
                yield Ladder(tuple(_fewer_sms(fabric, demand, u, request)))


def quantity(mib: int) -> str:
    """Return memory exactly, as Kubernetes writes it: whole Gi, else Mi."""
    return f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"


def _below(values: Ints, asked: int) -> list[int]:
    """Return the distinct values above 0 and below `asked`, largest first."""
    distinct: list[int] = np.unique(values[(values > 0) & (values < asked)]).tolist()
    return distinct[::-1]


def _instead(demand: Demand, u: int, request: Request) -> Demand:
    """Replace one request."""
    return replace(demand, requests=(*demand.requests[:u], request, *demand.requests[u + 1 :]))


def _where(demand: Demand, u: int) -> str:
    """Say which request is meant where there are several."""
    return f" in request {u}" if len(demand.requests) > 1 else ""


def _less_cpu(usage: Usage, demand: Demand) -> Iterator[Step]:
    for milli in _below(usage.arrays.nodes[:, CPU], demand.cpu_milli):
        text = f"ask for {milli / 1000:.15g} cores instead of {demand.cpu_milli / 1000:.15g}"
        lost = demand.cpu_milli - milli
        yield Step(kind=Kind.CPU, text=text, demand=replace(demand, cpu_milli=milli), cpu_milli=lost)


def _less_memory(usage: Usage, demand: Demand) -> Iterator[Step]:
    for mib in _below(usage.arrays.nodes[:, MEMORY], demand.memory_mib):
        text = f"ask for {quantity(mib)} memory instead of {quantity(demand.memory_mib)}"
        lost = demand.memory_mib - mib
        yield Step(kind=Kind.MEMORY, text=text, demand=replace(demand, memory_mib=mib), memory_mib=lost)


def _weaker_links(fabric: Fabric, demand: Demand, u: int, request: WholeRequest) -> Iterator[Step]:
    """Lower the minimum to qualities that sets of this size have on some machine, at last drop the requirement."""
    if request.link is not LinkWish.REQUIRE:
        return
    where = _where(demand, u)
    for mbps in _below(_qualities(fabric, request.count), round(request.min_gbps * 1000)):
        text = f"ask for {mbps / 1000:.10g} GB/s instead of {request.min_gbps:.10g}{where}"
        yield Step(kind=Kind.LINK, text=text, demand=_instead(demand, u, replace(request, min_gbps=mbps / 1000)))
    text = f"prefer fast links instead of requiring them{where}"
    looser = replace(request, link=LinkWish.PREFER, min_gbps=0)
    yield Step(kind=Kind.LINK, text=text, demand=_instead(demand, u, looser))


def _qualities(fabric: Fabric, count: int) -> Ints:
    """Return the qualities (MB/s) of all sets of `count` GPUs on any machine of the cluster."""
    found = [np.zeros(0, dtype=np.int64)]
    for shape in fabric.shapes:
        masks = np.arange(1 << len(shape.gpus), dtype=np.uint32)
        found.append(shape.links.quality_mbps[np.bitwise_count(masks) == count])
    return np.unique(np.concatenate(found))


def _fewer_gpus(demand: Demand, u: int, request: WholeRequest) -> Iterator[Step]:
    # A smaller set may have slower links than a larger one, so none implies the next.
    for count in range(request.count - 1, 0, -1):
        text = f"ask for {count} {'GPU' if count == 1 else 'GPUs'} instead of {request.count}{_where(demand, u)}"
        fewer = _instead(demand, u, replace(request, count=count))
        yield Step(kind=Kind.COUNT, text=text, demand=fewer, gpu_milli=WHOLE_MILLI * (request.count - count))


def _other_sharing(demand: Demand, u: int, request: ShareRequest) -> Iterator[Step]:
    other = Sharing.MPS if request.sharing is Sharing.TIME_SLICING else Sharing.TIME_SLICING
    text = f"share by {other} instead of {request.sharing}{_where(demand, u)}"
    yield Step(kind=Kind.SHARING, text=text, demand=_instead(demand, u, replace(request, sharing=other)))


def _less_compute(usage: Usage, demand: Demand, u: int, request: ShareRequest) -> Iterator[Step]:
    for milli in _below(usage.arrays.gpus[:, LEFT], request.compute_milli):
        text = f"ask for {milli / 10:g} % of a GPU instead of {request.compute_milli / 10:g} %{_where(demand, u)}"
        less = _instead(demand, u, replace(request, compute_milli=milli))
        yield Step(kind=Kind.SIZE, text=text, demand=less, gpu_milli=request.compute_milli - milli)


def _less_gpu_memory(fabric: Fabric, usage: Usage, demand: Demand, u: int, request: ShareRequest) -> Iterator[Step]:
    largest = int(fabric.arrays.gpu_memory.max(initial=1))
    for mib in _below(usage.arrays.gpus[:, MEMORY_LEFT], request.memory_mib):
        text = f"ask for {quantity(mib)} of GPU memory instead of {quantity(request.memory_mib)}{_where(demand, u)}"
        less = _instead(demand, u, replace(request, memory_mib=mib))
        lost = -(-(request.memory_mib - mib) * WHOLE_MILLI // max(1, largest))
        yield Step(kind=Kind.SIZE, text=text, demand=less, gpu_milli=lost)


def _smaller_profiles(fabric: Fabric, demand: Demand, u: int, request: PartitionRequest) -> Iterator[Step]:
    """Other profiles of the products that have the one asked for, with fewer memory slices, largest first."""
    steps: dict[str, Step] = {}
    for geometry in fabric.geometries:
        asked = [p for p in geometry.profiles if request.profile in (p.name, *p.alternate_names)]
        for profile in geometry.profiles:
            if not asked or profile.attributes or not 0 < profile.size < asked[0].size:
                continue
            lost = (asked[0].size - profile.size) * WHOLE_MILLI // geometry.memory_slices
            text = f"ask for {profile.name} instead of {request.profile}{_where(demand, u)}"
            less = _instead(demand, u, replace(request, profile=profile.name))
            steps.setdefault(profile.name, Step(kind=Kind.SIZE, text=text, demand=less, gpu_milli=lost))
    yield from sorted(steps.values(), key=lambda step: (step.gpu_milli, step.text))


def _profile_sizes(fabric: Fabric, *, sms: bool) -> Ints:
    """Return memory (MiB) or SMs of all profiles that may serve a minimum."""
    sizes: Sequence[int] = [
        (profile.sm_count if sms else profile.memory_mib) or 0
        for geometry in fabric.geometries
        for profile in geometry.profiles
        if not profile.attributes
    ]
    return np.array(sizes, dtype=np.int64)


def _less_partition_memory(fabric: Fabric, demand: Demand, u: int, request: PartitionRequest) -> Iterator[Step]:
    largest = int(fabric.arrays.gpu_memory.max(initial=1))
    for mib in _below(_profile_sizes(fabric, sms=False), request.min_memory_mib):
        asked = quantity(request.min_memory_mib)
        text = f"ask for at least {quantity(mib)} instead of {asked}{_where(demand, u)}"
        less = _instead(demand, u, replace(request, min_memory_mib=mib))
        lost = -(-(request.min_memory_mib - mib) * WHOLE_MILLI // max(1, largest))
        yield Step(kind=Kind.SIZE, text=text, demand=less, gpu_milli=lost)


def _fewer_sms(fabric: Fabric, demand: Demand, u: int, request: PartitionRequest) -> Iterator[Step]:
    most = max([1, *(gpu.sm_count for shape in fabric.shapes for gpu in shape.gpus)])
    for sms in _below(_profile_sizes(fabric, sms=True), request.min_sms):
        text = f"ask for at least {sms} SMs instead of {request.min_sms}{_where(demand, u)}"
        less = _instead(demand, u, replace(request, min_sms=sms))
        lost = -(-(request.min_sms - sms) * WHOLE_MILLI // most)
        yield Step(kind=Kind.SIZE, text=text, demand=less, gpu_milli=lost)
