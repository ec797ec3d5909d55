"""Bounds on what an evaluation may build, where the API server's costs do not bound it.

cel-go joins lists lazily and charges some functions for their input alone, so a short expression can describe values of
any size. Here they are refused as too costly; for the API server, using them in any way would be.
"""

from __future__ import annotations

from kube.cel.errors import CostExceeded

MAX_LENGTH = 1_000_000
"""Longest text, in characters, and list that is built."""


def affordable(length: int) -> None:
    """Raise CostExceeded for a text or list that is too long to be built."""
    if length > MAX_LENGTH:
        raise CostExceeded(f"a text or list of {length} elements is too long")
