"""What `fit`, `explain pod` and `snapshot` have in common: reading a snapshot, and words for what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.extras import missing
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from kube.fitfile import SnapshotCluster

MAX_SNAPSHOT_BYTES = 2**30
"""A cluster of 5,000 nodes and 50,000 pods has some 300 MB as kubectl writes it."""
MOST_TOLD = 3

Json = dict[str, Any]

SnapshotOpt = Annotated[
    Path | None,
    typer.Option(
        "--snapshot",
        help="A cluster as `dovetail snapshot` or `kubectl get ... -A -o json` writes it (also .gz).",
        rich_help_panel="Snapshot",
    ),
]
NodeOpt = Annotated[str | None, typer.Option(help="Look at this node alone.", rich_help_panel="Snapshot")]
DriverOpt = Annotated[
    list[str] | None,
    typer.Option(
        help="DRA driver whose devices are ours to allocate; repeat. Default: gpu.dovetail.dev.",
        rich_help_panel="Snapshot",
    ),
]


def load_snapshot(path: Path, drivers: Sequence[str] | None, policy: str) -> SnapshotCluster:
    """Return the cluster in a file; what of it is malformed is told on standard error. Raises InvalidInputError."""
    return _cluster(read_snapshot_file(path), str(path), drivers, policy)


def snapshot_of(kubeconfig: Path | None, drivers: Sequence[str] | None, policy: str) -> SnapshotCluster:
    """Return a live cluster as it is now."""
    return _cluster(take(kubeconfig, None), str(kubeconfig or "cluster"), drivers, policy)


def read_snapshot_file(path: Path) -> Json:
    """Return the objects in a file as one List. Raises InvalidInputError."""
    try:
        from kube.documents import read_documents, stored_objects
        from simulator.inputs.source import read_bytes
    except ModuleNotFoundError as error:
        missing(error)
    documents = read_documents(read_bytes(path, max_bytes=MAX_SNAPSHOT_BYTES), str(path))
    if not documents:
        raise InvalidInputError(str(path), "", "is empty; write it with `dovetail snapshot`")
    return listed({"kind": kind, **stored} for kind, stored in stored_objects(documents, str(path)))


def take(kubeconfig: Path | None, context: str | None) -> Json:
    """Return the objects of a live cluster as one List; ends with a message where that cannot be had."""
    import asyncio

    try:
        from kube.access import Access
        from kube.client import ApiClient
        from kube.errors import ClusterError
        from kube.taking import take_snapshot
    except ModuleNotFoundError as error:
        missing(error)

    async def taken() -> Json:
        async with ApiClient(Access(kubeconfig, context)) as client:
            return await take_snapshot(client)

    try:
        return asyncio.run(taken())
    except ClusterError as error:
        typer.echo(f"dovetail: {error}", err=True)
        raise typer.Exit(1) from error


def listed(items: Iterable[Json]) -> Json:
    """Return objects as a List."""
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": list(items)}


def _cluster(document: Json, source: str, drivers: Sequence[str] | None, policy: str) -> SnapshotCluster:
    try:
        from kube.cluster import ClusterSettings
        from kube.fitfile import SnapshotCluster
        from packing.policy import POLICIES
    except ModuleNotFoundError as error:
        missing(error)
    from dovetail.progress import note_compiling

    if policy not in POLICIES:
        raise typer.BadParameter(f"{policy!r} is unknown; known: {', '.join(POLICIES)}", param_hint="--policy")
    settings = ClusterSettings(policy=policy)
    if drivers:
        settings = ClusterSettings(policy=policy, drivers=tuple(dict.fromkeys(drivers)))
    note_compiling()
    found = SnapshotCluster(document, source, settings)
    for fault in found.malformed[:MOST_TOLD]:
        typer.echo(f"left out: {fault}", err=True)
    if len(found.malformed) > MOST_TOLD:
        typer.echo(f"left out: {len(found.malformed) - MOST_TOLD} more", err=True)
    return found
