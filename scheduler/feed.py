"""Where watch events go: claims and pods to the view, which drops older ones; all others to the cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kube.client import ApiClient
from kube.kinds import CLAIMS, CLASSES, NAMESPACES, NODES, PODS, SLICES, TAINT_RULES, Kind
from kube.objects import Pod, ResourceClaim
from kube.reflector import Reflector
from scheduler.view import View

log = logging.getLogger(__name__)

WATCHED: tuple[Kind[Any], ...] = (NODES, NAMESPACES, CLASSES, TAINT_RULES, SLICES, CLAIMS, PODS)


class Cluster(Protocol):
    """The part of `kube.cluster.Cluster` that takes events."""

    def keep(self, kind: Kind[Any], objects: Sequence[Any]) -> Sequence[Any]:
        """Return what to keep of a page of objects for `replace`."""
        ...

    def replace(self, kind: Kind[Any], objects: Sequence[Any]) -> None:
        """Take `objects` for all of a kind."""
        ...

    def put(self, new: object) -> None:
        """Take an object that is new or has changed."""
        ...

    def remove(self, gone: object) -> None:
        """Take a deletion."""
        ...


class Feed:
    """The sink of all reflectors. Tells `on_inventory` that slices, taint rules or classes changed, after the fact."""

    def __init__(self, cluster: Cluster, view: View) -> None:
        self._cluster = cluster
        self._view = view
        self.on_inventory: Callable[[], None] = lambda: None

    def keep(self, kind: Kind[Any], objects: Sequence[Any]) -> Sequence[Any]:
        """Return what to keep of a page of a list."""
        return self._cluster.keep(kind, objects)

    def replace(self, kind: Kind[Any], objects: Sequence[Any]) -> None:
        """Take a whole list."""
        if kind.type is ResourceClaim:
            self._view.replace_claims(objects)
        elif kind.type is Pod:
            self._view.replace_pods(objects)
        else:
            self._cluster.replace(kind, objects)
            self._tell(kind)

    def put(self, kind: Kind[Any], found: Any) -> None:  # noqa: ANN401 - an object of the kind
        """Take an object that is new or has changed."""
        if kind.type is ResourceClaim:
            self._view.put_claim(found)
        elif kind.type is Pod:
            self._view.put_pod(found)
        else:
            self._cluster.put(found)
            self._tell(kind)

    def remove(self, kind: Kind[Any], found: Any) -> None:  # noqa: ANN401
        """Take a deletion."""
        if kind.type is ResourceClaim:
            self._view.remove_claim(found)
        elif kind.type is Pod:
            self._view.remove_pod(found)
        else:
            self._cluster.remove(found)
            self._tell(kind)

    def _tell(self, kind: Kind[Any]) -> None:
        if kind in {SLICES, TAINT_RULES, CLASSES}:
            self.on_inventory()


class Watches:
    """The reflectors of one client, and how they fare."""

    def __init__(self, client: ApiClient, sink: Feed, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.reflectors = tuple(Reflector(client, kind, sink, clock=clock) for kind in WATCHED)
        self._clock = clock

    async def synced(self) -> None:
        """Wait until the sink has had all objects of all kinds."""
        for reflector in self.reflectors:
            await reflector.synced.wait()

    def missing(self) -> list[str]:
        """Return the kinds not listed yet."""
        return [each.progress.kind for each in self.reflectors if not each.synced.is_set()]

    def silence_s(self) -> Mapping[str, float]:
        """Kind -> how old the picture may be."""
        now_s = self._clock()
        return {each.progress.kind: each.progress.age_s(now_s) for each in self.reflectors if not each.progress.absent}

    def malformed(self) -> Mapping[str, int]:
        """Kind -> objects left out since the start."""
        return {each.progress.kind: each.progress.malformed for each in self.reflectors}
