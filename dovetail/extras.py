"""Packages that only some commands need, and the words for who lacks one."""

from __future__ import annotations

from typing import NoReturn

import typer

EXIT_FAILED = 1
CLUSTER = ("aiohttp", "kubernetes", "prometheus_client", "re2", "numba", "networkx", "scipy")
"""Modules of the extras `cluster` and `planner`, by the names under which they are imported."""
INSTALL_CLUSTER = "pip install 'dovetail[cluster,planner]'"


def missing(error: ModuleNotFoundError) -> NoReturn:
    """End with what to install where a module of these extras is missing. Raises the error otherwise."""
    if error.name not in CLUSTER:
        raise error
    typer.echo(f"dovetail: {error.name} is missing; install it: {INSTALL_CLUSTER}", err=True)
    raise typer.Exit(EXIT_FAILED) from error
