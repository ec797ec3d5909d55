"""The GPUs of this node as they were last found: what is published, and what claims are planned on.

A GPU that is lost or cannot be read stays, tainted, until it is back. MIG devices that we made for claims are left out:
they belong to a claim, and are there as the placement that the claim was given. What others made is published as it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from dra_driver.discover import Discovered, with_hidden_links
from dra_driver.inventory import NodeGpus
from dra_driver.nvml.api import Nvml
from dra_driver.prepare.model import Record
from dra_driver.slices.publisher import with_lost, without_own

log = logging.getLogger(__name__)


class Inspection:
    """Looks when asked to, from any thread; remembers what it saw."""

    def __init__(self, nvml: Nvml, discover: Callable[[], Discovered], records: Callable[[], Iterable[Record]]) -> None:
        """Keep what to ask; `records` are those of the journal."""
        self._nvml = nvml
        self._discover = discover
        self._records = records
        self._lock = threading.Lock()
        self._node: NodeGpus | None = None
        self._notes: frozenset[str] = frozenset()

    def look(self) -> NodeGpus:
        """Find the GPUs anew and return them. Raises what discovery raises; then the last ones stay."""
        with self._lock:
            # What came or went meanwhile is ours too.
            own = own_placements(self._records())
            found = self._discover()
            own |= own_placements(self._records())
            for note in found.notes:
                if note not in self._notes:
                    log.warning("found: %s", note)
            self._notes = frozenset(found.notes)
            node = without_own(found.node, own)
            if self._node is not None:
                silent = {*self._nvml.lost(), *found.unread}
                node = with_lost(self._node, with_hidden_links(self._node, node, found.cut), silent)
            self._node = node
            return node

    def node(self) -> NodeGpus:
        """Return the GPUs as last seen."""
        assert self._node is not None, "asked before the first look"
        return self._node


def own_placements(records: Iterable[Record]) -> set[tuple[str, int, int]]:
    """Return GPU (UUID), profile id and start of all MIG devices that claims have made, or are about to make."""
    return {
        (intent.gpu_uuid, intent.mig.profile_id, intent.mig.start)
        for record in records
        for intent in record.devices
        if intent.mig is not None and not intent.existing_uuid
    }
