"""How the answers of `dovetail fit` and `dovetail explain` look: short for people, whole for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from dovetail.output import Column, OutputFormat, Value, print_rows
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from dovetail.demand_options import Loaded
    from packing.capacity import Capacity
    from packing.explain import Explanation
    from packing.model import Demand, Devices, Placement
    from packing.nearest import Change, Nearest

FIT_SCHEMA = "dovetail.fit/v1"
EXPLAIN_SCHEMA = "dovetail.explain/v1"
MAX_ROWS = 12
"""Longest table of placements for people; more are told per node, or per number of pods."""
MAX_CLAIMS = 2
"""Claims of one GPU shown to people."""
PIPE_WIDTH = 10_000
"""Lines that go into a pipe are not wrapped."""

PLACEMENTS = (
    Column("pod", "POD"),
    Column("node", "NODE"),
    Column("request", "REQUEST"),
    Column("gpus", "GPUS"),
    Column("profile", "PROFILE"),
    Column("start", "START"),
    Column("quality_gbps", "GB/S"),
)
PLACES = (
    Column("node", "NODE"),
    Column("nodes", "NODES"),
    Column("pods", "PODS"),
    Column("each", "PODS EACH"),
    Column("as", "SUCH AS"),
    Column("devices", "DEVICES"),
    Column("gbps", "GB/S", 0),
)
REASONS = (Column("nodes", "NODES"), Column("reason", "REASON"))
GPUS = (Column("gpu", "GPU"), Column("state", "STATE"), Column("why_not", "WHY NOT"), Column("claims", "CLAIMS"))


def print_fit(
    loaded: Loaded, demand: Demand, wanted: int | None, found: Capacity, near: Nearest | None, output: OutputFormat
) -> None:
    """Print how many fit and where, what stops the next one, and what would help."""
    if output is OutputFormat.CSV:
        print_rows(_placement_rows(found.placements), PLACEMENTS, output)
    elif output is not OutputFormat.TABLE:
        _print_mapping(_fit_answer(loaded, demand, wanted, found, near), output)
    else:
        _print_fit_table(demand, wanted, found, near)


def print_reasons(loaded: Loaded, found: Explanation, output: OutputFormat) -> bool:
    """Print the reasons of all nodes; return whether some node fits."""
    reasons = found.reasons()
    rows: list[dict[str, Value]] = [{"nodes": reason.nodes, "reason": reason.text} for reason in reasons]
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        per_node = {node.name: found.text(n) for n, node in enumerate(loaded.fabric.nodes) if not found.fits(n)}
        answer = {"schema": EXPLAIN_SCHEMA, "cluster": loaded.source, "fitting_nodes": found.fitting}
        answer |= {"nodes": len(found.rows), "line": found.line(), "reasons": rows, "per_node": per_node}
        _print_mapping(answer, output)
        return found.fitting > 0
    if output is OutputFormat.TABLE:
        typer.echo(f"{_phrase(found.demand)}: fits on {found.fitting} of {len(found.rows)} nodes")
        if not rows:
            return found.fitting > 0
        typer.echo()
    print_rows(rows, REASONS, output)
    return found.fitting > 0


def print_node(loaded: Loaded, found: Explanation, name: str, output: OutputFormat) -> bool:
    """Print the state of one node, GPU by GPU, and why it refuses; return whether the demand fits there."""
    n = next((at for at, node in enumerate(loaded.fabric.nodes) if node.name == name), None)
    if n is None:
        raise InvalidInputError(loaded.source, "--node", f"has no node {name[:80]!r}")
    rows = _gpu_rows(loaded, found.demand, n)
    left = loaded.usage.arrays.nodes[n]
    size = loaded.fabric.arrays.node_size[n]
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        answer: dict[str, Any] = {"schema": EXPLAIN_SCHEMA, "node": name, "fits": found.fits(n), "gpus": rows}
        answer |= {"reason": found.text(n), "cpu_milli_left": int(left[0]), "memory_mib_left": int(left[1])}
        _print_mapping(answer, output)
        return found.fits(n)
    if output is OutputFormat.TABLE:
        from packing.explain import cores, gib

        typer.echo(f"{name}: {_phrase(found.demand)}")
        _say("  ", "fits" if found.fits(n) else f"refused: {found.text(n)}")
        typer.echo(f"  {left[0] / 1000:.15g} of {cores(int(size[0]))}, {gib(int(left[1]))} of {gib(int(size[1]))} left")
        if rows:
            typer.echo()
    if rows:
        most = MAX_CLAIMS if output is OutputFormat.TABLE else None
        print_rows([row | {"claims": _listed(row["claims"], most)} for row in rows], GPUS, output)
    return found.fits(n)


def _listed(names: Sequence[str], most: int | None) -> str | None:
    """Join names; of more than `most` the rest is only counted."""
    if most is None or len(names) <= most:
        return " ".join(names) or None
    return f"{' '.join(names[:most])} +{len(names) - most}"


def _print_fit_table(demand: Demand, wanted: int | None, found: Capacity, near: Nearest | None) -> None:
    count = len(found.placements)
    asked = "" if wanted is None else f" of {wanted}"
    verb = "fits" if count == 1 else "fit"
    typer.echo(f"{count}{asked} {verb}: {_phrase(demand)}")
    if count:
        typer.echo()
        _print_placements(found)
        if _links_unknown(found.placements):
            typer.echo("links unknown: the cluster does not say how these GPUs are joined")
    if found.refusal is None or near is None:
        return
    typer.echo()
    _say("next one:  ", found.refusal.line())
    for at, change in enumerate(near.changes[:3]):
        _say("would fit: " if at == 0 else "or:        ", f"{change.text} -> {_where(change)}")
    if not near.changes:
        _say("would fit: ", "by no single change")
    if near.bounded:
        _say("", f"(searched {near.tries} changes and stopped there)")


def _print_placements(found: Capacity) -> None:
    """Print every pod where they are few, else how many per node, else how many nodes got how many."""
    if len(found.placements) <= MAX_ROWS:
        rows = [_short_row(placement) for placement in found.placements]
    elif len(found.per_node) <= MAX_ROWS:
        rows = [{"node": node, "pods": pods} for node, pods in found.per_node.items()]
    else:
        alike: dict[int, list[str]] = {}
        for node, pods in found.per_node.items():
            alike.setdefault(pods, []).append(node)
        rows = [{"nodes": len(names), "each": pods, "as": names[0]} for pods, names in list(alike.items())[:MAX_ROWS]]
    shown = [column for column in PLACES if any(row.get(column.key) is not None for row in rows)]
    print_rows(rows, shown, OutputFormat.TABLE)


def _short_row(placement: Placement) -> dict[str, Value]:
    several = [found for devices in placement.devices if (found := _quality(devices)) is not None]
    return {"node": placement.node, "devices": _held(placement) or None, "gbps": min(several, default=None)}


def _quality(devices: Devices) -> float | None:
    """Return the quality of a set; one GPU has none, and 0 stands for links that are unknown."""
    return devices.quality_gbps or None if len(devices.gpus) > 1 else None


def _links_unknown(placements: Sequence[Placement]) -> bool:
    return any(len(d.gpus) > 1 and not d.quality_gbps for placement in placements for d in placement.devices)


def _held(placement: Placement) -> str:
    """Name the devices of a placement: `GPUs 0-3`, `GPU 2 1g.10gb@4`."""
    words = []
    for devices in placement.devices:
        gpus = f"GPU {devices.gpus[0]}" if len(devices.gpus) == 1 else f"GPUs {_ranges(devices.gpus)}"
        words.append(f"{gpus} {devices.profile}@{devices.start}" if devices.profile else gpus)
    return ", ".join(words)


def _ranges(gpus: Sequence[int]) -> str:
    """Write indices shortly: `0-3,6`."""
    runs: list[list[int]] = []
    for gpu in gpus:
        if runs and gpu == runs[-1][-1] + 1:
            runs[-1].append(gpu)
        else:
            runs.append([gpu])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _phrase(demand: Demand) -> str:
    """Say what is asked for, links included."""
    from packing.explain import cores, gib
    from packing.model import LinkWish, WholeRequest
    from simulator.demands import describe

    words = describe(replace(demand, cpu_milli=0, memory_mib=0))
    for request in demand.requests:
        if isinstance(request, WholeRequest) and request.link is LinkWish.REQUIRE:
            least = f" at {request.min_gbps:.10g} GB/s" if request.min_gbps else " in one NVLink island"
            gpus, comma, rest = words.partition(", ")
            words = gpus + least + comma + rest
            break
    words += f", {cores(demand.cpu_milli)}" if demand.cpu_milli else ""
    return words + (f", {gib(demand.memory_mib)}" if demand.memory_mib else "")


def _where(change: Change) -> str:
    held = _held(change.placement)
    return f"{change.placement.node} {held}".rstrip()


def _say(label: str, text: str) -> None:
    """Print a labelled line, wrapped to the terminal; a pipe gets it whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    indent = " " * len(label)
    for line in textwrap.wrap(label + text, width, subsequent_indent=indent, break_on_hyphens=False):
        typer.echo(line)


