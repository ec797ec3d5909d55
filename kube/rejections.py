"""Asks that did not fit, remembered until something is freed: what was taken since then cannot have made room.

kube-scheduler tries all waiting pods again at every event; most of them ask for the same few things.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MOST = 4096
"""Distinct asks remembered; those not asked for longest are forgotten."""
MOST_SUBSETS = 16
"""Sets of nodes remembered of one ask."""

T = TypeVar("T")


@dataclass(slots=True)
class _Rejected(Generic[T]):
    everywhere: T | None = None
    among: dict[frozenset[str], T] = field(default_factory=dict)


class Rejections(Generic[T]):
    """Answers by signature of the ask, for all nodes and for some."""

    def __init__(self) -> None:
        self._of: OrderedDict[object, _Rejected[T]] = OrderedDict()

    def clear(self) -> None:
        """Forget all: something was freed, or the cluster is another."""
        self._of.clear()

    def find(self, signature: object, among: Collection[str] | None) -> T | None:
        """Return the answer to an ask that is known not to fit on any of these nodes (None: on none at all)."""
        if signature is None:
            return None
        known = self._of.get(signature)
        if known is None:
            return None
        self._of.move_to_end(signature)
        if known.everywhere is not None or among is None:
            return known.everywhere
        return known.among.get(frozenset(among)) if known.among else None

    def keep(self, signature: object, among: Collection[str] | None, answer: T) -> None:
        """Remember that an ask does not fit on these nodes (None: on none at all)."""
        if signature is None:
            return
        known = self._of.setdefault(signature, _Rejected())
        self._of.move_to_end(signature)
        if among is None:
            known.everywhere = answer
        else:
            known.among[frozenset(among)] = answer
            if len(known.among) > MOST_SUBSETS:
                del known.among[next(iter(known.among))]
        if len(self._of) > MOST:
            self._of.popitem(last=False)
