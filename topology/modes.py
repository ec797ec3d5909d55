"""How a GPU may be divided among pods: one word for each, from the planner to the node."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

MPS_LIMITS_SINCE = (7, 0)
"""Compute capability from which on MPS keeps the memory of its clients apart (CUDA MPS guide: Volta)."""


class Sharing(StrEnum):
    """How the shares of one GPU are kept apart; the two are never mixed on one GPU."""

    TIME_SLICING = "time-slicing"
    MPS = "mps"


class MigMode(StrEnum):
    """MIG mode of a GPU: fixed off, fixed on, or switched by the driver as demand asks."""

    DISABLED = "disabled"
    ENABLED = "enabled"
    DYNAMIC = "dynamic"


def ways_to_share(wanted: Sequence[Sharing], compute_capability: str) -> tuple[Sharing, ...]:
    """Return those of `wanted` that keep what they promise on a GPU of this compute capability (empty: unknown)."""
    capability = tuple(map(int, compute_capability.split("."))) if compute_capability else MPS_LIMITS_SINCE
    return tuple(way for way in wanted if way is not Sharing.MPS or capability >= MPS_LIMITS_SINCE)
