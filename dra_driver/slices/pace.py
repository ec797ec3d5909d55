"""How often the API server is written to, and how long to wait after a fault."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kube.errors import ClusterError, ConflictError, NotFoundError, UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """Times in seconds."""

    burst: int = 32
    """Writes without a pause, after a while without any: a node of 16 GPUs has 12 slices."""
    write_s: float = 1.0
    """In the long run there is one write in that time."""
    foreign_s: float = 10.0
    """After so long what others changed is put right; two that want different things do not fight faster."""
    conflict_s: float = 0.05
    """First pause after someone else wrote at the same time; doubled each time."""
    first_fault_s: float = 0.5
    most_s: float = 30.0
    hopeless_s: float = 600.0
    """After so long what the API server refuses is tried again."""


class Budget:
    """A bucket of writes that fills again with time. It may be overdrawn: a change that was begun is finished."""

    def __init__(self, pacing: Pacing, clock: Callable[[], float]) -> None:
        self._pacing = pacing
        self._clock = clock
        self._left = float(pacing.burst)
        self._at_s = clock()

    def spend(self) -> None:
        """Take a write out."""
        self._fill()
        self._left -= 1

    def wait_s(self) -> float:
        """Return how long to wait until there is one."""
        self._fill()
        return max(0.0, (1 - self._left) * self._pacing.write_s)

    def _fill(self) -> None:
        now = self._clock()
        gained = (now - self._at_s) / self._pacing.write_s
        self._left = min(self._pacing.burst, self._left + gained)
        self._at_s = now


class Patience:
    """How long to wait after a fault: longer each time, at least what the API server wishes."""

    def __init__(self, pacing: Pacing, draw: random.Random) -> None:
        self._pacing = pacing
        self._draw = draw
        self._in_a_row = 0

    def calm(self) -> None:
        """All went well."""
        self._in_a_row = 0

    def after_s(self, fault: ClusterError) -> float:
        """Return how long to wait after `fault`."""
        soon = isinstance(fault, ConflictError | NotFoundError)
        first_s = self._pacing.conflict_s if soon else self._pacing.first_fault_s
        doubled: float = first_s * 2 ** min(self._in_a_row, 30)
        self._in_a_row += 1
        half_s = min(doubled, self._pacing.most_s) / 2
        wish_s = fault.retry_after_s if isinstance(fault, UnavailableError) else None
        return min(max(wish_s or 0.0, half_s), self._pacing.most_s) + self._draw.uniform(0, half_s)
