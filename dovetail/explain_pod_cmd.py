"""`dovetail explain pod NS/NAME`: why a pod waits, or is where it is; by a scheduler, a file or a live cluster."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dovetail.output import Column, OutputFormat, Value, print_rows
from dovetail.snapshot_options import DriverOpt, SnapshotOpt, load_snapshot
from topology.errors import InvalidInputError

EXIT_DOES_NOT_FIT = 3
MAX_ANSWER_BYTES = 64 * 2**20
TIMEOUT_S = 30.0
MOST_ROWS = 12

SUMMARY = (Column("nodes", "NODES"), Column("text", "REASON"), Column("detail", "DETAIL"))
DEVICES = (
    Column("device", "DEVICE"),
    Column("request", "REQUEST"),
    Column("reason", "WHY NOT"),
    Column("held_by", "HELD BY"),
)
TERMS = (Column("node", "NODE"), Column("term", "TERM"), Column("gpus", "GPUS", 4))


def explain_pod(
    *,
    name: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="The pod; without a namespace, in default.")],
    node: Annotated[str | None, typer.Option(help="Show this node device by device.")] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a running scheduler, as in http://127.0.0.1:12390.")
    ] = None,
    snapshot: SnapshotOpt = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Ask the cluster that it names. Default: as kubectl.")] = None,
    driver: DriverOpt = None,
    policy: Annotated[str, typer.Option(help="Who decides; with --snapshot or a cluster.")] = "dovetail",
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How the answer is printed.")] = (
        OutputFormat.TABLE
    ),
) -> None:
    """Say why a pod waits and what would help, or why it is where it is.

    Exit codes: 0 it is placed, or would fit; 1 bad input; 2 wrong usage; 3 it does not fit.
    """
    namespace, slash, pod = name.rpartition("/")
    if not pod or "/" in namespace or (slash and not namespace):
        raise typer.BadParameter(f"{name!r} is not NAMESPACE/NAME", param_hint="NAMESPACE/NAME")
    if output is OutputFormat.CSV:
        raise typer.BadParameter("write table, json or yaml", param_hint="--output")
    if sum(each is not None for each in (server, snapshot, kubeconfig)) > 1:
        raise typer.BadParameter("name one of --server, --snapshot and --kubeconfig")
    namespace = namespace or "default"
    if server is not None:
        answer = _asked(server, namespace, pod, node)
    else:
        answer = _computed(snapshot, kubeconfig, namespace, pod, node, driver, policy)
    _print(answer, output)
    if not answer.get("fits"):
        raise typer.Exit(EXIT_DOES_NOT_FIT)


def _asked(server: str, namespace: str, pod: str, node: str | None) -> Mapping[str, Any]:
    """Return what a running scheduler says."""
    path = f"/explain/{urllib.parse.quote(namespace, safe='')}/{urllib.parse.quote(pod, safe='')}"
    url = server.rstrip("/") + path + (f"?node={urllib.parse.quote(node, safe='')}" if node else "")
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise typer.BadParameter(f"{server!r} is no http or https address", param_hint="--server")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:  # noqa: S310 - http or https, see above
            return dict(json.loads(reply.read(MAX_ANSWER_BYTES)))
    except urllib.error.HTTPError as error:
        raise InvalidInputError(url, "", _message(error)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InvalidInputError(server, "", f"does not answer: {reason}") from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(MAX_ANSWER_BYTES))["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def _computed(
    snapshot: Path | None,
    kubeconfig: Path | None,
    namespace: str,
    pod: str,
    node: str | None,
    drivers: list[str] | None,
    policy: str,
) -> Mapping[str, Any]:
    """Return what comes out here, of a file or of a cluster as it is now."""
    if snapshot is not None:
        found = load_snapshot(snapshot, drivers, policy)
    else:
        from dovetail.snapshot_options import snapshot_of

        found = snapshot_of(kubeconfig, drivers, policy)
    return found.explain(namespace, pod, node=node)


def _print(answer: Mapping[str, Any], output: OutputFormat) -> None:
    if output is not OutputFormat.TABLE:
        from dovetail.fit_snapshot_cmd import print_mapping

        print_mapping(answer, output)
        return
    typer.echo(f"{answer['pod']}: {_verdict(answer)}")
    summary: list[dict[str, Value]] = [dict(each) for each in answer.get("summary") or ()]
    if summary:
        typer.echo()
        print_rows(summary[:MOST_ROWS], SUMMARY, output)
    for at, near in enumerate(answer.get("nearest") or ()):
        lead = "\nwould fit:" if at == 0 else "or:       "
        typer.echo(f"{lead} {near['text']} -> {near['node']}")
    if answer.get("devices"):
        typer.echo()
        rows: list[dict[str, Value]] = [
            {**each, "device": each["device"], "held_by": " ".join(each["held_by"]) or None}
            for each in answer["devices"]
            if not str(each["reason"] or "").startswith("not selected")
        ]
        print_rows(rows, DEVICES, output)
    _print_why(answer.get("why"))


def _verdict(answer: Mapping[str, Any]) -> str:
    if answer.get("bound"):
        return f"is on {answer['bound']}"
    if answer["fits"]:
        return f"fits on {answer['node']}"
    return "does not fit" + (f": {answer['error']}" if answer.get("error") else "")


def _print_why(why: Mapping[str, Any] | None) -> None:
    """Print the terms of the scores, side by side."""
    if not why:
        return
    rows: list[dict[str, Value]] = []
    for choice in (why["chosen"], why["second"]):
        if choice is None:
            continue
        rows.append({"node": choice["node"], "term": "all together", "gpus": choice["score"]})
        rows += [{"node": choice["node"], "term": term, "gpus": gpus} for term, gpus in choice["terms"].items() if gpus]
    typer.echo()
    print_rows(rows, TERMS, OutputFormat.TABLE)
