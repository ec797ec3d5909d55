"""The policy's score of devices that were chosen elsewhere, as `place()` would score them had it chosen them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from packing.fabric import Fabric
from packing.kernels.arrays import INFEASIBLE, NONE, Ints
from packing.kernels.jit import direct
from packing.kernels.judge import judge_choices
from packing.memory import memory_of
from packing.model import MAX_REQUESTS_PER_POD
from packing.policy import Policy
from packing.usage import Held, Usage

_judge_choices = direct(judge_choices)

UNFIT = INFEASIBLE
"""The score of devices that are not free, not linked as required, or on a node without the cores or memory."""


def judge(fabric: Fabric, usage: Usage, policy: Policy, choices: Sequence[Held]) -> Ints:
    """[K] scores under `policy` of giving each choice its devices, `UNFIT` where they cannot be given.

    Comparable with `Decision.score` of the same demand. Devices need not be those that the selector of the demand
    admits: who chose them has seen to that.
    """
    assert usage.fabric is fabric, "usage and fabric belong together"
    assert policy.fabric is fabric, "the policy was made for another fabric"
    at = np.array([(held.demand_class, held.node) for held in choices], dtype=np.int64).reshape(-1, 2)
    units = np.full((len(choices), 3, MAX_REQUESTS_PER_POD), NONE, dtype=np.int64)
    for k, held in enumerate(choices):
        units[k, :, : len(held.gpus)] = (held.gpus, held.profiles, held.starts)
    memory = memory_of(usage, policy)
    scores = np.full(len(choices), UNFIT, dtype=np.int64)
    _judge_choices(
        fabric.arrays,
        usage.arrays,
        policy.arrays,
        usage.classes.arrays,
        at,
        units,
        memory.cache,
        memory.local,
        memory.choice,
        scores,
    )
    return scores
