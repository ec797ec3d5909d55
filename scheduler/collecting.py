"""When Python looks for garbage: seldom while the picture of the cluster grows, never again in what is there then."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

STARTING = (200_000, 20, 20)
"""Thresholds at start (`gc.set_threshold`): almost all that is made then stays, and each collection looks at it all."""


@contextmanager
def seldom() -> Iterator[None]:
    """Collect seldom for the length of a `with`; at its end once, and what is there then counts as permanent."""
    before = gc.get_threshold()
    gc.set_threshold(*STARTING)
    try:
        yield
        gc.collect()
        gc.freeze()
    finally:
        gc.set_threshold(*before)
