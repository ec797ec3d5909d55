"""The peer of suite X1 that is no policy of the product: first-fit that keeps GPUs whole as long as it can."""

from __future__ import annotations

from collections.abc import Sequence

from packing.model import PartitionRequest, ShareRequest
from simulator.quality.churn import Spot
from simulator.quality.migcluster import PROFILES, slots
from simulator.quality.mixeddemand import GPU_MEMORY_MIB, GPUS_PER_NODE, NODES, Ask

WHOLE_MILLI = 1000

Held = tuple[list[int], int, int]
"""GPUs by number in the cluster, then what of each: slices (bit mask), or thousandths and MiB of a share."""


class WholeFirst:
    """Whole jobs get the lowest idle GPUs of the first node that has enough.

    A partition or a share goes to the first GPU cut or shared already that holds it, at the lowest start; only where
    there is none does it take the first idle GPU away from the whole jobs.
    """

    def __init__(self, asks: Sequence[Ask], nodes: int = NODES) -> None:
        self._requests = [ask.demand.requests[0] for ask in asks]
        self._counts = [round(ask.gpus) if ask.kind == "whole" else 0 for ask in asks]
        self._idle = [(1 << GPUS_PER_NODE) - 1] * nodes
        self._cut: dict[int, int] = {}
        """Cut GPUs: their slices in use."""
        self._shared: dict[int, tuple[int, int]] = {}
        """Shared GPUs: thousandths and MiB in use."""
        self._held: dict[int, Held] = {}

    def take(self, job: int, kind: int) -> Spot | None:
        """Place a job that asks for `asks[kind]`."""
        match self._requests[kind]:
            case PartitionRequest(profile=profile):
                held = self._partition(PROFILES.index(profile))
            case ShareRequest(compute_milli=compute, memory_mib=memory):
                held = self._share(compute, memory)
            case _:
                held = self._whole(self._counts[kind])
        if held is None:
            return None
        self._held[job] = held
        return held[0][0] // GPUS_PER_NODE, sum(1 << gpu % GPUS_PER_NODE for gpu in held[0])

    def release(self, job: int) -> None:
        """Give back what a job holds."""
        gpus, first, second = self._held.pop(job)
        for gpu in gpus:
            if gpu in self._cut:
                self._cut[gpu] ^= first
                if self._cut[gpu]:
                    continue
                del self._cut[gpu]
            elif gpu in self._shared:
                compute, memory = self._shared[gpu]
                self._shared[gpu] = compute - first, memory - second
                if compute > first or memory > second:
                    continue
                del self._shared[gpu]
            self._idle[gpu // GPUS_PER_NODE] |= 1 << gpu % GPUS_PER_NODE

    def _whole(self, count: int) -> Held | None:
        node = next((at for at, idle in enumerate(self._idle) if idle.bit_count() >= count), None)
        if node is None:
            return None
        gpus = [node * GPUS_PER_NODE + i for i in range(GPUS_PER_NODE) if self._idle[node] >> i & 1][:count]
        for gpu in gpus:
            self._idle[node] ^= 1 << gpu % GPUS_PER_NODE
        return gpus, 0, 0

    def _partition(self, profile: int) -> Held | None:
        table = slots()
        found = next((gpu for gpu in sorted(self._cut) if table.fits[profile, self._cut[gpu]]), None)
        gpu = self._opened() if found is None else found
        if gpu is None:
            return None
        mask = self._cut.get(gpu, 0)
        after = table.after(mask, profile, table.free_starts(mask, profile)[0])
        self._cut[gpu] = after
        return [gpu], after ^ mask, 0

    def _share(self, compute: int, memory: int) -> Held | None:
        fitting = (
            gpu
            for gpu, (used, used_mib) in sorted(self._shared.items())
            if used + compute <= WHOLE_MILLI and used_mib + memory <= GPU_MEMORY_MIB
        )
        found = next(fitting, None)
        gpu = self._opened() if found is None else found
        if gpu is None:
            return None
        used, used_mib = self._shared.get(gpu, (0, 0))
        self._shared[gpu] = used + compute, used_mib + memory
        return [gpu], compute, memory

    def _opened(self) -> int | None:
        """Return the first idle GPU, no longer idle."""
        held = self._whole(1)
        return held[0][0] if held else None
