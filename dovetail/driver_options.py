"""The options of `dovetail driver`, each with an environment variable."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Mig(StrEnum):
    """As dra_driver.policy.MigPolicy."""

    DYNAMIC = "dynamic"
    AS_FOUND = "as-found"
    DISABLED = "disabled"


class LogLevel(StrEnum):
    """From which level on lines are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_MIG_HELP = (
    "dynamic: switch MIG as claims ask, where no reset is needed; as-found: never switch; disabled: no partitions."
)
NodeNameOpt = Annotated[
    str, typer.Option(envvar="DOVETAIL_NODE_NAME", metavar="NAME", help="metadata.name of the Node that this runs on.")
]
KubeconfigOpt = Annotated[
    Path | None,
    typer.Option(envvar="DOVETAIL_KUBECONFIG", help="Default: $KUBECONFIG, ~/.kube/config, the Pod's service account."),
]
KubeletRootOpt = Annotated[
    Path,
    typer.Option(envvar="DOVETAIL_KUBELET_ROOT", help="The kubelet's --root-dir, at its own path."),
]
CdiRootOpt = Annotated[
    Path, typer.Option(envvar="DOVETAIL_CDI_ROOT", help="Folder of CDI files: one of the runtime's cdi_spec_dirs.")
]
DriverRootOpt = Annotated[
    Path,
    typer.Option(envvar="DOVETAIL_DRIVER_ROOT", help="Where NVIDIA's driver is, such as /run/nvidia/driver."),
]
DevRootOpt = Annotated[Path, typer.Option(envvar="DOVETAIL_DEV_ROOT", help="What /dev/nvidia0 is below.")]
ProcRootOpt = Annotated[Path, typer.Option(envvar="DOVETAIL_PROC_ROOT", help="The host's /proc.")]
SysRootOpt = Annotated[Path, typer.Option(envvar="DOVETAIL_SYS_ROOT", help="The host's /sys.")]
HostPrefixOpt = Annotated[
    Path,
    typer.Option(
        envvar="DOVETAIL_HOST_PREFIX",
        help="Where the host's / is mounted here; taken off the paths that are written into CDI files.",
    ),
]
MigOpt = Annotated[
    Mig,
    typer.Option(
        envvar="DOVETAIL_MIG",
        help=_MIG_HELP,
    ),
]
SharingOpt = Annotated[
    list[str] | None,
    typer.Option(
        envvar="DOVETAIL_SHARING",
        metavar="KIND",
        help="Offer GPUs in shares: time-slicing, mps, or none; repeat. Default: time-slicing and mps.",
    ),
]
EvictOpt = Annotated[
    bool,
    typer.Option(
        envvar="DOVETAIL_EVICT",
        help="Evict pods (NoExecute) from GPUs that are lost, or need a reset or a reboot.",
    ),
]
PodUidOpt = Annotated[
    str,
    typer.Option(
        envvar="DOVETAIL_POD_UID",
        metavar="UID",
        help="metadata.uid of our Pod: lets an old and a new instance live side by side in a rolling update.",
    ),
]
ListenOpt = Annotated[
    str, typer.Option(envvar="DOVETAIL_LISTEN", metavar="HOST:PORT", help="Where to answer probes and metrics.")
]
LogLevelOpt = Annotated[LogLevel, typer.Option(envvar="DOVETAIL_LOG_LEVEL", help="From which level on to log.")]
