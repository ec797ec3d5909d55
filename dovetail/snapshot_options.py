"""What `fit`, `explain pod` and `snapshot` have in common: reading a snapshot, and words for what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from kube.fitfile import SnapshotCluster

MAX_SNAPSHOT_BYTES = 2**30
"""A cluster of 5,000 nodes and 50,000 pods has some 300 MB as kubectl writes it."""
EXTRAS = ("aiohttp", "cel_expr_python", "kubernetes", "re2", "numba", "networkx", "scipy")
"""Packages that the extras `cluster` and `planner` bring."""
MOST_TOLD = 3

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
    try:
        from kube.cluster import ClusterSettings
        from kube.documents import read_documents
        from kube.fitfile import SnapshotCluster
        from packing.policy import POLICIES
        from simulator.inputs.source import read_bytes
    except ModuleNotFoundError as error:
        missing(error)
    from dovetail.progress import note_compiling

    if policy not in POLICIES:
        raise typer.BadParameter(f"{policy!r} is unknown; known: {', '.join(POLICIES)}", param_hint="--policy")
    settings = ClusterSettings(policy=policy)
    if drivers:
        settings = ClusterSettings(policy=policy, drivers=tuple(dict.fromkeys(drivers)))
    documents = read_documents(read_bytes(path, max_bytes=MAX_SNAPSHOT_BYTES), str(path))
    if not documents:
        raise InvalidInputError(str(path), "", "is empty; write it with `dovetail snapshot`")
    note_compiling()
    document = documents[0] if len(documents) == 1 else {"kind": "List", "items": documents}
    found = SnapshotCluster(document, str(path), settings)
    for fault in found.malformed[:MOST_TOLD]:
        typer.echo(f"left out: {fault}", err=True)
    if len(found.malformed) > MOST_TOLD:
        typer.echo(f"left out: {len(found.malformed) - MOST_TOLD} more", err=True)
    return found


def missing(error: ModuleNotFoundError) -> NoReturn:
    """End with what to install where a package of an extra is missing. Raises the error otherwise."""
    if error.name not in EXTRAS:
        raise error
    needed = "pip install 'dovetail[cluster,planner]'"
    typer.echo(f"dovetail: {error.name} is missing; install it: {needed}", err=True)
    raise typer.Exit(1) from error
