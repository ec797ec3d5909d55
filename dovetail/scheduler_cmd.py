"""`dovetail scheduler`: the extender that a kube-scheduler asks for node and devices, until it is told to end.

This module decodes options; what computes is imported when the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

import dovetail
from dovetail.extras import EXIT_FAILED, missing
from dovetail.scheduler_options import (
    ClientCaOpt,
    DecisionLogMaxMibOpt,
    DecisionLogOpt,
    DriverOpt,
    IdentityOpt,
    IgnoreTaintOpt,
    KubeconfigOpt,
    LeaseOpt,
    ListenOpt,
    LogLevel,
    LogLevelOpt,
    MixOpt,
    Mode,
    ModeOpt,
    ObserveOpt,
    PlaceAllOpt,
    PolicyOpt,
    SchedulerNameOpt,
    SlackOpt,
    TlsCertOpt,
    TlsKeyOpt,
)

if TYPE_CHECKING:
    from packing.mix import DemandMix

HELP = """Answer a kube-scheduler that has this program as its HTTP extender: which node, and which devices there.

Runs until SIGTERM or Ctrl-C, then finishes the bindings under way. Every option has an environment variable.

Exit codes: 0 it was told to end; 1 it failed, with a message; 2 wrong usage.
"""


def scheduler(  # noqa: D103 - its help is HELP
    *,
    kubeconfig: KubeconfigOpt = None,
    listen: ListenOpt = "127.0.0.1:12390",
    observe: ObserveOpt = None,
    tls_cert: TlsCertOpt = None,
    tls_key: TlsKeyOpt = None,
    client_ca: ClientCaOpt = None,
    mode: ModeOpt = Mode.ALLOCATE,
    driver: DriverOpt = None,
    ignore_taint: IgnoreTaintOpt = None,
    policy: PolicyOpt = None,
    mix: MixOpt = None,
    place_all: PlaceAllOpt = False,
    slack: SlackOpt = None,
    scheduler_name: SchedulerNameOpt = "dovetail",
    lease: LeaseOpt = None,
    identity: IdentityOpt = None,
    decision_log: DecisionLogOpt = None,
    decision_log_max_mib: DecisionLogMaxMibOpt = 100,
    log_level: LogLevelOpt = LogLevel.INFO,
) -> None:
    try:
        import socket

        from kube import logs
        from packing.policy import DEFAULT_POLICY
        from scheduler import app, settings

        logs.set_up(log_level)
        chosen = settings.Settings(
            kubeconfig=kubeconfig,
            listen=settings.parse_address("--listen", listen),
            observe=settings.parse_address("--observe", observe) if observe else None,
            tls=settings.parse_tls(tls_cert, tls_key, client_ca),
            mode=settings.Mode(mode),
            drivers=tuple(driver or [settings.DRIVER]),
            ignored_taints=frozenset(ignore_taint or ()),
            policy=policy or DEFAULT_POLICY,
            place_all=place_all,
            slack=settings.parse_slack(slack) if slack is not None else None,
            scheduler_name=scheduler_name,
            lease=settings.parse_lease(lease) if lease else None,
            identity=identity or (socket.gethostname() if lease else ""),
            decision_log=decision_log,
            decision_log_max_mib=decision_log_max_mib,
            log_level=log_level,
            version=dovetail.__version__,
        )
        failure = app.main(chosen, _read_mix(mix) if mix else None)
    except ModuleNotFoundError as error:
        missing(error)
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