def _placement_rows(placements: Sequence[Placement]) -> list[dict[str, Value]]:
    """Return a row per pod and request; a pod without devices has one row."""
    rows: list[dict[str, Value]] = []
    for pod, placement in enumerate(placements):
        if not placement.devices:
            rows.append({"pod": pod, "node": placement.node})
        for request, devices in enumerate(placement.devices):
            rows.append(
                {
                    "pod": pod,
                    "node": placement.node,
                    "request": request,
                    "gpus": " ".join(map(str, devices.gpus)),
                    "profile": devices.profile or None,
                    "start": devices.start if devices.profile else None,
                    "quality_gbps": _quality(devices),
                }
            )
    return rows


def _fit_answer(
    loaded: Loaded, demand: Demand, wanted: int | None, found: Capacity, near: Nearest | None
) -> dict[str, Any]:
    count = len(found.placements)
    answer: dict[str, Any] = {
        "schema": FIT_SCHEMA,
        "cluster": loaded.source,
        "policy": loaded.policy.name,
        "demand": _phrase(demand),
        "wanted": wanted,
        "fits": count,
        "per_node": {str(node): pods for node, pods in found.per_node.items()},
        "placements": [_placement(placement) for placement in found.placements],
        "refusal": None,
        "nearest": [],
        "nearest_bounded": near.bounded if near else False,
    }
    if found.refusal is not None:
        reasons = [{"nodes": reason.nodes, "reason": reason.text} for reason in found.refusal.reasons()]
        answer["refusal"] = {"line": found.refusal.line(), "reasons": reasons}
    if near is not None:
        answer["nearest"] = [_change(change) for change in near.changes]
    return answer


