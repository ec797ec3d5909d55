"""The flag `--dask`: run on the workers of a Dask cluster instead of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from simulator.daskpool import DaskPool

DaskAddress = Annotated[
    str,
    typer.Option(
        "--dask",
        metavar="ADDRESS",
        help="Run on a Dask cluster, e.g. tcp://10.0.0.5:8786 (or tls://); input files travel with the runs.",
    ),
]


@contextmanager
def dask_cluster(address: str, jobs: int) -> Iterator[DaskPool | None]:
    """Yield the cluster at `address`, or None where none is named. Raises ClusterError if it cannot be used."""
    if not address:
        yield None
        return
    if jobs != 1:
        raise typer.BadParameter("--jobs and --dask exclude each other: a cluster has the workers it has")
    from simulator.daskpool import dask_pool

    with dask_pool(address) as cluster:
        if not cluster.threads:
            typer.echo(f"{address} has no worker yet; start some with: dask worker {address}", err=True)
        yield cluster
