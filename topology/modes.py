"""How a GPU may be divided among pods: one word for each, from the planner to the node."""

from __future__ import annotations

from enum import StrEnum


class Sharing(StrEnum):
    """How the shares of one GPU are kept apart; the two are never mixed on one GPU."""

    TIME_SLICING = "time-slicing"
    MPS = "mps"


class MigMode(StrEnum):
    """MIG mode of a GPU: fixed off, fixed on, or switched by the driver as demand asks."""

    DISABLED = "disabled"
    ENABLED = "enabled"
    DYNAMIC = "dynamic"
