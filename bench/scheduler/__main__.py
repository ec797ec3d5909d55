"""Figures of the scheduler: `python -m bench.scheduler --help`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bench.scheduler import counters as partitions
from bench.scheduler import fill as filling
from bench.scheduler import openb
from bench.scheduler import pairs as linked
from bench.scheduler import throughput as bursts
from bench.scheduler import waiting as wakeups

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Our scheduler beside the default one, on a real control plane of its own."""


@app.command()
def throughput(
    nodes: Annotated[int, typer.Option(help="of 8 GPUs")] = 100,
    pods: Annotated[int, typer.Option(help="of one GPU, by a claim from a template")] = 400,
    rounds: int = 3,
) -> None:
    """S1, S1b: pods a second from release to all bound."""
    bursts.report(nodes, bursts.measured(nodes, pods, rounds))


@app.command()
def counters(
    nodes: Annotated[int, typer.Option(help="of 8 A100, every MIG placement published, by counters")] = 500,
    pods: Annotated[int, typer.Option(help="of one partition, through ours")] = 500,
    default_pods: Annotated[int, typer.Option(help="through the default scheduler")] = 5,
) -> None:
    """S2: seconds per pod where devices share counters."""
    partitions.report(*partitions.measured(nodes, pods, default_pods))


@app.command()
def fill(
    nodes: Annotated[int, typer.Option(help="evenly chosen of the 1,213; 0: all")] = 0,
    pods: Annotated[int, typer.Option(help="the first so many; 0: as many as ask for all GPUs")] = 0,
    seed: int = 42,
) -> None:
    """P7, S5: the openb trace as real pods, beside what `dovetail simulate` says."""
    with TemporaryDirectory() as folder:
        trace = openb.trace(seed)
        if nodes or pods:
            trace = openb.reduced(trace, Path(folder), nodes=nodes or len(trace.nodes), pods=pods or len(trace))
        filling.report(*filling.measured(trace))


@app.command()
def pairs(nodes: int = linked.NODES, arrivals: int = linked.ARRIVALS, seed: int = linked.SEED) -> None:
    """S4: two-GPU pods that get a pair joined by NVLink, as jobs come and go; planner, ours and the default one."""
    recording = linked.recorded(nodes, arrivals, seed)
    linked.report(recording, linked.measured(recording))


@app.command()
def waiting(
    nodes: Annotated[int, typer.Option(help="of 8 GPUs, of which one is held")] = 100,
    pods: Annotated[int, typer.Option(help="that wait for all GPUs of a node")] = 1000,
    per_s: Annotated[float, typer.Option(help="new pods of one GPU a second")] = 20.0,
    seconds: float = 60.0,
) -> None:
    """Wake-ups: creation to bound of new pods that fit while others wait; what a cached rejection costs."""
    wakeups.report(wakeups.measured(nodes, pods, per_s, seconds))


if __name__ == "__main__":
    app()
