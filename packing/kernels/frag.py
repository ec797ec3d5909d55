"""Fragmentation as FGD defines it: idle compute that a pod drawn from the typical mix could not use.

Weng et al., "Beware of Fragmentation", USENIX ATC 2023. The published figures depend on the last bit of these sums (a
difference of 1e-13 turns a score of 50 into 49), so the order of additions here is the order of the original: per class
of shortage first, then over the classes. See docs/decisions/0002-exact-replica.md.
"""

from __future__ import annotations

import math

from packing.kernels.arrays import LEFT, Ints, PolicyArrays
from packing.kernels.jit import inner_kernel


@inner_kernel
def node_frag(policy: PolicyArrays, shape: int, cpu_left: int, gpus: int, state: Ints, scratch: Ints) -> float:
    """Return the expected compute (thousandths of a GPU) of the node that is idle and useless to a typical pod.

    `scratch` [2, distinct sizes] spares counting the GPUs again for every typical pod of one size.
    """
    total = 0
    for i in range(gpus):
        total += state[i, LEFT]
    for level in range(policy.fgd_sizes.size):
        fitting = too_small = 0
        for i in range(gpus):
            left = state[i, LEFT]
            if left >= policy.fgd_sizes[level]:
                fitting += 1
            else:
                too_small += left
        scratch[0, level] = fitting
        scratch[1, level] = too_small
    lack_both = lack_gpu = lack_cpu = cpu_only_ok = cpu_only_short = no_access = 0.0
    for m in range(policy.fgd_weight.size):
        weight = policy.fgd_weight[m]
        enough_cpu = cpu_left >= policy.fgd_cpu[m]
        if policy.fgd_count[m] == 0:
            if enough_cpu:
                cpu_only_ok += weight * total
            else:
                cpu_only_short += weight * total
            continue
        if policy.fgd_allowed[m, shape] == 0:
            no_access += weight * total
            continue
        fitting, too_small = scratch[0, policy.fgd_level[m]], scratch[1, policy.fgd_level[m]]
        if fitting >= policy.fgd_count[m]:
            if enough_cpu:
                lack_gpu += weight * too_small
            else:
                lack_cpu += weight * total
        elif enough_cpu:
            lack_gpu += weight * total
        else:
            lack_both += weight * total
    return lack_both + lack_gpu + lack_cpu + cpu_only_ok + cpu_only_short + no_access


@inner_kernel
def gradient_score(before: float, after: float) -> int:
    """Return FGD's score 0..100 of going from fragmentation `before` to `after` (thousandths of a GPU)."""
    return int(1.0 / (1.0 + math.exp(-((before - after) / 1000.0))) * 100.0)


@inner_kernel
def prefer_gradient(
    policy: PolicyArrays,
    shape: int,
    cpu_after: int,
    gpus: int,
    candidates: int,
    asked: int,
    before: float,
    state: Ints,
    scratch: Ints,
) -> tuple[int, int]:
    """Return (GPU, score) of FGD's best GPU for a share of `asked` thousandths; lowest index on ties."""
    chosen = -1
    best = 0
    for i in range(gpus):
        if not candidates >> i & 1:
            continue
        left = state[i, LEFT]
        tried = False
        for j in range(i):
            tried = tried or (bool(candidates >> j & 1) and state[j, LEFT] == left)
        if tried:
            continue
        state[i, LEFT] = left - asked
        score = gradient_score(before, node_frag(policy, shape, cpu_after, gpus, state, scratch))
        state[i, LEFT] = left
        if chosen == -1 or score > best:
            chosen = i
            best = score
    return chosen, best
