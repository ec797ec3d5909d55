"""`dovetail driver`: the DRA driver of one node, until it is told to end.

This module decodes options; what drives GPUs is imported when the command runs.
"""

from __future__ import annotations

from pathlib import Path

import typer

import dovetail
from dovetail.driver_options import (
    CdiRootOpt,
    DevRootOpt,
    DriverRootOpt,
    EvictOpt,
    HostPrefixOpt,
    KubeconfigOpt,
    KubeletRootOpt,
    ListenOpt,
    LogLevel,
    LogLevelOpt,
    Mig,
    MigOpt,
    NodeNameOpt,
    PodUidOpt,
    ProcRootOpt,
    SharingOpt,
    SysRootOpt,
)
from dovetail.extras import EXIT_FAILED, missing_of_driver

HELP = """Publish the GPUs of this node as DRA devices, and prepare what claims were given of them.

Runs until SIGTERM or Ctrl-C, as root. What it prepared stays prepared. Every option has an environment variable.

Exit codes: 0 it was told to end; 1 it failed, with a message; 2 wrong usage.
"""


def driver(  # noqa: D103 - its help is HELP
    *,
    node_name: NodeNameOpt,
    kubeconfig: KubeconfigOpt = None,
    kubelet_root: KubeletRootOpt = Path("/var/lib/kubelet"),
    cdi_root: CdiRootOpt = Path("/var/run/cdi"),
    driver_root: DriverRootOpt = Path("/"),
    dev_root: DevRootOpt = Path("/"),
    proc_root: ProcRootOpt = Path("/proc"),
    sys_root: SysRootOpt = Path("/sys"),
    host_prefix: HostPrefixOpt = Path("/"),
    mig: MigOpt = Mig.DYNAMIC,
    sharing: SharingOpt = None,
    evict: EvictOpt = False,
    pod_uid: PodUidOpt = "",
    listen: ListenOpt = "127.0.0.1:12391",
    log_level: LogLevelOpt = LogLevel.INFO,
) -> None:
    try:
        from dra_driver import app
        from dra_driver.policy import MigPolicy
        from dra_driver.settings import Settings, make_roots, read_listen, read_sharing
        from kube import logs

        logs.set_up(log_level)
        roots = make_roots(
            kubelet_root,
            cdi=cdi_root,
            driver_root=driver_root,
            dev_root=dev_root,
            proc=proc_root,
            sys=sys_root,
            host_prefix=host_prefix,
        )
        failure = app.main(
            Settings(
                node=node_name,
                kubeconfig=kubeconfig,
                roots=roots,
                pod_uid=pod_uid,
                mig=MigPolicy(mig),
                sharing=read_sharing(sharing),
                evict=evict,
                listen=read_listen(listen),
                version=dovetail.__version__,
            )
        )
    except ModuleNotFoundError as error:
        missing_of_driver(error)
    if failure:
        typer.echo(f"dovetail: {failure}", err=True)
        raise typer.Exit(EXIT_FAILED)
