"""FGD's fragmentation and the loss of MIG slices, straight from their definitions. Slow truth for `packing.kernels`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from packing.mix import TypicalPod
from packing.model import ANY_GPU, WHOLE_MILLI, GpuModel
from topology.mig import MigGeometry, MigProfile, interval


def fragmentation(pods: Sequence[TypicalPod], models: Sequence[GpuModel], cpu_milli: int, left: Sequence[int]) -> float:
    """Return the idle compute (thousandths) that a pod drawn from the mix could not use.

    Weng et al., USENIX ATC 2023, as published: one sum per class of shortage, then the sum of the classes.
    """
    total = sum(left)
    classes = dict.fromkeys(("lack both", "lack gpu", "lack cpu", "cpu-only fits", "cpu-only short", "no access"), 0.0)
    for pod in pods:
        enough_cpu = cpu_milli >= pod.cpu_milli
        unusable = total
        if pod.count == 0:
            name = "cpu-only fits" if enough_cpu else "cpu-only short"
        elif pod.selector != ANY_GPU and not any(pod.selector.matches(model) for model in models):
            name = "no access"
        elif sum(part >= pod.milli for part in left) < pod.count:
            name = "lack gpu" if enough_cpu else "lack both"
        elif not enough_cpu:
            name = "lack cpu"
        else:
            name = "lack gpu"
            unusable = sum(part for part in left if part < pod.milli)
        classes[name] += pod.weight * unusable
    lack_both, lack_gpu, lack_cpu, fits, short, no_access = classes.values()
    return lack_both + lack_gpu + lack_cpu + fits + short + no_access


def gradient_score(before: float, after: float) -> int:
    """Return 100 times the sigmoid of the fragmentation saved, in GPUs, rounded down."""
    return int(1.0 / (1.0 + math.exp(-((before - after) / 1000.0))) * 100.0)


def room(profile: MigProfile, slices: int) -> list[int]:
    """Return the starts of a profile that the occupied slices leave free."""
    return [start for start in sorted(profile.starts) if not interval(profile, start) & slices]


def slice_loss(geometry: MigGeometry, slices: int) -> int:
    """Return the free slices that partitions of one profile could not fill, in millionths; profiles equally likely."""
    plain = [profile for profile in geometry.profiles if not profile.attributes]
    even, over = divmod(1_000_000, len(plain))
    free = geometry.memory_slices - slices.bit_count()
    loss = 0
    for at, profile in enumerate(plain):
        weight = even + (at < over)
        loss += weight * (free - profile.size * instances(profile, slices))
    return loss


@cache
def instances(profile: MigProfile, slices: int) -> int:
    """Return how many partitions of a profile still fit side by side: the most among all choices of starts."""
    here = [slices | interval(profile, start) for start in room(profile, slices)]
    return max((1 + instances(profile, after) for after in here), default=0)


def best_start(geometry: MigGeometry, profile: MigProfile, slices: int) -> int:
    """Return the start that strands least; then the one that leaves most placements; then the lowest."""

    def goodness(start: int) -> tuple[int, int, int]:
        after = slices | interval(profile, start)
        placements = sum(len(room(other, after)) for other in geometry.profiles)
        return slice_loss(geometry, after), -placements, start

    return min(room(profile, slices), key=goodness)


def slice_share(geometry: MigGeometry, profile: MigProfile) -> int:
    """Return the thousandths of a GPU that a profile takes, by memory slices."""
    return profile.size * WHOLE_MILLI // geometry.memory_slices
