"""A whole replay in compiled code: the loop of `simulator.engine.replay` with `place()` and `Usage` inlined.

The same `decide` and `commit` as everywhere; `simulator.engine` and `simulator.queueing` are the plain reference, and a
test proves that both start every job at the same time.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from packing.kernels.amounts import choice_milli
from packing.kernels.arrays import (
    NONE,
    UNDECIDED,
    Cache,
    Choice,
    DemandArrays,
    FabricArrays,
    Floats,
    Ints,
    PolicyArrays,
    UsageArrays,
)
from packing.kernels.commit import commit
from packing.kernels.decide import decide
from packing.kernels.evaluate import evaluate
from packing.kernels.jit import hot_kernel, kernel


class Jobs(NamedTuple):
    """What comes, in order of submission. A replay's class k is class `classes[k]` of the usage."""

    submit_s: Floats  # [J] rising
    duration_s: Floats  # [J]
    kind: Ints  # [J] class of the replay, NONE for a job that never fits and is set aside
    classes: Ints  # [K]
    harder: Ints  # [K, K] 1 where k refused means that the other is refused too, until something is released
    strict: bool  # nobody overtakes: one refused blocks all until something is released


class Trail(NamedTuple):
    """What a replay leaves. Written by the kernel; what is not written keeps the value it has."""

    start_s: Floats  # [J]
    node: Ints  # [J]
    taken_milli: Ints  # [J]
    gpus: Ints  # [J, U] bit mask per unit
    profile: Ints  # [J, U]
    first: Ints  # [J, U] first memory slice
    times_s: Floats  # [2 J + 1] instants
    allocated_milli: Ints  # [2 J + 1]
    queued: Ints  # [2 J + 1]


class Queue(NamedTuple):
    """Jobs that wait: a linked list per class, oldest first."""

    head: Ints  # [K] oldest job or NONE
    tail: Ints  # [K]
    next: Ints  # [J] the job behind
    refused: Ints  # [K] 1 where the class is known not to fit until something is released
    only: Ints  # [K] the one node where the class can fit, NONE where that is not known


@kernel
def push(queue: Queue, job: int, k: int) -> None:
    """Put a job at the end of its class."""
    if queue.head[k] == NONE:
        queue.head[k] = job
    else:
        queue.next[queue.tail[k]] = job
    queue.tail[k] = job
    queue.next[job] = NONE


@kernel
def oldest(queue: Queue) -> int:
    """Return the class of the oldest job that may fit, or NONE."""
    found = NONE
    for k in range(queue.head.size):
        if queue.head[k] != NONE and queue.refused[k] == 0 and (found == NONE or queue.head[k] < queue.head[found]):
            found = k
    return found


@hot_kernel
def start(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    jobs: Jobs,
    k: int,
    now_s: float,
    cache: Cache,
    local: Ints,
    choice: Choice,
    queue: Queue,
    out: Trail,
) -> bool:
    """Start the oldest job of class `k` where `decide` says; False, and the class is refused, where it does not fit."""
    c, job, node = jobs.classes[k], queue.head[k], queue.only[k]
    if node == NONE:
        node = decide(fabric, usage, policy, demands, c, k, cache, local, choice)
    elif evaluate(fabric, usage, policy, demands, c, node, cache, local, choice) <= UNDECIDED:
        node = NONE
    if node == NONE:
        for other in range(queue.refused.size):
            queue.refused[other] |= jobs.harder[k, other]
        return False
    commit(fabric, usage, demands, c, node, choice, 1)
    out.start_s[job] = now_s
    out.node[job] = node
    out.taken_milli[job] = choice_milli(fabric, demands, c, node, choice)
    for u in range(out.gpus.shape[1]):
        out.gpus[job, u] = choice.gpus[u]
        out.profile[job, u] = choice.profile[u]
        out.first[job, u] = choice.start[u]
    queue.head[k] = queue.next[job]
    return True


@hot_kernel
def depart(
    fabric: FabricArrays, usage: UsageArrays, demands: DemandArrays, jobs: Jobs, job: int, queue: Queue, out: Trail
) -> None:
    """Take back what a job holds, and let those be tried again that may fit now."""
    held = Choice(out.gpus[job], out.profile[job], out.first[job])
    commit(fabric, usage, demands, jobs.classes[jobs.kind[job]], out.node[job], held, -1)
    for k in range(queue.refused.size):
        if jobs.strict:
            queue.refused[k] = 0
        elif queue.refused[k]:
            # Nowhere else is there more than when it was refused.
            queue.refused[k] = 0
            queue.only[k] = out.node[job]
        elif queue.only[k] != out.node[job]:
            queue.only[k] = NONE


@kernel
def replay_all(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    jobs: Jobs,
    horizon_s: float,
    cache: Cache,
    local: Ints,
    choice: Choice,
    queue: Queue,
    out: Trail,
) -> tuple[int, int]:
    """Replay up to and including `horizon_s`; return how many jobs arrived and how many instants were recorded.

    At one instant departures come first, in order of start; then arrivals; then the oldest jobs start that fit.
    """
    departures = [(np.inf, 0, 0)]
    arrived = instants = started = allocated = waiting = 0
    while True:
        now_s = departures[0][0]
        if arrived < jobs.submit_s.size:
            now_s = min(now_s, jobs.submit_s[arrived])
        if now_s > horizon_s or now_s == np.inf:
            return arrived, instants
        while departures[0][0] <= now_s:
            _, _, job = heapq.heappop(departures)
            depart(fabric, usage, demands, jobs, job, queue, out)
            allocated -= out.taken_milli[job]
        while arrived < jobs.submit_s.size and jobs.submit_s[arrived] <= now_s:
            if jobs.kind[arrived] != NONE:
                push(queue, arrived, jobs.kind[arrived])
                waiting += 1
            arrived += 1
        k = oldest(queue)
        while k != NONE:
            job = queue.head[k]
            if start(fabric, usage, policy, demands, jobs, k, now_s, cache, local, choice, queue, out):
                heapq.heappush(departures, (now_s + jobs.duration_s[job], started, job))
                allocated += out.taken_milli[job]
                started += 1
                waiting -= 1
            k = oldest(queue)
        # A job of no length leaves at the instant it starts, which then is one instant, not two.
        if instants == 0 or out.times_s[instants - 1] != now_s:
            instants += 1
        out.times_s[instants - 1] = now_s
        out.allocated_milli[instants - 1] = allocated
        out.queued[instants - 1] = waiting
