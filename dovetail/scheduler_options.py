"""The options of `dovetail scheduler`, each with an environment variable."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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


KubeconfigOpt = Annotated[
    Path | None,
    typer.Option(envvar="DOVETAIL_KUBECONFIG", help="Default: $KUBECONFIG, ~/.kube/config, the Pod's service account."),
]
ListenOpt = Annotated[
    str, typer.Option(envvar="DOVETAIL_LISTEN", metavar="HOST:PORT", help="Where kube-scheduler asks.")
]
ObserveOpt = Annotated[
    str | None,
    typer.Option(
        envvar="DOVETAIL_OBSERVE", metavar="HOST:PORT", help="Also answer probes and metrics there, nothing else."
    ),
]
TlsCertOpt = Annotated[
    Path | None, typer.Option(envvar="DOVETAIL_TLS_CERT", help="Serve HTTPS; read again when it changes.")
]
TlsKeyOpt = Annotated[Path | None, typer.Option(envvar="DOVETAIL_TLS_KEY", help="Key of the certificate.")]
ClientCaOpt = Annotated[
    Path | None, typer.Option(envvar="DOVETAIL_CLIENT_CA", help="Only clients with a certificate of this CA.")
]
ModeOpt = Annotated[
    Mode, typer.Option(envvar="DOVETAIL_MODE", help="Allocate devices, or score nodes for a scheduler that does.")
]
DriverOpt = Annotated[
    list[str] | None,
    typer.Option(
        envvar="DOVETAIL_DRIVER", help="DRA driver whose devices to allocate; repeat. Default: gpu.dovetail.dev."
    ),
]
IgnoreTaintOpt = Annotated[
    list[str] | None,
    typer.Option(
        envvar="DOVETAIL_IGNORE_TAINT",
        help="Key of a device taint that keeps off other schedulers, not us; repeat.",
    ),
]
PolicyOpt = Annotated[
    str | None,
    typer.Option(envvar="DOVETAIL_POLICY", help="What a decision optimises; see `simulate --help`."),
]
MixOpt = Annotated[
    Path | None,
    typer.Option(
        envvar="DOVETAIL_MIX",
        help="Demand to come: a workload or openb pod list (CSV). Default: learned from the pods.",
    ),
]
PlaceAllOpt = Annotated[
    bool, typer.Option("--place-all", envvar="DOVETAIL_PLACE_ALL", help="Decide for pods without devices too.")
]
SlackOpt = Annotated[
    str | None,
    typer.Option(
        envvar="DOVETAIL_SLACK",
        metavar="GPUS",
        help="Also offer nodes that cost so many GPUs of future demand more; kube-scheduler's scores choose.",
    ),
]
SchedulerNameOpt = Annotated[
    str, typer.Option(envvar="DOVETAIL_SCHEDULER_NAME", help="spec.schedulerName of the pods that are ours.")
]
LeaseOpt = Annotated[
    str | None,
    typer.Option(
        envvar="DOVETAIL_LEASE",
        metavar="NAMESPACE/NAME",
        help="Lease of our kube-scheduler: write only while it holds it. Needed with two replicas.",
    ),
]
IdentityOpt = Annotated[
    str | None,
    typer.Option(
        envvar="DOVETAIL_IDENTITY", help="Host name of our kube-scheduler, as the lease has it. Default: ours."
    ),
]
DecisionLogOpt = Annotated[
    Path | None, typer.Option(envvar="DOVETAIL_DECISION_LOG", help="Write every decision there, as JSON lines.")
]
DecisionLogMaxMibOpt = Annotated[
    int, typer.Option(envvar="DOVETAIL_DECISION_LOG_MAX_MIB", min=1, help="Size of a file before the next begins.")
]
LogLevelOpt = Annotated[LogLevel, typer.Option(envvar="DOVETAIL_LOG_LEVEL", help="From which level on to log.")]
