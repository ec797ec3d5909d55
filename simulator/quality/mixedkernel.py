"""A whole run of suite X1 in compiled code: the loop of `churn` with `place()` and `Usage` inlined.

The same `decide` and `commit` as everywhere; `churn` on a `ProductPool` is the plain reference, and a test proves that
both place every job alike.
"""

from __future__ import annotations

from packing.kernels.arrays import (
    NONE,
    Cache,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
    PolicyArrays,
    UsageArrays,
)
from packing.kernels.commit import commit
from packing.kernels.decide import decide
from packing.kernels.jit import hot_kernel


@hot_kernel
def churn_all(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    classes: Ints,
    kind: Ints,
    events: Ints,
    cache: Cache,
    local: Ints,
    choice: Choice,
    out_node: Ints,
    out_devices: Choice,
) -> None:
    """Go through `events` in order: j is the arrival of job j, -1 - j its departure if it was placed.

    Job j asks for class `classes[kind[j]]`, of one request. `out_node` [J] is the node or NONE where refused, and
    `out_devices` [J] its devices.
    """
    for event in events:
        if event >= 0:
            row = kind[event]
            c = classes[row]
            node = decide(fabric, usage, policy, demands, c, row, cache, local, choice)
            out_node[event] = node
            if node == NONE:
                continue
            commit(fabric, usage, demands, c, node, choice, 1)
            out_devices.gpus[event] = choice.gpus[0]
            out_devices.profile[event] = choice.profile[0]
            out_devices.start[event] = choice.start[0]
        else:
            job = -1 - event
            if out_node[job] != NONE:
                choice.gpus[0] = out_devices.gpus[job]
                choice.profile[0] = out_devices.profile[job]
                choice.start[0] = out_devices.start[job]
                commit(fabric, usage, demands, classes[kind[job]], out_node[job], choice, -1)
