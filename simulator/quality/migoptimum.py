"""The best any allocator could do with all requests known: an integer program over maximal ways to cut a GPU.

A GPU cut to one of the maximal profile counts (38 for six profiles of an A100) can serve any smaller counts too, so
x[v] GPUs of each way and y[k] served requests describe every solution. No peer and no policy can beat it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from simulator.quality.arrivals import Floats, Ints
from simulator.quality.migcluster import COMPUTE, PROFILES, geometry
from topology.mig import maximal_configurations


@cache
def maximal_counts() -> Ints:
    """[38, 6] the profile counts of GPUs to which no instance can be added.

    Some are exceeded by others whose instances lie better; they change no optimum.
    """
    profiles = [geometry().profile(name) for name in PROFILES]
    names = [profile.name for profile in profiles]
    found = {
        tuple(sum(profile == name for profile, _ in cut) for name in names)
        for cut in maximal_configurations(geometry(), profiles)
    }
    counts = np.array(sorted(found), dtype=np.int64)
    counts.setflags(write=False)
    return counts


def most_compute(kinds: Ints, gpus: int) -> int:
    """Return the most compute slices that `gpus` GPUs can serve of the requests."""
    ways, wanted = maximal_counts(), _wanted(kinds)
    columns = len(ways)
    cost = np.concatenate([np.zeros(columns), -np.array(COMPUTE, dtype=np.float64)])
    served_fits = LinearConstraint(np.hstack([-ways.T, np.eye(len(PROFILES))]), -np.inf, 0)
    gpus_fit = LinearConstraint(np.concatenate([np.ones(columns), np.zeros(len(PROFILES))])[None, :], 0, gpus)
    upper = np.concatenate([np.full(columns, gpus), wanted])
    return -_solve(cost, [served_fits, gpus_fit], upper)


def fewest_gpus(kinds: Ints) -> int:
    """Return the fewest GPUs that can serve all requests."""
    ways, wanted = maximal_counts(), _wanted(kinds)
    all_served = LinearConstraint(ways.T, wanted, np.inf)
    return _solve(np.ones(len(ways)), [all_served], np.full(len(ways), float(len(kinds))))


def _wanted(kinds: Ints) -> Floats:
    return np.bincount(kinds, minlength=len(PROFILES)).astype(np.float64)


def _solve(cost: Floats, constraints: list[LinearConstraint], upper: Floats) -> int:
    """Return the optimum of an integer program whose value is whole."""
    found = milp(cost, constraints=constraints, integrality=np.ones(len(cost)), bounds=Bounds(0, upper))
    assert found.success, found.message
    return round(float(found.fun))
