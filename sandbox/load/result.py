"""What a load measured. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """When the pods of one load became free to be scheduled, and when they were bound."""

    scheduler: str
    free_s: tuple[float, ...]
    """Per pod: when the request that removed its gate, or created it, was sent. Seconds of the Unix clock."""
    bound_s: tuple[float, ...]
    """Per pod: when its binding was seen (`sandbox.load.bound`)."""
    lateness_s: float | None
    """How late the watch was at least, and by how much a time was corrected. None: not known, the pods were gone."""
    breaks: int = 0
    """How often the watch had to be opened anew."""
    doubled: tuple[str, ...] = ()
    """Devices that ended in more than one claim, and must not."""

    @property
    def pods(self) -> int:
        """Number of pods, all of them bound."""
        return len(self.bound_s)

    @property
    def release_s(self) -> float:
        """From the first pod that was free to the last."""
        return max(self.free_s) - min(self.free_s)

    @property
    def first_bound_s(self) -> float:
        """From the first pod that was free to the first that was bound."""
        return min(self.bound_s) - min(self.free_s)

    @property
    def last_bound_s(self) -> float:
        """From the first pod that was free to the last that was bound."""
        return max(self.bound_s) - min(self.free_s)

    @property
    def pods_per_s(self) -> float:
        """All pods over `last_bound_s`: the whole of it, releasing included."""
        return self.pods / self.last_bound_s

    def wait_s(self, share: float) -> float:
        """Return the time from free to bound that so large a part of the pods did not exceed."""
        return percentile([bound - free for free, bound in zip(self.free_s, self.bound_s, strict=True)], share)

    def as_dict(self) -> dict[str, float | str | None]:
        """Return the figures, for a report."""
        return {
            "scheduler": self.scheduler,
            "pods": self.pods,
            "pods_per_s": round(self.pods_per_s, 1),
            "release_s": round(self.release_s, 3),
            "first_bound_s": round(self.first_bound_s, 3),
            "last_bound_s": round(self.last_bound_s, 3),
            "wait_p50_s": round(self.wait_s(0.5), 3),
            "wait_p99_s": round(self.wait_s(0.99), 3),
            "lateness_s": None if self.lateness_s is None else round(self.lateness_s, 3),
            "breaks": self.breaks,
            "doubled": len(self.doubled),
        }


def median_rate(results: Sequence[LoadResult]) -> float:
    """Return the median of the loads' pods per second."""
    return statistics.median(result.pods_per_s for result in results)
