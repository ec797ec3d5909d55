"""ResourceSlices of a node: counters first, then what breaks a GPU (partitions, shares), last the whole GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.publish.attributes import (
    Json,
    existing_attributes,
    partition_attributes,
    partition_capacity,
    quantity,
    share_attributes,
    share_capacity,
    whole_attributes,
    whole_capacity,
)
from dra_driver.publish.counters import Amounts, partition_counters
from dra_driver.publish.features import EVERYTHING, Features
from dra_driver.publish.names import (
    DRIVER_NAME,
    counter_set_name,
    gpu_name,
    partition_name,
    pool_name,
    share_name,
    slice_name,
)
from dra_driver.publish.offers import Offer, offered
from dra_driver.publish.order import by_links, nvlink_domains
from dra_driver.publish.taints import MAX_TAINTS, NO_TAINTS, Taints, keeps_off
from topology.errors import InvalidInputError

API_VERSION = "resource.k8s.io/v1"

# Limits of the API (resource/v1/types.go, 1.35 and later).
MAX_DEVICES = 64
"""Per slice, where any device consumes counters or has taints."""
MAX_COUNTER_SETS = 8
MAX_COUNTERS = 32
MAX_ATTRIBUTES_AND_CAPACITIES = 32
MAX_LABEL = 63


def resource_slices(
    node: NodeGpus,
    *,
    taints: Taints = NO_TAINTS,
    features: Features = EVERYTHING,
    generation: int = 1,
    driver: str = DRIVER_NAME,
) -> list[Json]:
    """Return the ResourceSlice objects that announce the GPUs of `node`, one pool, complete; at least one.

    `taints` are by name of the device; names that are not published are passed over. `features` are what the API server
    stores. The same input gives the same objects. Raises InvalidInputError where NVML's figures exceed what the API can
    hold.
    """
    # A pool without devices is still announced: "no GPUs here" is not "the driver is not there".
    contents = list(_contents(node, taints, features)) or [{}]
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


def _contents(node: NodeGpus, taints: Taints, features: Features) -> Iterator[Json]:
    """Yield what the slices hold, in order."""
    offers = {gpu.index: offered(gpu, features) for gpu in node.gpus}
    gpus = [offer.gpu for offer in offers.values()]
    chain = [offers[gpu.index] for gpu in by_links(gpus)]
    sets = [_counter_set(offer) for offer in reversed(chain) if offer.counters]
    yield from ({"sharedCounters": some} for some in _chunks(sets, MAX_COUNTER_SETS))
    published = partial(_published, taints, features)
    parts = [published(_parts(node, offer)) for offer in reversed(chain)]
    yield from ({"devices": devices} for devices in _together(parts))
    domains = nvlink_domains(gpus)
    wholes = published(_whole(node, offer, domains.get(offer.gpu.index, "")) for offer in chain if offer.whole)
    yield from ({"devices": devices} for devices in _chunks(wholes, MAX_DEVICES))


def _counter_set(offer: Offer) -> Json:
    if len(offer.counters) > MAX_COUNTERS:
        problem = f"needs {len(offer.counters)} counters; a counter set holds {MAX_COUNTERS}"
        raise InvalidInputError(f"GPU {offer.gpu.index}", "mig", problem)
    return {"name": counter_set_name(offer.gpu), "counters": _counters(offer.counters)}


def _counters(amounts: Amounts) -> Json:
    return {name: {"value": quantity(name, amount)} for name, amount in amounts.items()}


def _consumes(gpu: Gpu, amounts: Amounts) -> list[Json]:
    return [{"counterSet": counter_set_name(gpu), "counters": _counters(amounts)}]


def _whole(node: NodeGpus, offer: Offer, nvlink_domain: str) -> Json:
    gpu = offer.gpu
    device = _device(gpu_name(gpu), whole_attributes(node, gpu, nvlink_domain), whole_capacity(gpu))
    if offer.counters:
        device["consumesCounters"] = _consumes(gpu, offer.counters)
    return device


def _parts(node: NodeGpus, offer: Offer) -> Iterator[Json]:
    """Yield what exists already, then what would have to be made, then shares."""
    gpu = offer.gpu
    for profile, instance in offer.existing:
        attributes = existing_attributes(node, gpu, profile, instance)
        yield _device(partition_name(gpu, profile, instance.start), attributes, partition_capacity(profile))
    for profile, start in offer.placements:
        assert gpu.mig is not None, "it has placements"
        attributes = partition_attributes(node, gpu, profile, start)
        device = _device(partition_name(gpu, profile, start), attributes, partition_capacity(profile))
        device["consumesCounters"] = _consumes(gpu, partition_counters(gpu.mig, profile, start))
        yield device
    for sharing in offer.sharing:
        device = _device(share_name(gpu, sharing), share_attributes(node, gpu, sharing), share_capacity(gpu))
        device["allowMultipleAllocations"] = True
        device["consumesCounters"] = _consumes(gpu, offer.counters)
        yield device


def _published(taints: Taints, features: Features, devices: Iterable[Json]) -> list[Json]:
    """Return devices with their taints, without those that only their absence can keep off."""
    published = []
    for device in devices:
        found = taints.get(device["name"], ())
        assert len(found) <= MAX_TAINTS
        if features.taints and found:
            published.append(device | {"taints": [taint.manifest() for taint in found]})
        elif not keeps_off(found):
            published.append(device)
    return published


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
