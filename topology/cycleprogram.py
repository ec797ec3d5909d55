"""Cycle packing as an integer program: the exact answer where the quick search of `topology.cycles` gives up."""

from __future__ import annotations

import numpy as np


def pack_by_integer_program(counts: tuple[int, ...], cycles: tuple[tuple[int, ...], ...]) -> int:
    """Return how many of `cycles` (repeats allowed) fit if pair p serves at most `counts[p]`; solved to optimality."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    uses = np.zeros((len(counts), len(cycles)))
    for at, cycle in enumerate(cycles):
        uses[list(cycle), at] = 1
    result = milp(
        -np.ones(len(cycles)),
        constraints=LinearConstraint(uses, ub=np.array(counts, dtype=float)),
        bounds=Bounds(0, max(counts)),
        integrality=np.ones(len(cycles)),
        options={"mip_rel_gap": 0},
    )
    # Zero is always feasible and the program is bounded, so anything but an optimum is a fault of the solver.
    assert result.status == 0, result.message
    most: int = round(-result.fun)
    return most
