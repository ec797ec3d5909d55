"""Packages that only some commands need, and the words for who lacks one."""

from __future__ import annotations

from typing import NoReturn

import typer

EXIT_FAILED = 1
CLUSTER = ("aiohttp", "kubernetes", "prometheus_client", "re2", "numba", "networkx", "scipy")
"""Modules of the extras `cluster` and `planner`, by the names under which they are imported."""
INSTALL_CLUSTER = "pip install 'dovetail[cluster,planner]'"


DRIVER = ("aiohttp", "grpc", "kubernetes", "prometheus_client", "pynvml", "google.protobuf")
"""The same of the extra `driver`."""
INSTALL_DRIVER = "pip install 'dovetail[driver]'"


def missing(error: ModuleNotFoundError) -> NoReturn:
    """End with what to install where a module of `cluster` or `planner` is missing. Raises the error otherwise."""
    _missing(error, CLUSTER, INSTALL_CLUSTER)


def missing_of_driver(error: ModuleNotFoundError) -> NoReturn:
    """End with what to install where a module of `driver` is missing. Raises the error otherwise."""
    _missing(error, DRIVER, INSTALL_DRIVER)


def _missing(error: ModuleNotFoundError, known: tuple[str, ...], install: str) -> NoReturn:
    if error.name not in known:
        raise error
    typer.echo(f"dovetail: {error.name} is missing; install it: {install}", err=True)
    raise typer.Exit(EXIT_FAILED) from error
