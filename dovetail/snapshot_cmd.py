"""`dovetail snapshot`: what decisions depend on in a live cluster, in one file; read-only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from dovetail.snapshot_options import read_snapshot_file, take

STDOUT = Path("-")


def snapshot(
    *,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; - is standard output.")
    ],
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Default: $KUBECONFIG, ~/.kube/config, the Pod's service account.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig. Default: its current one.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Instead of a live cluster: a file that was written before.")
    ] = None,
    anonymize: Annotated[
        bool, typer.Option("--anonymize", help="Rename nodes, namespaces, pods, claims, UIDs and labels.")
    ] = False,
) -> None:
    """Write nodes, namespaces, pods, resource slices, claims, templates and device classes of a cluster to a file.

    Only reads. The same file can be made by: kubectl get
    nodes,namespaces,pods,resourceslices,resourceclaims,resourceclaimtemplates,deviceclasses -A -o json

    Exit codes: 0 written; 1 the cluster or the file cannot be used; 2 wrong usage.
    """
    if source is not None and (kubeconfig is not None or context is not None):
        raise typer.BadParameter("--from is instead of a cluster; leave out --kubeconfig and --context")
    import msgspec

    found = read_snapshot_file(source) if source is not None else take(kubeconfig, context)
    if anonymize:
        from kube.anonymize import anonymized

        found = anonymized(found, str(source or "cluster"))
    _write(out, msgspec.json.encode(found) + b"\n")
    kinds: dict[str, int] = {}
    for each in found["items"]:
        kinds[each["kind"]] = kinds.get(each["kind"], 0) + 1
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    typer.echo(f"{out}: {told or 'nothing'}", err=True)


def _write(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, for its owner alone: it says much about a cluster."""
    if path == STDOUT:
        typer.get_binary_stream("stdout").write(content)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
