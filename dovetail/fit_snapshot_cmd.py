"""`dovetail fit CLAIM|POD --snapshot FILE`: what the scheduler would decide on the cluster in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dovetail.output import Column, OutputFormat, Value, print_rows
from dovetail.snapshot_options import load_snapshot

if TYPE_CHECKING:
    from kube.fitfile import Replicas
    from kube.fitting import Fit
    from kube.reasons import Reason

MAX_QUESTION_BYTES = 2**20
MAX_REPLICAS = 100_000
MOST_REASONS = 12

DEVICES = (
    Column("claim", "CLAIM"),
    Column("request", "REQUEST"),
    Column("driver", "DRIVER"),
    Column("pool", "POOL"),
    Column("device", "DEVICE"),
)
REASONS = (Column("nodes", "NODES"), Column("such_as", "SUCH AS"), Column("count", "DEVICES"), Column("text", "REASON"))
NODES = (Column("node", "NODE"), Column("replicas", "REPLICAS"))

Json = dict[str, Any]


def fit_on_snapshot(
    question: Path,
    snapshot: Path,
    *,
    node: str | None,
    drivers: Sequence[str] | None,
    policy: str,
    replicas: int | None,
    many: bool,
    output: OutputFormat,
) -> bool:
    """Answer the question in a file, print the answer, return whether it fits. `replicas` None: as many as fit."""
    if output is OutputFormat.CSV:
        raise typer.BadParameter("write table, json or yaml", param_hint="--output")
    found = load_snapshot(snapshot, drivers, policy)
    from kube.documents import read_documents
    from kube.question import read_question
    from simulator.inputs.source import read_bytes

    documents = read_documents(read_bytes(question, max_bytes=MAX_QUESTION_BYTES), str(question))
    asked = read_question(documents, str(question))
    if not many:
        answer = found.ask(asked, node=node)
        print_answer(answer, output)
        return answer.fits
    several = found.ask_many(asked, MAX_REPLICAS if replicas is None else replicas, node=node)
    _print_replicas(several, replicas, output)
    return len(several.placed) >= (replicas or 1)


def print_answer(answer: Fit, output: OutputFormat) -> None:
    """Print one answer."""
    if output is OutputFormat.TABLE:
        _print_table(answer)
    else:
        print_mapping(answer.to_json(), output)


def print_mapping(answer: Mapping[str, Any], output: OutputFormat) -> None:
    """Print an answer for programs."""
    if output is OutputFormat.JSON:
        typer.echo(json.dumps(answer, indent=2))
        return
    import yaml

    typer.echo(yaml.safe_dump(json.loads(json.dumps(answer)), sort_keys=False, allow_unicode=True), nl=False)


def _print_replicas(found: Replicas, wanted: int | None, output: OutputFormat) -> None:
    placed = found.placed
    if output is OutputFormat.TABLE:
        asked = "" if wanted is None else f" of {wanted}"
        typer.echo(f"{len(placed)}{asked} {'fits' if len(placed) == 1 else 'fit'}")
        counts: dict[str, int] = {}
        for each in placed:
            counts[str(each.node)] = counts.get(str(each.node), 0) + 1
        if counts:
            typer.echo()
            print_rows([{"node": node, "replicas": number} for node, number in counts.items()], NODES, output)
        if found.last is not None:
            typer.echo("\nnext one:")
            _print_table(found.last)
        return
    first = placed[0].to_json() if placed else found.last.to_json() if found.last else {}
    last = found.last.to_json() if found.last else {"reasons": {}, "nearest": [], "error": None}
    answer = first | {
        "fits": len(placed) >= (wanted or 1),
        "error": last["error"],
        "reasons": last["reasons"],
        "nearest": last["nearest"],
        "replicas": len(placed),
        "placements": [{"node": each.node, "claims": list(each.claims)} for each in placed],
    }
    print_mapping(answer, output)


def _print_table(answer: Fit) -> None:
    if answer.fits:
        typer.echo(f"fits on {answer.node}")
        rows = [
            {"claim": f"{claim['namespace']}/{claim['name']}", **{name: result[name] for name in FIELDS}}
            for claim in answer.claims
            for result in claim["allocation"]["devices"]["results"]
        ]
        if rows:
            typer.echo()
            print_rows(rows, DEVICES, OutputFormat.TABLE)
        return
    typer.echo("does not fit" + (f": {answer.error}" if answer.error else ""))
    print_reasons(answer.reasons)
    for at, near in enumerate(answer.nearest):
        typer.echo(f"{'would fit:' if at == 0 else 'or:       '} {near.text} -> {near.allocation.node}")
    if answer.reasons and not answer.nearest:
        typer.echo("would fit: by no single change that was tried")


FIELDS = ("request", "driver", "pool", "device")


def print_reasons(reasons: Mapping[str, Sequence[Reason]]) -> None:
    """Print why nodes cannot, those alike together."""
    alike: dict[tuple[str, int], list[str]] = {}
    for node, several in reasons.items():
        for reason in several:
            text = f"{reason.request}: {reason.text}" if reason.request else reason.text
            alike.setdefault((text, reason.count), []).append(node)
    ranked = sorted(alike.items(), key=lambda item: (-len(item[1]), item[0]))
    rows: list[dict[str, Value]] = [
        {"nodes": len(nodes), "such_as": nodes[0], "count": number, "text": text}
        for (text, number), nodes in ranked[:MOST_REASONS]
    ]
    if rows:
        typer.echo()
        print_rows(rows, REASONS, OutputFormat.TABLE)
        if len(ranked) > MOST_REASONS:
            typer.echo(f"and {len(ranked) - MOST_REASONS} more")
        typer.echo()
