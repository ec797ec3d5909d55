"""Pools as the API server stores them, changed by writes, and judged as consumers judge them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Any

import msgspec

from dra_driver.publish import DRIVER_NAME
from dra_driver.slices.plan import Create, Delete, Update, Write
from kube.objects import ResourceSlice
from kube.pools import PoolKey, Pools, PoolState

Json = dict[str, Any]

OWNER: Json = {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "uid-of-node", "controller": True}
POOL = PoolKey(DRIVER_NAME, f"node-1/{DRIVER_NAME}")


class Store:
    """What the API server has. Mutable; dates taints and counts versions as the real one."""

    def __init__(self) -> None:
        self.slices: dict[str, Json] = {}
        self._numbers = itertools.count(1)

    def apply(self, write: Write) -> None:
        metadata = write.manifest["metadata"]
        name = metadata["name"]
        if isinstance(write, Delete):
            assert self.slices[name]["metadata"]["resourceVersion"] == metadata["resourceVersion"]
            del self.slices[name]
            return
        if isinstance(write, Create):
            assert name not in self.slices
            metadata = metadata | {"uid": f"uid-{next(self._numbers)}"}
        else:
            assert isinstance(write, Update)
            stored = self.slices[name]
            assert stored["metadata"]["resourceVersion"] == metadata["resourceVersion"]
            for fixed in ("driver", "nodeName"):
                assert stored["spec"][fixed] == write.manifest["spec"][fixed]
            assert stored["spec"]["pool"]["name"] == write.manifest["spec"]["pool"]["name"]
        version = next(self._numbers)
        spec = copy.deepcopy(write.manifest["spec"])
        for device in spec.get("devices") or ():
            for taint in device.get("taints") or ():
                taint.setdefault("timeAdded", f"2026-01-01T00:00:{version % 60:02d}Z")
        self.slices[name] = {"metadata": metadata | {"resourceVersion": str(version)}, "spec": spec}

    def apply_all(self, writes: Iterable[Write]) -> int:
        """Return how many there were."""
        count = 0
        for write in writes:
            self.apply(write)
            count += 1
        return count

    def listed(self) -> list[Json]:
        return [copy.deepcopy(self.slices[name]) for name in sorted(self.slices)]


def judged(stored: Iterable[Json]) -> PoolState:
    """What a consumer makes of the pool of node-1."""
    pools = Pools(DRIVER_NAME)
    pools.replace(msgspec.convert(each, ResourceSlice) for each in stored)
    pools.refresh()
    return pools.states.get(POOL, PoolState(fault="there is none"))


def meaning(stored: Iterable[Json]) -> object:
    """What can be allocated from slices: names, capacities and counters, without attributes and taints."""
    specs = [each["spec"] for each in stored]
    devices = [
        {key: value for key, value in device.items() if key not in ("attributes", "taints")}
        for spec in specs
        for device in spec.get("devices") or ()
    ]
    sets = [each for spec in specs for each in spec.get("sharedCounters") or ()]
    return sorted(devices, key=lambda each: str(each["name"])), sorted(sets, key=lambda each: str(each["name"]))
