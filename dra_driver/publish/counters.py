"""What devices of one GPU take from each other (KEP-4815): counters that hold exactly where the hardware does.

A partition takes its memory slices, one counter each, and its engines, SMs and memory, as in NVIDIA's driver. The whole
GPU and each way of sharing it take everything, so that a GPU is whole, partitioned or shared at a time. A limit on
instances that none of these implies (an exclusive group, or a maximum below what the placements allow) gets a counter
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from dra_driver.inventory import MIB, Gpu
from dra_driver.publish.names import label
from topology.mig import MigEngines, MigGeometry, MigProfile, side_by_side
from topology.modes import MigMode

MEMORY = "memory"
"""The one counter and capacity that counts bytes."""

GEOMETRIES_KEPT = 64
"""The GPUs of a node share a geometry or two, and a slice is written again at every change of health."""

Amounts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One capacity of a partition: its name, the name of its counter, and where its amount stands in a profile."""

    capacity: str
    counter: str
    amount: Callable[[MigProfile], int | None]


def _engine(pick: Callable[[MigEngines], int]) -> Callable[[MigProfile], int | None]:
    return lambda profile: None if profile.engines is None else pick(profile.engines)


ENGINES = (
    Dimension("copyEngines", "copy-engines", _engine(lambda engines: engines.copy)),
    Dimension("decoders", "decoders", _engine(lambda engines: engines.decoder)),
    Dimension("encoders", "encoders", _engine(lambda engines: engines.encoder)),
    Dimension("jpegEngines", "jpeg-engines", _engine(lambda engines: engines.jpeg)),
    Dimension("ofaEngines", "ofa-engines", _engine(lambda engines: engines.ofa)),
)
BY_SLICE = (
    Dimension("multiprocessors", "multiprocessors", lambda profile: profile.sm_count),
    Dimension(MEMORY, MEMORY, lambda profile: None if profile.memory_mib is None else profile.memory_mib * MIB),
)
"""What comes with the slices: these limit nothing that the slices do not."""
DIMENSIONS = (*BY_SLICE, *ENGINES)


@dataclass(frozen=True, slots=True)
class _Limit:
    """At most `most` instances of the profiles `members` together."""

    counter: str
    most: int
    members: tuple[MigProfile, ...]


def gpu_counters(gpu: Gpu) -> Amounts:
    """Return every counter of the GPU and how much of it there is; `memory` in bytes."""
    if gpu.mig is None or gpu.mig_mode is MigMode.DISABLED:
        return {MEMORY: gpu.memory_bytes}
    return geometry_counters(gpu.mig)


@lru_cache(maxsize=GEOMETRIES_KEPT)
def geometry_counters(geometry: MigGeometry) -> Amounts:
    """Return the counters of a GPU that is cut as `geometry` says."""
    totals = {}
    for dimension in DIMENSIONS:
        amounts = _known_amounts(geometry, dimension)
        if amounts and max(amounts) > 0:
            totals[dimension.counter] = max(amounts)
            if dimension in BY_SLICE:
                # Drivers round sizes up: where the best packing adds up to more than the largest profile, it counts.
                totals[dimension.counter] = max(*amounts, _best_packing(geometry, amounts))
    totals |= {_slice(at): 1 for at in range(geometry.memory_slices)}
    return totals | {limit.counter: limit.most for limit in _limits(geometry)}


def partition_counters(geometry: MigGeometry, profile: MigProfile, start: int) -> Amounts:
    """Return what an instance of `profile` at memory slice `start` takes of `geometry_counters`."""
    totals = geometry_counters(geometry)
    taken = {dimension.counter: dimension.amount(profile) or 0 for dimension in DIMENSIONS}
    taken |= {_slice(at): 1 for at in range(start, start + profile.size)}
    taken |= {limit.counter: 1 for limit in _limits(geometry) if profile in limit.members}
    return {counter: amount for counter, amount in taken.items() if amount and counter in totals}


def exclude_each_other(totals: Amounts, one: Amounts, other: Amounts) -> bool:
    """Whether two devices that take these amounts cannot be allocated together."""
    return any(amount + other.get(counter, 0) > totals[counter] for counter, amount in one.items())


def _slice(at: int) -> str:
    return f"memory-slice-{at}"


def _known_amounts(geometry: MigGeometry, dimension: Dimension) -> tuple[int, ...]:
    """Amounts of all profiles in order; empty where that of any is unknown, since then nothing can be counted."""
    amounts = [dimension.amount(profile) for profile in geometry.profiles]
    known = tuple(amount for amount in amounts if amount is not None)
    return known if len(known) == len(amounts) else ()


def _best_packing(geometry: MigGeometry, amounts: tuple[int, ...]) -> int:
    """Return the largest sum over instances whose slices do not overlap."""
    best = [0]
    for end in range(1, geometry.memory_slices + 1):
        ending = (
            best[end - profile.size] + amount
            for profile, amount in zip(geometry.profiles, amounts, strict=True)
            if end - profile.size in profile.starts
        )
        best.append(max(best[-1], *ending, 0))
    return best[-1]


@lru_cache(maxsize=GEOMETRIES_KEPT)
def _limits(geometry: MigGeometry) -> tuple[_Limit, ...]:
    """Limits that neither the placements nor the engines imply."""
    return tuple(limit for limit in _all_limits(geometry) if not _implied(geometry, limit))


def _all_limits(geometry: MigGeometry) -> Iterator[_Limit]:
    exclusive = 0
    for profile in geometry.profiles:
        exclusive |= profile.takes
    for bit in range(exclusive.bit_length()):
        members = tuple(profile for profile in geometry.profiles if profile.takes >> bit & 1)
        if members:
            yield _Limit(f"exclusive-{bit}", 1, members)
    for profile in geometry.profiles:
        if side_by_side(profile.starts, profile.size) > profile.max_instances:
            yield _Limit(f"instances-{label(profile.name)}", profile.max_instances, (profile,))


def _implied(geometry: MigGeometry, limit: _Limit) -> bool:
    """Whether some engine runs out before the limit is passed."""
    for dimension in ENGINES:
        amounts = _known_amounts(geometry, dimension)
        if amounts:
            least = min(dimension.amount(profile) or 0 for profile in limit.members)
            if least * (limit.most + 1) > max(amounts):
                return True
    return False
