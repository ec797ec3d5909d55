"""A cluster in steady state, and how long its decisions take: place and apply a pod, release old ones, over and over.

The cluster is filled through `place()` to a share of its GPUs; from then on, after every pod that came, claims drawn
uniformly leave until no more than that share is in use. Drawing uniformly is what exponential lifetimes mean.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from packing.memory import memory_of
from packing.model import ClaimId, Snapshot
from packing.pack import pack
from packing.place import Decision, place
from packing.policy import DEFAULT_POLICY, make_policy
from packing.warm import compile_kernels
from simulator.quality.mixeddemand import Ask, history
from simulator.quality.product import pool_nodes
from simulator.scale.workload import scale_asks

OCCUPIED = 0.85
WARM_UP = 0.25
"""Decisions that do not count, as a share of those that do: every class is seen before."""
BATCH = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long one operation took, microseconds: as a clock on the wall saw it, and the processor time it used.

    The two differ by the time other programs had the processor.
    """

    p50_us: float
    p99_us: float
    max_us: float
    cpu_p50_us: float
    cpu_p99_us: float
    cpu_max_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRun:
    """One size. `first` is the first decision of each class on the full cluster, when every node must be scored."""

    nodes: int
    gpus: int
    seed: int
    decisions: int
    refused: int
    claims: int
    occupied_pct: float
    digest: str
    """Of all placements: the same on every machine."""
    place: Timing
    apply: Timing | None
    """None where nothing was placed, as `release` where nothing left: with very few decisions."""
    release: Timing | None
    first: Timing
    fabric_bytes_per_gpu: float
    usage_bytes_per_gpu: float
    scores_bytes_per_gpu: float
    """Scores of all 32 classes, by the rows in use."""
    resident_bytes_per_gpu: float | None
    """Growth of the process: names, claims and the benchmark's own books with it. None where it cannot be read."""


class _Watch:
    """Collects what each call of one operation took."""

    def __init__(self) -> None:
        self._wall: list[int] = []
        self._cpu: list[int] = []
        self._started = (0, 0)

    def start(self) -> None:
        self._started = time.perf_counter_ns(), time.thread_time_ns()

    def stop(self) -> None:
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        self._wall.append(wall - self._started[0])
        self._cpu.append(cpu - self._started[1])

    def timing(self) -> Timing | None:
        """Return what the calls took, None where there was none."""
        if not self._wall:
            return None
        wall, cpu = (np.array(spent) / 1000 for spent in (self._wall, self._cpu))
        return Timing(
            p50_us=_rounded(np.percentile(wall, 50)),
            p99_us=_rounded(np.percentile(wall, 99)),
            max_us=_rounded(wall.max()),
            cpu_p50_us=_rounded(np.percentile(cpu, 50)),
            cpu_p99_us=_rounded(np.percentile(cpu, 99)),
            cpu_max_us=_rounded(cpu.max()),
        )


