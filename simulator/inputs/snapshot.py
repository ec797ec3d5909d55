"""A real cluster as a snapshot has it: nodes of the core, and what runs on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kube.cluster import ClusterSettings
from kube.documents import read_documents, stored_objects
from kube.fitfile import SnapshotCluster
from packing.model import MAX_AMOUNT, Node
from packing.trial import placement_of
from simulator.inputs.running import Running
from simulator.inputs.source import read_bytes
from topology.errors import InvalidInputError

MAX_SNAPSHOT_BYTES = 2**30


def read_snapshot(path: Path) -> tuple[tuple[Node, ...], Running]:
    """Return the nodes of a snapshot, and the claims and pods that hold something of them.

    A node known from its resource slices alone has as many cores and as much memory as anybody asks for. What the core
    has no words for (devices of other drivers, two claims on one device) is left out. Raises InvalidInputError.
    """
    documents = read_documents(read_bytes(path, max_bytes=MAX_SNAPSHOT_BYTES), str(path))
    items = [{"kind": kind, **stored} for kind, stored in stored_objects(documents, str(path))]
    found = SnapshotCluster({"kind": "List", "items": items}, str(path), ClusterSettings()).cluster
    usage = found.packed().ledger.usage
    known = {node.metadata.name for node in found.store.nodes if node.status.allocatable}
    nodes = tuple(
        node if node.name in known else replace(node, cpu_milli=MAX_AMOUNT, memory_mib=MAX_AMOUNT)
        for node in usage.fabric.nodes
    )
    if not nodes:
        raise InvalidInputError(str(path), "", "holds neither nodes nor resource slices")
    running = tuple(
        (claim, usage.classes.demands[held.demand_class], placement_of(usage, held))
        for claim, held in sorted(usage.claims.items())
    )
    return nodes, running
