"""ResourceSlices of a node: counters first, then what breaks a GPU (partitions, shares), last the whole GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.publish.attributes import (
    Json,
    partition_attributes,
    partition_capacity,
    quantity,
    share_attributes,
    share_capacity,
    whole_attributes,
    whole_capacity,
)
from dra_driver.publish.counters import Amounts, gpu_counters, partition_counters
from dra_driver.publish.names import (
    DRIVER_NAME,
    counter_set_name,
    gpu_name,
    partition_name,
    pool_name,
    share_name,
    slice_name,
)
from dra_driver.publish.order import by_blocking_cost, by_links, nvlink_domains
from topology.errors import InvalidInputError
from topology.modes import MigMode

API_VERSION = "resource.k8s.io/v1"

# Limits of the API (resource/v1/types.go, 1.35 and later).
MAX_DEVICES = 64
"""Per slice, where any device consumes counters or has taints."""
MAX_COUNTER_SETS = 8
MAX_COUNTERS = 32
MAX_ATTRIBUTES_AND_CAPACITIES = 32
MAX_LABEL = 63


def resource_slices(node: NodeGpus, *, generation: int = 1, driver: str = DRIVER_NAME) -> list[Json]:
    """Return the ResourceSlice objects that announce the GPUs of `node`, one pool, complete; at least one.

    The same input gives the same objects. Raises InvalidInputError where NVML's figures exceed what the API can hold.
    """
    chain = by_links(node.gpus)
    divided = [gpu for gpu in reversed(chain) if _is_divided(gpu)]
    contents = [{"sharedCounters": sets} for sets in _chunks([_counter_set(gpu) for gpu in divided], MAX_COUNTER_SETS)]
    contents += [{"devices": devices} for devices in _together([list(_parts(node, gpu)) for gpu in divided])]
    domains = nvlink_domains(node.gpus)
    wholes = [_whole(node, gpu, domains.get(gpu.index, "")) for gpu in chain if gpu.mig_mode is not MigMode.ENABLED]
    contents += [{"devices": devices} for devices in _chunks(wholes, MAX_DEVICES)]
    # A pool without devices is still announced: "no GPUs here" is not "the driver is not there".
    contents = contents or [{}]
    pool = {"name": pool_name(driver, node.node), "generation": generation, "resourceSliceCount": len(contents)}
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ResourceSlice",
            "metadata": {"name": slice_name(position, driver, node.node)},
            "spec": {"driver": driver, "nodeName": node.node, "pool": dict(pool), **content},
        }
        for position, content in enumerate(contents)
    ]


def _is_divided(gpu: Gpu) -> bool:
    """Whether it is offered in parts, so that what is taken of it must be counted."""
    return gpu.mig_mode is not MigMode.DISABLED or bool(gpu.sharing)


def _counter_set(gpu: Gpu) -> Json:
    totals = gpu_counters(gpu)
    if len(totals) > MAX_COUNTERS:
        raise InvalidInputError(
            f"GPU {gpu.index}", "mig", f"needs {len(totals)} counters; a counter set holds {MAX_COUNTERS}"
        )
    return {"name": counter_set_name(gpu), "counters": _counters(totals)}


def _counters(amounts: Amounts) -> Json:
    return {name: {"value": quantity(name, amount)} for name, amount in amounts.items()}


def _consumes(gpu: Gpu, amounts: Amounts) -> list[Json]:
    return [{"counterSet": counter_set_name(gpu), "counters": _counters(amounts)}]


def _whole(node: NodeGpus, gpu: Gpu, nvlink_domain: str) -> Json:
    device = _device(gpu_name(gpu), whole_attributes(node, gpu, nvlink_domain), whole_capacity(gpu))
    if _is_divided(gpu):
        device["consumesCounters"] = _consumes(gpu, gpu_counters(gpu))
    return device


def _parts(node: NodeGpus, gpu: Gpu) -> Iterator[Json]:
    if gpu.mig is not None and gpu.mig_mode is not MigMode.DISABLED:
        for profile, start in by_blocking_cost(gpu.mig):
            device = _device(
                partition_name(gpu, profile, start),
                partition_attributes(node, gpu, profile, start),
                partition_capacity(profile),
            )
            device["consumesCounters"] = _consumes(gpu, partition_counters(gpu.mig, profile, start))
            yield device
    if gpu.mig_mode is MigMode.ENABLED:
        return
    for sharing in gpu.sharing:
        device = _device(share_name(gpu, sharing), share_attributes(node, gpu, sharing), share_capacity(gpu))
        device["allowMultipleAllocations"] = True
        device["consumesCounters"] = _consumes(gpu, gpu_counters(gpu))
        yield device


def _device(name: str, attributes: Json, capacity: Json) -> Json:
    if len(name) > MAX_LABEL:
        raise InvalidInputError(f"device {name[:200]}", "name", f"is longer than {MAX_LABEL} characters")
    # What is published per device is written above, none of it by NVML.
    assert len(attributes) + len(capacity) <= MAX_ATTRIBUTES_AND_CAPACITIES
    return {"name": name, "attributes": attributes, "capacity": capacity}


def _together(gpus: Sequence[list[Json]]) -> list[list[Json]]:
    """Put the parts of GPUs into few slices, those of a GPU together: its change rewrites one."""
    slices: list[list[Json]] = []
    for parts in (some for gpu in gpus for some in _chunks(gpu, MAX_DEVICES)):
        if slices and len(slices[-1]) + len(parts) <= MAX_DEVICES:
            slices[-1] += parts
        else:
            slices.append(parts)
    return slices


def _chunks(items: Sequence[Json], most: int) -> Iterable[list[Json]]:
    return [list(items[at : at + most]) for at in range(0, len(items), most)]
