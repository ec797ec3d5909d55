"""What the remainder of a GPU is worth, from the demand mix: shadow prices of the one-dimensional packing problem.

Gilmore and Gomory's cutting-stock problem (1961): one GPU of 1000 thousandths is filled with fractional pods by integer
patterns, or given to a whole-GPU pod; served demand is maximised. The dual price of a size says how much served demand
one more place of that size is worth, and a remainder is worth its best fill at those prices.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

GPU = 1000
MAX_PATTERNS = 400
"""Column generation ends far earlier; the bound keeps a degenerate mix from running on."""
TOLERANCE = 1e-9


def remainder_values(fractions: Mapping[int, float], whole: float, loads: Mapping[float, float]) -> NDArray[np.float64]:
    """[1001] value in GPUs of a remainder of r thousandths.

    `fractions` maps a size (1 to 999 thousandths) to how many pods ask for it, `whole` is the GPUs asked for by
    whole-GPU pods; only proportions matter. `loads` maps demand / capacity to the weight of the prices at that load.
    """
    sizes = sorted(size for size, count in fractions.items() if count > 0)
    if not sizes:
        return np.zeros(GPU + 1)
    total = sum(size * fractions[size] for size in sizes) / GPU + whole
    prices = np.zeros(len(sizes))
    for load, weight in loads.items():
        amounts = np.array([fractions[size] for size in sizes]) * load / total
        prices += weight * size_prices(sizes, amounts, whole * load / total)
    return best_fill(sizes, prices)[0]


def best_fill(sizes: list[int], prices: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[1001] most value that fits r thousandths (unbounded knapsack), and the last size used (index, -1 = none)."""
    value = np.zeros(GPU + 1)
    last = np.full(GPU + 1, -1, dtype=np.int64)
    lengths = np.array(sizes, dtype=np.int64)
    for r in range(1, GPU + 1):
        value[r] = value[r - 1]
        fitting = int(np.searchsorted(lengths, r, side="right"))
        if fitting:
            filled = value[r - lengths[:fitting]] + prices[:fitting]
            best = int(np.argmax(filled))
            if filled[best] > value[r] + TOLERANCE:
                value[r] = filled[best]
                last[r] = best
    return value, last


def size_prices(sizes: list[int], amounts: NDArray[np.float64], whole: float) -> NDArray[np.float64]:
    """Dual price in GPUs of one place of each size, per GPU of capacity; `amounts` are pods per GPU of capacity."""
    patterns = [np.eye(len(sizes))[at] * (GPU // size) for at, size in enumerate(sizes)]
    while True:
        prices, gpu_price = _duals(sizes, amounts, whole, patterns)
        value, last = best_fill(sizes, prices)
        if value[GPU] <= gpu_price + 1e-7 or len(patterns) >= MAX_PATTERNS:
            return prices
        patterns.append(_pattern(sizes, last))


def _pattern(sizes: list[int], last: NDArray[np.int64]) -> NDArray[np.float64]:
    """Read the best fill of a whole GPU back from the knapsack."""
    counts = np.zeros(len(sizes))
    r = GPU
    while r > 0:
        at = int(last[r])
        if at < 0:
            r -= 1
        else:
            counts[at] += 1
            r -= sizes[at]
    return counts


def _duals(
    sizes: list[int], amounts: NDArray[np.float64], whole: float, patterns: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], float]:
    """Return (price of a place of each size, price of a GPU) with the patterns so far."""
    kinds, columns = len(sizes), len(patterns)
    # Variables: served pods per size, GPUs given to whole pods, GPUs cut by each pattern.
    gain = np.concatenate([np.array(sizes) / GPU, [1.0], np.zeros(columns)])
    served = np.hstack([np.eye(kinds), np.zeros((kinds, 1)), -np.array(patterns).T])
    capacity = np.concatenate([np.zeros(kinds), [1.0], np.ones(columns)])
    limits = [(0.0, float(amount)) for amount in amounts] + [(0.0, whole)] + [(0.0, None)] * columns
    solved = linprog(
        -gain,
        A_ub=np.vstack([served, capacity]),
        b_ub=np.concatenate([np.zeros(kinds), [1.0]]),
        bounds=limits,
        method="highs",
    )
    assert solved.status == 0, solved.message
    duals = -np.asarray(solved.ineqlin.marginals)
    return duals[:kinds], float(duals[kinds])
