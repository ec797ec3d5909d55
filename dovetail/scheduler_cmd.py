"""`dovetail scheduler`: the extender that a kube-scheduler asks for node and devices, until it is told to end.

This module decodes options; what computes is imported when the command runs.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dovetail

if TYPE_CHECKING:
    from packing.mix import DemandMix

EXIT_FAILED = 1
EXTRAS = ("aiohttp", "cel_expr_python", "kubernetes", "prometheus_client", "numba", "networkx", "scipy")
"""Packages that the extras `cluster` and `planner` bring."""


class Mode(StrEnum):
    """Who allocates devices; as scheduler.settings.Mode, which would import the planner for `--help`."""

    ALLOCATE = "allocate"
    SCORE = "score"


class LogLevel(StrEnum):
    """From which level on lines are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


HELP = """Answer a kube-scheduler that has this program as its HTTP extender: which node, and which devices there.

Runs until SIGTERM or Ctrl-C, then finishes the bindings under way. Every option has an environment variable.

Exit codes: 0 it was told to end; 1 it failed, with a message; 2 wrong usage.
"""


def scheduler(  # noqa: D103 - its help is HELP
    *,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            envvar="DOVETAIL_KUBECONFIG", help="Default: $KUBECONFIG, ~/.kube/config, the Pod's service account."
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option(envvar="DOVETAIL_LISTEN", metavar="HOST:PORT", help="Where kube-scheduler asks.")
    ] = "127.0.0.1:12390",
    observe: Annotated[
        str | None,
        typer.Option(
            envvar="DOVETAIL_OBSERVE", metavar="HOST:PORT", help="Also answer probes and metrics there, nothing else."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(envvar="DOVETAIL_TLS_CERT", help="Serve HTTPS; read again when it changes.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="DOVETAIL_TLS_KEY", help="Key of the certificate.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(envvar="DOVETAIL_CLIENT_CA", help="Only clients with a certificate of this CA.")
    ] = None,
    mode: Annotated[
        Mode, typer.Option(envvar="DOVETAIL_MODE", help="Allocate devices, or score nodes for a scheduler that does.")
    ] = Mode.ALLOCATE,
    driver: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DOVETAIL_DRIVER", help="DRA driver whose devices to allocate; repeat. Default: gpu.dovetail.dev."
        ),
    ] = None,
    ignore_taint: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DOVETAIL_IGNORE_TAINT",
            help="Key of a device taint that keeps off other schedulers, not us; repeat.",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(envvar="DOVETAIL_POLICY", help="What a decision optimises; see `simulate --help`."),
    ] = None,
    mix: Annotated[
        Path | None,
        typer.Option(
            envvar="DOVETAIL_MIX",
            help="Demand to come: a workload or openb pod list (CSV). Default: learned from the pods.",
        ),
    ] = None,
    place_all: Annotated[
        bool, typer.Option("--place-all", envvar="DOVETAIL_PLACE_ALL", help="Decide for pods without devices too.")
    ] = False,
    slack: Annotated[
        float | None,
        typer.Option(
            envvar="DOVETAIL_SLACK",
            help="Also offer nodes that cost so many GPUs of future demand more; kube-scheduler's scores choose.",
        ),
    ] = None,
    scheduler_name: Annotated[
        str, typer.Option(envvar="DOVETAIL_SCHEDULER_NAME", help="spec.schedulerName of the pods that are ours.")
    ] = "dovetail",
    lease: Annotated[
        str | None,
        typer.Option(
            envvar="DOVETAIL_LEASE",
            metavar="NAMESPACE/NAME",
            help="Lease of our kube-scheduler: write only while it holds it. Needed with two replicas.",
        ),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            envvar="DOVETAIL_IDENTITY", help="Host name of our kube-scheduler, as the lease has it. Default: ours."
        ),
    ] = None,
    decision_log: Annotated[
        Path | None, typer.Option(envvar="DOVETAIL_DECISION_LOG", help="Write every decision there, as JSON lines.")
    ] = None,
    decision_log_max_mib: Annotated[
        int, typer.Option(envvar="DOVETAIL_DECISION_LOG_MAX_MIB", min=1, help="Size of a file before the next begins.")
    ] = 100,
    log_level: Annotated[LogLevel, typer.Option(envvar="DOVETAIL_LOG_LEVEL", help="From which level on to log.")] = (
        LogLevel.INFO
    ),
) -> None:
    try:
        import socket

        from packing.policy import DEFAULT_POLICY
        from scheduler import app, logs, settings

        logs.set_up(log_level)
        chosen = settings.Settings(
            kubeconfig=kubeconfig,
            listen=settings.parse_address("--listen", listen),
            observe=settings.parse_address("--observe", observe) if observe else None,
            tls=settings.parse_tls(tls_cert, tls_key, client_ca),
            mode=settings.Mode(mode),
            drivers=tuple(driver or [settings.DRIVER]),
            ignored_taints=frozenset(ignore_taint or ()),
            policy=policy or (DEFAULT_POLICY if mode is Mode.ALLOCATE else "upstream"),
            place_all=place_all,
            slack=slack,
            scheduler_name=scheduler_name,
            lease=settings.parse_lease(lease) if lease else None,
            identity=identity or socket.gethostname(),
            decision_log=decision_log,
            decision_log_max_mib=decision_log_max_mib,
            log_level=log_level,
            version=dovetail.__version__,
        )
        failure = app.main(chosen, _read_mix(mix) if mix else None)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        needed = "pip install 'dovetail[cluster,planner]'"
        typer.echo(f"dovetail: {error.name} is missing; install the scheduler: {needed}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    if failure:
        typer.echo(f"dovetail: {failure}", err=True)
        raise typer.Exit(EXIT_FAILED)


def _read_mix(path: Path) -> DemandMix:
    from packing.mix import DemandMix
    from simulator.inputs.openb import read_pods
    from simulator.inputs.rows import read_table
    from simulator.inputs.workload import read_workload

    jobs = read_workload(path) if "submit_s" in read_table(path, ()).columns else read_pods(path)
    return DemandMix.from_demands(jobs.counts())
