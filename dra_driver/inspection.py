"""The GPUs of this node as they were last found, less the MIG devices that we made for claims.

What others made is published as it is; what we made belongs to a claim, and is there as the placement that the claim
was given.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from dra_driver.discover import Discovered
from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.prepare.model import Record

log = logging.getLogger(__name__)


class Inspection:
    """Looks when asked to, from any thread; remembers what it saw."""

    def __init__(self, discover: Callable[[], Discovered], records: Callable[[], Iterable[Record]]) -> None:
        """`records` are those of the journal, asked after `discover`: what was made meanwhile is ours too."""
        self._discover = discover
        self._records = records
        self._lock = threading.Lock()
        self._node: NodeGpus | None = None
        self._notes: frozenset[str] = frozenset()

    def look(self) -> NodeGpus:
        """Find the GPUs anew and return them. Raises what discovery raises; then the last ones stay."""
        with self._lock:
            found = self._discover()
            for note in found.notes:
                if note not in self._notes:
                    log.warning("found: %s", note)
            self._notes = frozenset(found.notes)
            self._node = without_ours(found.node, self._records())
            return self._node

    def node(self) -> NodeGpus:
        """Return the GPUs as last seen."""
        assert self._node is not None, "asked before the first look"
        return self._node


def without_ours(node: NodeGpus, records: Iterable[Record]) -> NodeGpus:
    """Return the node without the instances that claims' records name, by UUID, or by placement until there is one."""
    uuids, places = set(), set()
    for record in records:
        for intent, made in zip(record.devices, record.made, strict=True):
            if made.uuid:
                uuids.add(made.uuid)
            if intent.mig is not None and not intent.existing_uuid:
                places.add((intent.gpu_uuid, intent.mig.profile_id, intent.mig.start))

    def foreign(gpu: Gpu) -> Gpu:
        kept = tuple(
            each
            for each in gpu.instances
            if each.uuid not in uuids and (gpu.uuid, each.profile_id, each.start) not in places
        )
        return gpu if kept == gpu.instances else replace(gpu, instances=kept)

    return replace(node, gpus=tuple(map(foreign, node.gpus)))
