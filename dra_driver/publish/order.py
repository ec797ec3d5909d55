"""In which order devices are listed. kube-scheduler takes the first that fit, so the order is a placement policy.

Partitions come in blocking-cost order: first what excludes the fewest other placements. Whole GPUs come so that
neighbours in the list are well linked. Partitions and shares begin at the other end of that list: what breaks a GPU
breaks those that whole-GPU claims would take last.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from dra_driver.inventory import Gpu
from dra_driver.publish.counters import GEOMETRIES_KEPT, exclude_each_other, geometry_counters, partition_counters
from topology.mig import MigGeometry, MigProfile, placements
from topology.modes import MigMode


def by_links(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """GPUs such that neighbours are well linked, for claims of two, four or eight that take the next ones listed.

    Every other GPU is the best partner of the one before it, the rest have the most NVLinks to all before. Ties: the
    lowest index.
    """
    left = list(gpus)
    listed: list[Gpu] = []
    while left:
        partner = listed[-1:] if len(listed) % 2 else []
        worth = [(_links_to(gpu, partner), _links_to(gpu, listed)) for gpu in left]
        listed.append(left.pop(worth.index(max(worth))))
    return tuple(listed)


@lru_cache(maxsize=GEOMETRIES_KEPT)
def by_blocking_cost(geometry: MigGeometry) -> tuple[tuple[MigProfile, int], ...]:
    """Placements, those first that exclude the fewest others; ties: the smaller, the lower start, then as listed."""
    totals = geometry_counters(geometry)
    options = placements(geometry)
    taken = [partition_counters(geometry, profile, start) for profile, start in options]
    blocked = [sum(exclude_each_other(totals, one, other) for other in taken) for one in taken]
    order = sorted(range(len(options)), key=lambda at: (blocked[at], options[at][0].size, options[at][1], at))
    return tuple(options[at] for at in order)


def nvlink_domains(gpus: Sequence[Gpu]) -> dict[int, str]:
    """GPU index -> name of its NVLink domain in this node: the GPUs it reaches over NVLink, directly or over others.

    A GPU that reaches none is not in it.
    """
    domains: dict[int, str] = {}
    for gpu in gpus:
        if gpu.index in domains:
            continue
        reached, frontier = {gpu.index}, [gpu]
        while frontier:
            one = frontier.pop()
            found = [other for other in gpus if other.index not in reached and links_between(one, other)]
            reached |= {other.index for other in found}
            frontier += found
        if len(reached) > 1:
            domains |= dict.fromkeys(reached, f"nvlink-{gpu.index}")
    return domains


def links_between(one: Gpu, other: Gpu) -> int:
    """NVLinks both ends report; a GPU fixed in MIG mode has left the NVLink graph."""
    if MigMode.ENABLED in (one.mig_mode, other.mig_mode):
        return 0
    return min(_links(one, other.index), _links(other, one.index))


def _links_to(gpu: Gpu, others: Sequence[Gpu]) -> int:
    return sum(links_between(gpu, other) for other in others)


def _links(gpu: Gpu, peer: int) -> int:
    return gpu.nvlinks[peer] if peer < len(gpu.nvlinks) else 0
