"""`dovetail bench scale`: what decisions cost on clusters of growing size.

This module only decodes options and prints; what computes is imported when the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dovetail
from dovetail.output import Column, OutputFormat, Value, print_rows
from dovetail.progress import progress_bar
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from simulator.scale.result import Scale
    from simulator.scale.steady import ScaleRun

EXIT_INTERRUPTED = 130
MOST_NODES = 1_000_000

COLUMNS = (
    Column("nodes", "NODES"),
    Column("operation", "OPERATION"),
    Column("cpu_p50_us", "P50 US", 1),
    Column("cpu_p99_us", "P99 US", 1),
    Column("cpu_max_us", "MAX US", 1),
    Column("p50_us", "WALL P50", 1),
    Column("p99_us", "WALL P99", 1),
    Column("max_us", "WALL MAX", 1),
)
MEMORY_COLUMNS = (
    Column("nodes", "NODES"),
    Column("gpus", "GPUS"),
    Column("claims", "CLAIMS"),
    Column("refused", "REFUSED"),
    Column("fabric_bytes_per_gpu", "FABRIC B/GPU", 1),
    Column("usage_bytes_per_gpu", "USAGE B/GPU", 1),
    Column("scores_bytes_per_gpu", "SCORES B/GPU", 1),
    Column("resident_bytes_per_gpu", "PROCESS B/GPU", 1),
    Column("digest", "DIGEST"),
)
GROWTH_COLUMNS = (Column("figure", "FIGURE"), Column("exponent", "~ NODES^", 3))
OPERATIONS = ("place", "apply", "release", "first")


def scale(
    *,
    nodes: Annotated[str, typer.Option(help="Numbers of nodes (8 GPUs each), ascending, separated by commas.")] = (
        "1000,10000,100000"
    ),
    decisions: Annotated[int, typer.Option(min=1, max=10**7, help="Decisions timed per size.")] = 8000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of arrivals and departures.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for scale.json and scale.html.")] = Path("dovetail-scale"),
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How the tables are printed.")] = (
        OutputFormat.TABLE
    ),
) -> None:
    """Measure time and memory of decisions as clusters grow, 85 % of the GPUs in use, pods coming and going.

    The times are processor time of this thread; WALL is what a clock on the wall saw.
    """
    from simulator.scale.result import scale_of
    from simulator.scale.steady import run_scale

    sizes = sizes_of(nodes)
    runs: list[ScaleRun] = []
    try:
        with progress_bar(len(sizes)) as step:
            for size in sizes:
                runs.append(run_scale(size, decisions=decisions, seed=seed))
                step()
    except KeyboardInterrupt:
        pass
    found = scale_of(runs, dovetail.__version__, complete=len(runs) == len(sizes))
    _print(found, output)
    _finish(found, out, output)


def sizes_of(text: str) -> tuple[int, ...]:
    """Return the numbers of nodes in `text`. Raises InvalidInputError."""
    sizes = []
    for word in text.split(","):
        if not word.isdecimal() or len(word) > len(str(MOST_NODES)) or not 1 <= int(word) <= MOST_NODES:
            raise InvalidInputError("--nodes", repr(word), f"is not a number from 1 to {MOST_NODES}")
        sizes.append(int(word))
    if sizes != sorted(set(sizes)):
        raise InvalidInputError(
            "--nodes", repr(text), "must ascend: memory of a larger cluster would hide a smaller one's"
        )
    return tuple(sizes)


def _print(found: Scale, output: OutputFormat) -> None:
    rows = [row for run in found.runs for row in _rows(run)]
    print_rows(rows, COLUMNS, output)
    if output is not OutputFormat.TABLE:
        return
    typer.echo()
    print_rows([_memory(run) for run in found.runs], MEMORY_COLUMNS, output)
    if found.growth:
        typer.echo()
        print_rows([{"figure": fit.figure, "exponent": fit.exponent} for fit in found.growth], GROWTH_COLUMNS, output)


def _finish(found: Scale, out: Path, output: OutputFormat) -> None:
    """Write the result and its page and say where that is; an interrupted benchmark ends with its own code."""
    from simulator.result import write_text

    # Programs read standard output; the word where the page is must not end up in their JSON.
    aside = output is not OutputFormat.TABLE
    # An earlier result is worth more than an empty one.
    if found.runs:
        from simulator.scale.page import FILE_NAME, render_scale
        from simulator.scale.result import write_scale

        write_scale(found, out)
        typer.echo(f"report: {write_text(out / FILE_NAME, render_scale(found))}", err=aside)
    if not found.complete:
        typer.echo(f"interrupted: kept {len(found.runs)} finished sizes", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)


def _rows(run: ScaleRun) -> list[dict[str, Value]]:
    import msgspec

    memory = _memory(run)
    fields = msgspec.to_builtins(run)
    return [memory | {"operation": name} | fields[name] for name in OPERATIONS if fields[name]]


def _memory(run: ScaleRun) -> dict[str, Value]:
    return {column.key: getattr(run, column.key) for column in MEMORY_COLUMNS}
