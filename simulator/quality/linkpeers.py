"""Peers of suite L: how others choose a node and, on it, the GPUs of a job. All take what fits; none looks ahead.

A peer is a choice of node (first by name, random, most used) and a choice of GPUs (lowest indices, best pair sum, best
partition), except for quality first, which looks at all nodes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from simulator.quality.arrivals import Ints
from simulator.quality.churn import Spot
from simulator.quality.linkclusters import LinkCluster
from simulator.quality.linksets import SetChooser, best_of_partition, best_pair_sum, best_ratio, lowest_indices


class NodeRule(Protocol):
    """Chooses among the nodes with enough free GPUs."""

    def __call__(self, fitting: Ints, free: Ints) -> int:
        """Return one of `fitting`, node numbers in order; `free` is the free GPUs of every node."""


def _first(fitting: Ints, free: Ints) -> int:  # noqa: ARG001 - the signature of a rule
    return int(fitting[0])


def _most_used(fitting: Ints, free: Ints) -> int:
    """Return the node with the fewest free GPUs; ties by name."""
    return int(fitting[np.argmin(free[fitting])])


class _AnyNode:
    """A random node. Its seed is apart from that of the arrivals, so that drawing never shifts them."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng((seed, 1))

    def __call__(self, fitting: Ints, free: Ints) -> int:  # noqa: ARG002 - the signature of a rule
        return int(fitting[self._rng.integers(len(fitting))])


class PeerLinks:
    """A rule for nodes and a rule for GPUs over plain masks of free GPUs."""

    def __init__(self, cluster: LinkCluster, node_rule: NodeRule, choosers: dict[str, SetChooser]) -> None:
        self._kinds = [item.id for item in cluster.machines]
        self._choosers = choosers
        self._rule = node_rule
        self._masks = [(1 << item.gpu_count) - 1 for item in cluster.machines]
        self._free = np.array([item.gpu_count for item in cluster.machines], dtype=np.int64)
        self._held: dict[int, Spot] = {}

    def take(self, job: int, kind: int) -> Spot | None:
        """Place a job of `kind` GPUs."""
        fitting = np.flatnonzero(self._free >= kind)
        if not len(fitting):
            return None
        node = self._rule(fitting, self._free)
        return self._keep(job, node, self._choosers[self._kinds[node]](self._masks[node], kind))

    def release(self, job: int) -> None:
        """Give back the GPUs of a job."""
        node, gpus = self._held.pop(job)
        self._masks[node] |= gpus
        self._free[node] += gpus.bit_count()

    def _keep(self, job: int, node: int, gpus: int) -> Spot:
        self._masks[node] &= ~gpus
        self._free[node] -= gpus.bit_count()
        self._held[job] = (node, gpus)
        return node, gpus


class QualityFirst(PeerLinks):
    """The best set of the cluster, whatever it costs: the highest ratio, of equals by `tie` on free GPUs, then by name.

    tie: 0 the first by name, 1 the emptiest node, -1 the fullest.
    """

    def __init__(self, cluster: LinkCluster, tie: int) -> None:
        ratio = dict(zip([item.id for item in cluster.machines], cluster.ratio, strict=True))
        super().__init__(cluster, _first, {kind: best_ratio(table) for kind, table in ratio.items()})
        self._ratio = ratio
        self._tie = tie
        self._known: dict[tuple[str, int, int], tuple[float, int, int]] = {}

    def take(self, job: int, kind: int) -> Spot | None:
        """Place a job of `kind` GPUs."""
        best: tuple[float, int, int] | None = None
        chosen = -1
        for node in np.flatnonzero(self._free >= kind).tolist():
            found = self._found(self._kinds[node], self._masks[node], kind)
            if best is None or found[:2] > best[:2]:
                best, chosen = found, node
        return None if best is None else self._keep(job, chosen, best[2])

    def _found(self, machine: str, free: int, k: int) -> tuple[float, int, int]:
        """Return ratio of the best set of a node, its place among equals, and the set."""
        key = (machine, free, k)
        if key not in self._known:
            gpus = self._choosers[machine](free, k)
            ratio = float(self._ratio[machine][gpus]) if k > 1 else 1.0
            self._known[key] = (ratio, self._tie * free.bit_count(), gpus)
        return self._known[key]


def _choosers(cluster: LinkCluster, make: Callable[..., SetChooser]) -> dict[str, SetChooser]:
    return {item.id: make(item) for item in dict.fromkeys(cluster.machines)}


def _make(rule: NodeRule, sets: Callable[..., SetChooser]) -> Callable[[LinkCluster, int], PeerLinks]:
    return lambda cluster, _seed: PeerLinks(cluster, rule, _choosers(cluster, sets))


def _random_node(cluster: LinkCluster, seed: int) -> PeerLinks:
    return PeerLinks(cluster, _AnyNode(seed), _choosers(cluster, lowest_indices))


def _quality_first(tie: int) -> Callable[[LinkCluster, int], PeerLinks]:
    return lambda cluster, _seed: QualityFirst(cluster, tie)


LINK_PEERS: dict[str, Callable[[LinkCluster, int], PeerLinks]] = {
    "first-fit": _make(_first, lowest_indices),
    "random-node": _random_node,
    "most-used": _make(_most_used, lowest_indices),
    "hami": _make(_most_used, best_pair_sum),
    "go-gpuallocator": _make(_most_used, best_of_partition),
    "quality-first": _quality_first(0),
    "quality-packed": _quality_first(-1),
    "quality-spread": _quality_first(1),
}
"""By name: a new allocator for a cluster and a seed."""
