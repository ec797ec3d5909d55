"""Figures of the scheduler: `python -m bench.scheduler --help`."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.scheduler import throughput as bursts

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


if __name__ == "__main__":
    app()
