"""What a set of free GPUs is worth and which of its sets to take, by trying all. Slow truth for `packing.linktable`.

For machines of at most eight GPUs; the number of packings grows too fast beyond.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import combinations

from packing.model import LinkWish
from packing.reference_state import bits
from topology.quality import SetQuality, flat_quality

MILLION = 1_000_000
SIZE_WEIGHTS = {1: 590_449, 2: 231_950, 4: 131_211, 8: 46_390}
"""Job sizes whose future room counts, and their weight in ppm."""
LINK_BONUS = 4_000_000_000
"""Nano-GPU per GPU that `prefer` gives up for full link quality."""


class Links:
    """The sets of one machine. Sets are bit masks, worths nano-GPU."""

    def __init__(self, quality: SetQuality) -> None:
        """Look at a machine of up to eight GPUs."""
        assert quality.gpu_count <= 8, "trying all packings is for small machines"
        self.n = quality.gpu_count
        self.mbps: list[int] = quality.quality_mbps.tolist()
        self.locality: list[int] = quality.locality.tolist()
        full = (1 << self.n) - 1
        self.ideal = [max(self.mbps[chosen] for chosen in subsets(full, k)) for k in range(self.n + 1)]
        self.packed = cache(self._packed)
        self.value = cache(self._value)
        self.take = cache(self._take)

    def excess(self, mask: int) -> int:
        """Return how much more the free set is worth than one of its size on a machine without known links."""
        return int(self.value(mask)) - int(links_of(flat_quality(self.n)).value((1 << mask.bit_count()) - 1))

    def _ratio(self, chosen: int) -> int:
        """Quality over the best of that size on the whole machine, ppm."""
        ideal = self.ideal[chosen.bit_count()]
        return self.mbps[chosen] * MILLION // ideal if ideal else MILLION

    def _set_worth(self, chosen: int) -> int:
        """Return a twentieth for being a set and the rest by its links; one GPU has none to care for."""
        return MILLION if chosen.bit_count() == 1 else 50_000 + 950_000 * self._ratio(chosen) // MILLION

    def _packed(self, k: int, mask: int) -> int:
        """Return the largest total worth of disjoint k-sets inside `mask`."""
        return max((self._set_worth(s) + self.packed(k, mask ^ s) for s in subsets(mask, k)), default=0)

    def _value(self, mask: int) -> int:
        """Return U: room for jobs of every size, weighted."""
        total = sum(weight * k * self.packed(k, mask) for k, weight in SIZE_WEIGHTS.items() if k <= self.n)
        return total // 1000

    def _take(self, free: int, k: int, wish: LinkWish) -> int:
        """Return the k GPUs of `free` to take: by links and what is left, what is left, or quality first; 0 = none."""

        def goodness(chosen: int) -> tuple[int, int, int, tuple[int, ...]]:
            kept = int(self.value(free ^ chosen))
            lowest_first = tuple(-i for i in bits(chosen))
            if wish is LinkWish.REQUIRE:
                return self.mbps[chosen], kept, self.locality[chosen], lowest_first
            bonus = LINK_BONUS // MILLION * k * self._ratio(chosen) if wish is LinkWish.PREFER else 0
            return 0, bonus + kept, self.locality[chosen], lowest_first

        return max(subsets(free, k), key=goodness, default=0)


@lru_cache(maxsize=64)
def links_of(quality: SetQuality) -> Links:
    """Return the sets of one machine, once."""
    return Links(quality)


def subsets(mask: int, k: int) -> Iterator[int]:
    """Every set of k GPUs of `mask`."""
    return (sum(1 << i for i in chosen) for chosen in combinations(bits(mask), k))
