"""What Kubernetes makes of ResourceSlices, written from its API documentation: quantities, counters, limits.

Knows nothing of GPUs, nor of the code that wrote the slices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]

_UNITS = {"": 1} | {unit: 1000**at for at, unit in enumerate("kMGTPE", 1)}
_UNITS |= {f"{unit}i": 1024**at for at, unit in enumerate("KMGTPE", 1)}
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
CANONICAL = re.compile(r"0|[1-9]\d*([kMGTPE]|[KMGTPE]i)?")


def amount(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(.*)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


def devices(slices: Iterable[Json]) -> dict[str, Json]:
    listed = [device for one in slices for device in one["spec"].get("devices", [])]
    assert len({device["name"] for device in listed}) == len(listed)
    return {device["name"]: device for device in listed}


class Pool:
    """A complete pool, and which sets of allocations its counters and capacities admit."""

    def __init__(self, slices: list[Json]) -> None:
        self.devices = devices(slices)
        self.totals = {
            (counter_set["name"], counter): amount(value["value"])
            for one in slices
            for counter_set in one["spec"].get("sharedCounters", [])
            for counter, value in counter_set["counters"].items()
        }
        self.takes = {
            name: {
                (consumption["counterSet"], counter): amount(value["value"])
                for consumption in device.get("consumesCounters", [])
                for counter, value in consumption["counters"].items()
            }
            for name, device in self.devices.items()
        }

    def admits(self, allocations: list[tuple[str, dict[str, int]]]) -> bool:
        """`allocations`: device and the capacity asked of it. A shared device pays for its counters once."""
        by_device: dict[str, list[dict[str, int]]] = {}
        for name, asked in allocations:
            by_device.setdefault(name, []).append(asked)
        taken: Counter[tuple[str, str]] = Counter()
        for name in by_device:
            taken.update(self.takes[name])
        return all(value <= self.totals[counter] for counter, value in taken.items()) and all(
            self._admits_on(name, requests) for name, requests in by_device.items()
        )

    def _admits_on(self, name: str, requests: list[dict[str, int]]) -> bool:
        device = self.devices[name]
        if not device.get("allowMultipleAllocations"):
            return len(requests) == 1
        used: Counter[str] = Counter()
        for request in requests:
            for capacity, facts in device["capacity"].items():
                used[capacity] += consumed(facts, request.get(capacity))
        return all(value <= amount(device["capacity"][capacity]["value"]) for capacity, value in used.items())


def consumed(capacity: Json, asked: int | None) -> int:
    policy = capacity["requestPolicy"]
    if asked is None:
        return amount(policy["default"])
    least, step = amount(policy["validRange"]["min"]), amount(policy["validRange"]["step"])
    return least + max(0, -(-(asked - least) // step)) * step


def faults(slices: list[Json]) -> list[str]:
    """Every rule of resource.k8s.io/v1 (1.35 and later) that the slices of one pool break."""
    found = [fault for one in slices for fault in _slice_faults(one)]
    pools = {tuple(sorted(one["spec"]["pool"].items())) for one in slices}
    if len(pools) != 1 or dict(next(iter(pools)))["resourceSliceCount"] != len(slices):
        found.append("the pool is not complete")
    if len({one["metadata"]["name"] for one in slices}) != len(slices):
        found.append("two slices have one name")
    names = Counter(device["name"] for one in slices for device in one["spec"].get("devices", []))
    found += [f"device {name} appears {times} times" for name, times in names.items() if times > 1]
    pool = Pool(slices)
    for name, takes in pool.takes.items():
        found += [f"{name} takes {counter}, which does not exist" for counter in takes if counter not in pool.totals]
    return found


def _slice_faults(one: Json) -> Iterator[str]:
    spec = one["spec"]
    name = one["metadata"]["name"]
    if len(name) > 253 or not SUBDOMAIN.fullmatch(name):
        yield f"slice name {name}"
    if len(spec["driver"]) > 63 or not SUBDOMAIN.fullmatch(spec["driver"]):
        yield f"driver {spec['driver']}"
    pool = spec["pool"]["name"]
    if len(pool) > 253 or not all(SUBDOMAIN.fullmatch(part) for part in pool.split("/")):
        yield f"pool {pool}"
    if "devices" in spec and "sharedCounters" in spec:
        yield "devices and sharedCounters in one slice"
    listed = spec.get("devices", [])
    advanced = any(device.get("consumesCounters") or device.get("taints") for device in listed)
    if len(listed) > (64 if advanced else 128):
        yield f"{len(listed)} devices"
    sets = spec.get("sharedCounters", [])
    if len(sets) > 8 or len({counter_set["name"] for counter_set in sets}) != len(sets):
        yield f"{len(sets)} counter sets"
    for counters in [*sets, *(use for device in listed for use in device.get("consumesCounters", []))]:
        yield from _counter_faults(counters)
    for device in listed:
        yield from (f"{device['name']}: {fault}" for fault in _device_faults(device))


def _counter_faults(counters: Json) -> Iterator[str]:
    for label in [counters.get("name") or counters["counterSet"], *counters["counters"]]:
        if not LABEL.fullmatch(label):
            yield f"label {label}"
    if not 1 <= len(counters["counters"]) <= 32:
        yield f"{len(counters['counters'])} counters"
    yield from (f"quantity {c['value']}" for c in counters["counters"].values() if not _canonical(c["value"]))


def _device_faults(device: Json) -> Iterator[str]:
    if not LABEL.fullmatch(device["name"]):
        yield "name"
    if len(device["attributes"]) + len(device["capacity"]) > 32:
        yield "more than 32 attributes and capacities"
    if len(device.get("consumesCounters", [])) > 2:
        yield "more than 2 counter sets"
    for name in [*device["attributes"], *device["capacity"]]:
        domain, _, identifier = name.rpartition("/")
        if not IDENTIFIER.fullmatch(identifier) or (domain and not SUBDOMAIN.fullmatch(domain)):
            yield f"name {name}"
    for name, attribute in device["attributes"].items():
        ((kind, value),) = attribute.items()
        if kind not in ("string", "version", "int", "bool") or (kind in ("int", "bool")) == isinstance(value, str):
            yield f"attribute {name} is {attribute}"
        if isinstance(value, str) and len(value.encode()) > 64:
            yield f"attribute {name} is longer than 64 bytes"
        if kind == "version" and not SEMVER.fullmatch(value):
            yield f"attribute {name} is no version: {value}"
    for name, capacity in device["capacity"].items():
        yield from (f"capacity {name}: {fault}" for fault in _capacity_faults(device, capacity))


def _capacity_faults(device: Json, capacity: Json) -> Iterator[str]:
    if not _canonical(capacity["value"]):
        yield f"quantity {capacity['value']}"
    if "requestPolicy" not in capacity:
        return
    if not device.get("allowMultipleAllocations"):
        yield "a policy needs allowMultipleAllocations"
    value, default = amount(capacity["value"]), amount(capacity["requestPolicy"]["default"])
    bounds = {name: amount(quantity) for name, quantity in capacity["requestPolicy"]["validRange"].items()}
    quantities = [capacity["requestPolicy"]["default"], *capacity["requestPolicy"]["validRange"].values()]
    yield from (f"quantity {quantity}" for quantity in quantities if not _canonical(quantity))
    if not bounds["min"] <= default <= bounds["max"] <= value or bounds["min"] + bounds["step"] > value:
        yield f"range {bounds} with default {default} of {value}"
    if (default - bounds["min"]) % bounds["step"] or (bounds["max"] - bounds["min"]) % bounds["step"]:
        yield f"default or max is not a multiple of the step in {bounds}"


def _canonical(quantity: str) -> bool:
    """Whether the API server would store it as it is written."""
    if not CANONICAL.fullmatch(quantity):
        return False
    number, unit = re.fullmatch(r"(\d+)(.*)", quantity).groups()  # type: ignore[union-attr]
    return int(number) == 0 or int(number) % (1024 if unit.endswith("i") else 1000) != 0
