"""The four clusters of suite L, the jobs that come, and how a set of GPUs is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from simulator.quality.arrivals import Arrivals, Floats, Ints, gang_arrivals
from simulator.quality.churn import Spot
from topology.catalog import machine
from topology.facts import Machine
from topology.quality import set_quality
from topology.rings import sizes as set_sizes

SIZES = (1, 2, 4, 8)
SHARES = (0.45, 0.25, 0.20, 0.10)
LOADS = (0.7, 0.85, 1.0)
ARRIVALS = 20_000
DROPPED = 2_000
"""Arrivals at the start that do not count: the cluster is still filling."""
WORST_SHARE = 0.05
"""The lowest ratios whose mean is reported."""

CLUSTERS: dict[str, tuple[tuple[str, int], ...]] = {
    "a": (("dgx1-v100", 50),),
    "b": (("a100-8-pcie-nvlink-pairs", 50),),
    "c": (("hgx-h100-8", 50),),
    "d": tuple(
        (name, 20)
        for name in (
            "dgx1-v100",
            "a100-8-pcie-nvlink-pairs",
            "aws-p4d-24xlarge",
            "hgx-h100-8",
            "l40s-8-pcie",
            "polaris-a100-4gpu",
            "dgx2-v100",
        )
    ),
}
"""Per cluster the machines (ids of the catalogue) and how many of each."""


@dataclass(frozen=True, slots=True, eq=False)
class LinkCluster:
    """A cluster of known machines; `machines[i]` is the i-th by name, `ratio[i]` judges its sets."""

    name: str
    node_names: tuple[str, ...]
    machines: tuple[Machine, ...]
    ratio: tuple[Floats, ...]
    """Per machine [2**n]: Q of the set over the best set of that size on any empty machine with the same product."""

    @property
    def gpus(self) -> int:
        """GPUs of the cluster."""
        return sum(item.gpu_count for item in self.machines)


@cache
def link_cluster(name: str) -> LinkCluster:
    """Return cluster `name` of `CLUSTERS`, nodes in the order of their names."""
    kinds = {kind: machine(kind) for kind, _ in CLUSTERS[name]}
    ratios = {kind: _ratios(item, tuple(kinds.values())) for kind, item in kinds.items()}
    nodes = sorted((f"{kind}-{i:03}", kind) for kind, count in CLUSTERS[name] for i in range(count))
    return LinkCluster(
        name=name,
        node_names=tuple(node for node, _ in nodes),
        machines=tuple(kinds[kind] for _, kind in nodes),
        ratio=tuple(ratios[kind] for _, kind in nodes),
    )


def link_arrivals(cluster: LinkCluster, load: float, seed: int, count: int = ARRIVALS) -> Arrivals:
    """Return the jobs of suite L for a seed."""
    return gang_arrivals(seed, sizes=SIZES, shares=SHARES, gpus=cluster.gpus, load=load, count=count)


def judge_links(
    cluster: LinkCluster, arrivals: Arrivals, spots: Sequence[Spot | None], dropped: int = DROPPED
) -> dict[str, float]:
    """Return the figures of one run, in percent.

    ideal: accepted jobs of several GPUs on a set as good as any of their product; ratio: mean quality over that ideal;
    worst: mean of the lowest 5 % of ratios; accepted: GPU time accepted over offered. The last is of all jobs.
    """
    work = (arrivals.kind * arrivals.life)[dropped:]
    taken = np.array([spot is not None for spot in spots[dropped:]])
    ratios = np.sort(
        [
            cluster.ratio[spot[0]][spot[1]]
            for spot, kind in zip(spots[dropped:], arrivals.kind[dropped:].tolist(), strict=True)
            if spot is not None and kind > 1
        ]
    )
    worst = ratios[: max(1, round(WORST_SHARE * len(ratios)))]
    return {
        "ideal_pct": 100 * float(np.mean(ratios == 1.0)) if len(ratios) else 100.0,
        "ratio_pct": 100 * float(np.mean(ratios)) if len(ratios) else 100.0,
        "worst_pct": 100 * float(np.mean(worst)) if len(ratios) else 100.0,
        "accepted_pct": 100 * float(work[taken].sum() / work.sum()),
    }


def _ratios(item: Machine, kinds: tuple[Machine, ...]) -> Floats:
    """[2**n] quality of each set over the ideal of its size; 1 where there is nothing to gain."""
    same = [kind for kind in kinds if kind.gpu.product_name == item.gpu.product_name]
    quality = set_quality(item).quality_mbps
    ideal = np.max([_best_by_size(kind) for kind in same], axis=0)[set_sizes(item.gpu_count)]
    return np.where(ideal == 0, 1.0, quality / np.maximum(ideal, 1))


def _best_by_size(item: Machine) -> Ints:
    """[17] the best quality of a set of k GPUs of the empty machine, MB/s."""
    best = np.zeros(17, dtype=np.int64)
    np.maximum.at(best, set_sizes(item.gpu_count), set_quality(item).quality_mbps)
    return best
