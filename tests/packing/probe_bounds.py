"""Run by test_modes.py in a process of its own: reads past the end of an array in a hot and an inner kernel."""

from __future__ import annotations

import numpy as np

from packing.kernels.jit import _CACHE_DIR, hot_kernel, inner_kernel


@inner_kernel
def inner(values, at):
    return values[at]


@hot_kernel
def through_inner(values, at):
    return inner(values, at)


@hot_kernel
def hot(values, at):
    values[at] = 0
    return values[at]


if __name__ == "__main__":
    caught = []
    for probe in (hot, through_inner):
        try:
            probe(np.zeros(3, dtype=np.int64), 3)
        except IndexError:
            caught.append(getattr(probe, "__name__", "?"))
    assert caught == ["hot", "through_inner"], caught
    print("plain" if type(hot).__name__ == "function" else "compiled", _CACHE_DIR)  # noqa: T201 - the answer
