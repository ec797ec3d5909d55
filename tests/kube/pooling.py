"""Pools of a few slices, and rules that taint their devices."""

from __future__ import annotations

from typing import Any

from kube.objects import DeviceTaintRule, ResourceSlice
from kube.pools import PoolKey, Pools
from tests.kube.builders import DRIVER, Json, decoded

KEY = PoolKey(DRIVER, "pool")
COUNTED: Json = {"consumesCounters": [{"counterSet": "gpu-0", "counters": {"memory": {"value": "1Gi"}}}]}
RACK = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1"]}]}]}
SETS = [{"name": "gpu-0", "counters": {"memory": {"value": "80Gi"}}}]


def pools_of(*slices: ResourceSlice, **settings: Any) -> Pools:
    pools = Pools(DRIVER, **settings)
    pools.replace(slices)
    pools.refresh()
    return pools


def names(pools: Pools, key: PoolKey = KEY) -> list[str]:
    pool = pools.states[key].pool
    assert pool is not None, pools.states[key].fault
    return [each.name for each in pool.shape.devices]


def rule(name: str, effect: str = "NoSchedule", **selector: str) -> DeviceTaintRule:
    spec = {"deviceSelector": selector, "taint": {"key": name, "effect": effect}}
    return decoded({"metadata": {"name": name}, "spec": spec}, DeviceTaintRule)
