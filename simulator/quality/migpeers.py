"""Peers of suites M1 to M3: what others pack MIG GPUs by, each a table over (profile, occupied slices).

A GPU's state is one of 256 masks, so a rule is a score per profile and mask (lowest wins, then the lowest GPU) and the
start it would take there. Random and round robin choose the GPU without a score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.quality.arrivals import Floats, Ints
from simulator.quality.churn import Spot
from simulator.quality.migcluster import PROFILES, slots

NOWHERE = np.inf
MASKS = 256
GPU_SLICES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """score[k, mask]: the lower the better, infinite where k does not fit. start[k, mask]: -1 where it does not fit."""

    score: Floats
    start: Ints


class PeerPartitions:
    """A rule over the masks of `gpus` GPUs."""

    def __init__(self, gpus: int, rule: Rule) -> None:
        self._masks = np.zeros(gpus, dtype=np.int64)
        self._rule = rule
        self._held: dict[int, tuple[int, int]] = {}

    def take(self, job: int, kind: int) -> Spot | None:
        """Place an instance of profile `kind`."""
        gpu = self._choose(self._rule.score[kind][self._masks])
        if gpu is None:
            return None
        mask = int(self._masks[gpu])
        start = int(self._rule.start[kind, mask])
        after = slots().after(mask, kind, start)
        self._masks[gpu] = after
        self._held[job] = (gpu, after ^ mask)
        return gpu, start

    def release(self, job: int) -> None:
        """Give back the slices of a job."""
        gpu, taken = self._held.pop(job)
        self._masks[gpu] ^= taken

    def _choose(self, scores: Floats) -> int | None:
        gpu = int(np.argmin(scores))
        return None if scores[gpu] == NOWHERE else gpu


class RandomGpu(PeerPartitions):
    """Any GPU with room, the start by the rule. Its seed is apart from that of the arrivals."""

    def __init__(self, gpus: int, rule: Rule, seed: int) -> None:
        super().__init__(gpus, rule)
        self._rng = np.random.default_rng((seed, 1))

    def _choose(self, scores: Floats) -> int | None:
        fitting = np.flatnonzero(scores < NOWHERE)
        return int(fitting[self._rng.integers(len(fitting))]) if len(fitting) else None


class RoundRobin(PeerPartitions):
    """The next GPU with room after the one used last."""

    def __init__(self, gpus: int, rule: Rule) -> None:
        super().__init__(gpus, rule)
        self._next = 0

    def _choose(self, scores: Floats) -> int | None:
        fitting = np.flatnonzero(scores < NOWHERE)
        if not len(fitting):
            return None
        after = fitting[fitting >= self._next]
        gpu = int(after[0] if len(after) else fitting[0])
        self._next = gpu + 1
        return gpu


def unusable_slices(shares: Sequence[float]) -> Floats:
    """[256] FGD-MIG's F: expected free slices that the next request, drawn by share, could not use.

    Sum over profiles of share x (free slices - size x the instances that still fit side by side).
    """
    unusable: Floats = np.array(shares) @ (_free() - slots().size[:, None] * slots().room).astype(np.float64)
    return unusable


def overlap_fragmentation() -> Floats:
    """[256] MFI's score, as we read arXiv 2511.18906.

    Per profile small enough for the free slices, its size for every start that something occupied blocks.
    """
    size = slots().size[:, None]
    possible = np.array([len(starts) for starts in slots().starts])[:, None]
    blocked = size * (possible - slots().fits)
    score: Floats = np.where(size <= _free(), blocked, 0).sum(axis=0).astype(np.float64)
    return score


def capability() -> Floats:
    """[256] MCC's score: the placements left over all profiles."""
    left: Floats = slots().fits.sum(axis=0).astype(np.float64)
    return left


def _free() -> Floats:
    free: Floats = GPU_SLICES - np.bitwise_count(np.arange(MASKS)).astype(np.float64)
    return free


def _rule(value: Callable[[int, int], float]) -> Rule:
    """Return the rule that takes the start with the least `value(mask, mask after)`, of equals the lowest."""
    score = np.full((len(PROFILES), MASKS), NOWHERE)
    start = np.full((len(PROFILES), MASKS), -1, dtype=np.int64)
    for kind in range(len(PROFILES)):
        for mask in range(MASKS):
            for s in slots().free_starts(mask, kind):
                cost = value(mask, slots().after(mask, kind, s))
                if cost < score[kind, mask]:
                    score[kind, mask], start[kind, mask] = cost, s
    return Rule(score, start)


def _with_gpu_score(rule: Rule, score: Floats) -> Rule:
    """Return `rule` for the start, and `score` [256] of the GPU before the request for the choice between GPUs."""
    return Rule(np.where(rule.start >= 0, score[None, :], NOWHERE), rule.start)


def _after_gpu_score(rule: Rule, score: Floats) -> Rule:
    """Return the rule that goes by `score` [256] of the GPU before the request and, among equals, by `rule`.

    `score` is whole and those of `rule` are less than `MASKS` in size.
    """
    return Rule(2 * MASKS * score[None, :] + rule.score, rule.start)


def _low_start() -> Rule:
    return _with_gpu_score(_rule(lambda _before, _after: 0.0), np.zeros(MASKS))


def _best_start() -> Rule:
    left = capability()
    return _rule(lambda _before, after: -float(left[after]))


def _increase(table: Floats) -> Rule:
    # Rounded, so that sums taken in another order still tie.
    return _rule(lambda before, after: round(float(table[after] - table[before]), 9))


MigPeer = Callable[[int, Sequence[float], int], PeerPartitions]

MIG_PEERS: dict[str, MigPeer] = {
    "random": lambda gpus, _shares, seed: RandomGpu(gpus, _low_start(), seed),
    "round-robin": lambda gpus, _shares, _seed: RoundRobin(gpus, _low_start()),
    "worst-fit": lambda gpus, _shares, _seed: PeerPartitions(gpus, _after_gpu_score(_best_start(), -_free())),
    "first-fit": lambda gpus, _shares, _seed: PeerPartitions(gpus, _low_start()),
    "best-fit": lambda gpus, _shares, _seed: PeerPartitions(gpus, _after_gpu_score(_best_start(), _free())),
    "mcc": lambda gpus, _shares, _seed: PeerPartitions(gpus, _increase(-capability())),
    "mfi": lambda gpus, _shares, _seed: PeerPartitions(gpus, _increase(overlap_fragmentation())),
    "fgd-mig": lambda gpus, shares, _seed: PeerPartitions(gpus, _increase(unusable_slices(shares))),
}
"""By name: a new allocator for a number of GPUs, the mix (only FGD-MIG looks at it) and a seed."""

SPREADING = ("random", "round-robin", "worst-fit")
"""Peers that use every GPU they are given: counting their GPUs says nothing."""
