"""`scale.html`: what decisions cost by size of cluster, in one page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from simulator.report.palette import INK, MUTED, look
from simulator.report.svg import Drawing, house_style, to_drawing
from simulator.scale.result import GATES_MS, Scale
from simulator.scale.steady import OCCUPIED, ScaleRun

FILE_NAME = "scale.html"
SIZE_IN = (5.4, 3.6)
_HERE = Path(__file__).parent
_STYLE = _HERE.parent / "report" / "page.css"


def render_scale(scale: Scale) -> str:
    """Return the page of a result with at least one run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        scale=scale,
        style=_STYLE.read_text(encoding="utf-8"),
        headline=headline(scale.runs),
        drawings=[times(scale.runs), memory(scale.runs)],
        occupied_pct=round(100 * OCCUPIED),
    )


def headline(runs: Sequence[ScaleRun]) -> str:
    """Return what the largest cluster says, in one sentence."""
    most = max(runs, key=lambda run: run.nodes)
    return f"At {most.nodes:,} nodes 99 of 100 decisions take less than {most.place.cpu_p99_us / 1000:.3f} ms"


def times(runs: Sequence[ScaleRun]) -> Drawing:
    """Draw what a decision takes against the number of nodes, with gates and targets."""
    lines = (
        ("first of a class, median", [run.first.cpu_p50_us for run in runs], "fgd"),
        ("p99", [run.place.cpu_p99_us for run in runs], "dovetail"),
        ("p99 on the wall", [run.place.p99_us for run in runs], "gpu-packing"),
        ("median", [run.place.cpu_p50_us for run in runs], "best-fit"),
    )
    nodes = [run.nodes for run in runs]
    with house_style("scale-times"):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.add_subplot()
        for name, values, style in lines:
            drawn = look(style, "dovetail")
            axes.plot(nodes, values, color=drawn.marker, linestyle=drawn.dash, marker="o", markersize=4, label=name)
        for size, bounds in GATES_MS.items():
            if size in nodes:
                axes.plot([size] * 2, [1000 * bound for bound in bounds], "_", color=INK, markersize=12)
                axes.annotate("gate", (size, 1000 * bounds[0]), (6, 0), textcoords="offset points", va="center")
                axes.annotate("target", (size, 1000 * bounds[1]), (6, 0), textcoords="offset points", va="center")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(x=0.16)
        axes.set_xlabel("nodes of 8 GPUs")
        axes.set_ylabel("microseconds")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, frameon=False, labelcolor=INK)
        caption = "Time of place() by size of cluster, both axes logarithmic: processor time, and for the 99th "
        caption += "percentile also the clock on the wall. A level line means that nodes cost nothing."
        return to_drawing(figure, "Time of a decision", caption)


def memory(runs: Sequence[ScaleRun]) -> Drawing:
    """Draw the bytes per GPU, arrays by what they hold and the whole process."""
    parts = (
        ("fabric", [run.fabric_bytes_per_gpu for run in runs], "best-fit"),
        ("usage", [run.usage_bytes_per_gpu for run in runs], "upstream"),
        ("scores", [run.scores_bytes_per_gpu for run in runs], "fgd"),
        ("process", [run.resident_bytes_per_gpu or 0.0 for run in runs], "dovetail"),
    )
    with house_style("scale-memory"):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.add_subplot()
        for at, (name, values, style) in enumerate(parts):
            places = [row + (at - 1.5) * 0.2 for row in range(len(runs))]
            axes.bar(places, values, width=0.18, color=look(style, "dovetail").marker, label=name)
        axes.axhline(1024, color=MUTED, linewidth=0.8)
        axes.set_xticks(range(len(runs)), [f"{run.nodes:,}" for run in runs])
        axes.set_xlabel("nodes of 8 GPUs")
        axes.set_ylabel("bytes per GPU")
        axes.grid(visible=False, axis="x")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, frameon=False, labelcolor=INK)
        caption = "Memory per GPU: the arrays, and by how much the process grew with names and claims. "
        caption += "The line is the budget of 1 KiB."
        return to_drawing(figure, "Memory per GPU", caption)
