"""What the watch says of our slices: whether somebody else has touched them. No more is kept of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from kube.kinds import SLICES, Kind
from kube.objects_base import Metadata, Part

OWN_KEPT = 256
"""Own writes that are told from those of others; an older one costs a look that finds nothing to do."""


class SliceHead(Part, frozen=True, kw_only=True):
    """A slice, of which the metadata is enough: before anything is written all slices are read anew."""

    metadata: Metadata


SLICE_HEADS = Kind(
    name=SLICES.name, plural=SLICES.plural, type=SliceHead, group=SLICES.group, namespaced=SLICES.namespaced
)


class Seen:
    """The sink of the watch. Tells when a slice is `gone` that we have not deleted, and when one is `touched`."""

    def __init__(self, *, gone: Callable[[], None], touched: Callable[[], None], listed: Callable[[], None]) -> None:
        self._gone, self._touched, self._listed = gone, touched, listed
        self._own: deque[str] = deque(maxlen=OWN_KEPT)
        self._deleted: deque[str] = deque(maxlen=OWN_KEPT)

    def wrote(self, resource_version: str) -> None:
        """Know a write for our own."""
        self._own.append(resource_version)

    def deleted(self, uid: str) -> None:
        """Know a deletion for our own."""
        self._deleted.append(uid)

    def keep(self, _kind: Kind[Any], objects: Sequence[SliceHead]) -> Sequence[SliceHead]:
        """Keep all: they are small."""
        return objects

    def replace(self, _kind: Kind[Any], _objects: Sequence[SliceHead]) -> None:
        """Have a look: something may have been missed."""
        self._listed()

    def put(self, _kind: Kind[Any], found: SliceHead) -> None:
        """Take a slice that is new or another."""
        if found.metadata.resource_version not in self._own:
            self._touched()

    def remove(self, _kind: Kind[Any], found: SliceHead) -> None:
        """Take leave of a slice."""
        if found.metadata.uid not in self._deleted:
            self._gone()