class SteadyCluster:
    """A cluster of `nodes` under the default policy, with pods that come and go."""

    def __init__(self, nodes: int, seed: int) -> None:
        self._asks: tuple[Ask, ...] = scale_asks()
        self.fabric, self.usage = pack(Snapshot(nodes=pool_nodes(nodes)))
        self.policy = make_policy(DEFAULT_POLICY, history(self._asks), self.fabric)
        self._rng = np.random.default_rng(seed)
        rates = np.array([ask.rate for ask in self._asks])
        self._probability = rates / rates.sum()
        self._held: list[tuple[ClaimId, float]] = []
        self._digest = hashlib.sha256()
        self._named = 0
        self.target = OCCUPIED * self.fabric.gpu_count
        self.in_use = 0.0
        self.refused = 0
        self.place, self.apply, self.release = _Watch(), _Watch(), _Watch()

    @property
    def digest(self) -> str:
        """Return the digest of all decisions so far."""
        return self._digest.hexdigest()[:16]

    def fill(self) -> None:
        """Let pods come until the first one has to leave."""
        while not self._come_and_go(BATCH, until_full=True):
            pass

    def live(self, decisions: int) -> None:
        """Let so many pods come, and as many GPUs' worth leave; what was timed before is forgotten."""
        self.place, self.apply, self.release = _Watch(), _Watch(), _Watch()
        self.refused = 0
        self._come_and_go(decisions)

    def first_decisions(self) -> _Watch:
        """Time the decision of every class on a copy that has seen none of them."""
        watch = _Watch()
        for ask in self._asks:
            twin = self.usage.copy()
            watch.start()
            decision = place(self.fabric, twin, ask.demand, self.policy)
            watch.stop()
            assert decision == place(self.fabric, self.usage, ask.demand, self.policy), "memory changed a decision"
        return watch

    def _come_and_go(self, count: int, *, until_full: bool = False) -> bool:
        for kind in self._rng.choice(len(self._asks), size=count, p=self._probability).tolist():
            self._come(self._asks[kind])
            if self.in_use > self.target:
                self._leave()
                if until_full:
                    return True
        return False

    def _come(self, ask: Ask) -> None:
        self.place.start()
        decision = place(self.fabric, self.usage, ask.demand, self.policy)
        self.place.stop()
        self._note(decision)
        if decision.placement is None:
            self.refused += 1
            return
        claim = ClaimId(f"pod-{self._named}")
        self._named += 1
        self.apply.start()
        self.usage.apply(claim, ask.demand, decision.placement)
        self.apply.stop()
        self._held.append((claim, ask.gpus))
        self.in_use += ask.gpus

    def _leave(self) -> None:
        while self.in_use > self.target:
            at = int(self._rng.integers(len(self._held)))
            (claim, gpus), self._held[at] = self._held[at], self._held[-1]
            self._held.pop()
            self.in_use -= gpus
            self.release.start()
            self.usage.release(claim)
            self.release.stop()

    def _note(self, decision: Decision) -> None:
        where = decision.placement
        devices = None if where is None else [(part.gpus, part.profile, part.start) for part in where.devices]
        self._digest.update(repr((where and where.node, devices, decision.score)).encode())


def run_scale(nodes: int, *, decisions: int, seed: int = 0) -> ScaleRun:
    """Fill a cluster of `nodes` nodes, let it live, and return how long its last `decisions` decisions took."""
    compile_kernels()
    before = resident_bytes()
    cluster = SteadyCluster(nodes, seed)
    cluster.fill()
    cluster.live(round(WARM_UP * decisions))
    cluster.live(decisions)
    after = resident_bytes()
    gpus = cluster.fabric.gpu_count
    place_time, first_time = cluster.place.timing(), cluster.first_decisions().timing()
    assert place_time is not None, "at least one decision is asked for"
    assert first_time is not None
    return ScaleRun(
        nodes=nodes,
        gpus=gpus,
        seed=seed,
        decisions=decisions,
        refused=cluster.refused,
        claims=len(cluster.usage.claims),
        occupied_pct=round(100 * cluster.in_use / gpus, 3),
        digest=cluster.digest,
        place=place_time,
        apply=cluster.apply.timing(),
        release=cluster.release.timing(),
        first=first_time,
        fabric_bytes_per_gpu=_rounded(_bytes(cluster.fabric.arrays) / gpus),
        usage_bytes_per_gpu=_rounded(_bytes(cluster.usage.arrays) / gpus),
        scores_bytes_per_gpu=_rounded(_score_bytes(cluster) / gpus),
        resident_bytes_per_gpu=None if before is None or after is None else _rounded((after - before) / gpus),
    )


def resident_bytes() -> int | None:
    """Return the memory this process holds, None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth_exponent(nodes: Sequence[int], values: Sequence[float]) -> float | None:
    """Return b of the least-squares fit values ~ nodes^b, None for less than two sizes."""
    if len(set(nodes)) < 2:
        return None
    return round(float(np.polyfit(np.log(nodes), np.log(values), 1)[0]), 3)


def _score_bytes(cluster: SteadyCluster) -> int:
    return _bytes(memory_of(cluster.usage, cluster.policy).cache)


def _bytes(arrays: tuple[Any, ...]) -> int:
    return sum(array.nbytes for array in arrays)


def _rounded(value: float) -> float:
    return round(float(value), 1)
