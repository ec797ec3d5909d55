"""Binds a replay to the core: the same `place()` that schedules decides where simulated jobs run.

One thing is added. A demand that was refused can fit later only on a node that released something since, so while these
nodes are few they are looked at first, and `place()` is asked only if one of them has the room. This changes no answer
and spares most of the calls when the queue is long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packing.mix import DemandMix
from packing.model import (
    WHOLE_MILLI,
    ClaimId,
    Demand,
    Devices,
    GpuModel,
    Node,
    Request,
    ShareRequest,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from packing.place import place
from packing.policy import DEFAULT_POLICY, make_policy

MAX_LOOKED_AT = 32
"""Released nodes looked at one by one; with more, `place()` is as quick."""


class CoreCluster:
    """A cluster of `nodes` under one policy, as `simulator.engine.replay` wants it (`ClusterSide`)."""

    def __init__(
        self, nodes: Sequence[Node], counts: Iterable[tuple[Demand, int]], policy: str = DEFAULT_POLICY, seed: int = 0
    ) -> None:
        """Start empty. The policy knows `counts` as the demand mix; `seed` matters to the policy `random` only."""
        self._fabric, self._usage = pack(Snapshot(nodes=tuple(nodes)))
        self._policy = make_policy(policy, DemandMix.from_demands(counts), self._fabric, seed=seed)
        self._released: list[int] = []  # node of every release so far
        self._refused: dict[Demand, int] = {}  # releases so far when a demand was last refused
        self.capacity_milli = WHOLE_MILLI * sum(len(node.shape.gpus) - len(node.unhealthy) for node in nodes)

    def try_place(self, demand: Demand, claim: ClaimId) -> int | None:
        """Place `demand` and return the thousandths of GPUs it took; None where it does not fit."""
        if self._surely_refused(demand):
            return None
        placement = place(self._fabric, self._usage, demand, self._policy).placement
        if placement is None:
            self._refused[demand] = len(self._released)
            return None
        self._refused.pop(demand, None)
        self._usage.apply(claim, demand, placement)
        gpus = self._fabric.nodes[self._fabric.index[placement.node]].shape.gpus
        return sum(
            taken_milli(request, devices, gpus[devices.gpus[0]])
            for request, devices in zip(demand.requests, placement.devices, strict=True)
        )

    def release(self, claim: ClaimId) -> None:
        """Give back what `claim` holds."""
        self._released.append(self._usage.claims[claim].node)
        self._usage.release(claim)

    def _surely_refused(self, demand: Demand) -> bool:
        seen = self._refused.get(demand)
        if seen is None or len(self._released) - seen > MAX_LOOKED_AT:
            return False
        if any(self._has_room(demand, node) for node in set(self._released[seen:])):
            return False
        self._refused[demand] = len(self._released)
        return True

    def _has_room(self, demand: Demand, node: int) -> bool:
        """Whether `demand` might fit `node`. False is certain; True only that `place()` must be asked."""
        usage, fabric = self._usage.arrays, self._fabric.arrays
        if usage.cpu_left[node] < demand.cpu_milli or usage.memory_left[node] < demand.memory_mib:
            return False
        for request in demand.requests:
            if isinstance(request, WholeRequest):
                if int(usage.free[node]).bit_count() < request.count:
                    return False
            elif isinstance(request, ShareRequest):
                milli = usage.gpu_milli[fabric.gpu_start[node] : fabric.gpu_start[node + 1]]
                if milli.max(initial=0) < request.compute_milli:
                    return False
        return True


def taken_milli(request: Request, devices: Devices, gpu: GpuModel) -> int:
    """Return how much of GPUs like `gpu` a request was given, in thousandths of a GPU, rounded down.

    A share counts its compute, or its part of the memory where it asks for memory only; a partition its part of the
    memory slices, which is what it denies to others.
    """
    if isinstance(request, WholeRequest):
        return WHOLE_MILLI * request.count
    if isinstance(request, ShareRequest):
        if request.compute_milli or not gpu.memory_mib:
            return request.compute_milli
        return WHOLE_MILLI * request.memory_mib // gpu.memory_mib
    assert gpu.mig is not None
    return WHOLE_MILLI * gpu.mig.profile(devices.profile).size // gpu.mig.memory_slices