def _placement(placement: Placement) -> dict[str, Any]:
    requests = [
        {
            "gpus": list(devices.gpus),
            "profile": devices.profile or None,
            "start": devices.start if devices.profile else None,
            "quality_gbps": devices.quality_gbps,
        }
        for devices in placement.devices
    ]
    return {"node": str(placement.node), "requests": requests}


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": str(change.kind),
        "text": change.text,
        "gpu_milli": change.gpu_milli,
        "cpu_milli": change.cpu_milli,
        "memory_mib": change.memory_mib,
        "placement": _placement(change.placement),
    }


def _gpu_rows(loaded: Loaded, demand: Demand, n: int) -> list[dict[str, Any]]:
    """Return state, claims and, for the first request, the reason against every GPU of a node."""
    from packing.explain import explain_gpu

    usage, fabric = loaded.usage, loaded.fabric
    first = int(fabric.arrays.gpu_start[n])
    claims: dict[int, list[str]] = {}
    for claim, held in sorted(usage.claims.items()):
        gpus = 0
        for mask in held.gpus if held.node == n else ():
            gpus |= mask
        for gpu in range(gpus.bit_length()):
            if gpus >> gpu & 1:
                claims.setdefault(gpu, []).append(claim)
    rows: list[dict[str, Any]] = []
    for gpu in range(len(fabric.nodes[n].shape.gpus)):
        why = explain_gpu(fabric, usage, demand.requests[0], n, gpu) if demand.requests else ""
        state = _state(loaded, first + gpu)
        rows.append({"gpu": gpu, "state": state, "claims": claims.get(gpu, []), "why_not": why or None})
    return rows


def _state(loaded: Loaded, g: int) -> str:
    """Say what a GPU is used for and what is left of it."""
    from packing.kernels import arrays as codes

    row = loaded.usage.arrays.gpus[g].tolist()
    use = row[codes.USE]
    if use == codes.PARTITIONED:
        slices = int(loaded.fabric.arrays.slice_count[loaded.fabric.arrays.gpu_geometry[g]])
        return f"MIG, {slices - row[codes.SLICES].bit_count()}/{slices} slices left"
    if use in (codes.TIME_SLICED, codes.MPS):
        how = "time-sliced" if use == codes.TIME_SLICED else "MPS"
        return f"{how}, {row[codes.LEFT] / 10:g} % {row[codes.MEMORY_LEFT] / 1024:.1f} GiB left"
    return {codes.FREE: "free", codes.WHOLE: "whole"}.get(use, "unhealthy")


def _print_mapping(answer: Mapping[str, Any], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        typer.echo(json.dumps(answer, indent=2))
        return
    import yaml

    typer.echo(yaml.safe_dump(dict(answer), sort_keys=False, allow_unicode=True), nl=False)
