"""Snapshot to arrays: the one place where names become dense indices."""

from __future__ import annotations

from packing.fabric import Fabric, build_fabric
from packing.model import Snapshot
from packing.usage import Usage


def pack(snapshot: Snapshot) -> tuple[Fabric, Usage]:
    """Return the static tables of a snapshot and its usage, with all that runs already applied.

    InvalidInputError names the node or claim that cannot be: a duplicate node, a claim on devices the node lacks or
    that another claim holds.
    """
    fabric = build_fabric(snapshot.nodes)
    usage = Usage(fabric)
    for claim, demand, placement in snapshot.running:
        usage.restore(claim, demand, placement)
    return fabric, usage
