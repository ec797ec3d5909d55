"""The front door: what commands there are, and what an exit code means.

0 yes; 1 bad input or a failure; 2 wrong usage; 3 does not fit, an objective was missed, or a sandbox does not run;
130 interrupted.
Command modules must load fast: what computes is imported inside the commands.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import dovetail
from dovetail.bench_cmd import bench_app
from dovetail.bench_scale_cmd import scale
from dovetail.config_cmd import config_app
from dovetail.driver_cmd import HELP as DRIVER_HELP
from dovetail.driver_cmd import driver
from dovetail.explain_pod_cmd import explain_pod
from dovetail.fit_cmd import explain, fit
from dovetail.sandbox_cmd import sandbox_app
from dovetail.scheduler_cmd import HELP as SCHEDULER_HELP
from dovetail.scheduler_cmd import scheduler
from dovetail.simulate_cmd import simulate
from dovetail.snapshot_cmd import snapshot
from dovetail.topology_cmd import mig_app, topology_app
from simulator.errors import RunFailedError
from topology.errors import InvalidInputError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
PLANNER_MODULES = ("jinja2", "matplotlib", "networkx", "numba", "scipy")
"""What the extra `planner` brings; a node that only runs the driver lives without."""

app = typer.Typer(
    name="dovetail",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(simulate)
app.command()(fit)
app.command()(snapshot)
app.command(help=SCHEDULER_HELP)(scheduler)
app.command(help=DRIVER_HELP)(driver)
bench_app.command()(scale)
explain_app = typer.Typer(name="explain", invoke_without_command=True)
explain_app.callback()(explain)
explain_app.command("pod")(explain_pod)
app.add_typer(explain_app, name="explain")
app.add_typer(bench_app, name="bench")
app.add_typer(config_app, name="config")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(topology_app, name="topology")
app.add_typer(mig_app, name="mig")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - the signature typer calls
    if wanted:
        typer.echo(f"dovetail {dovetail.__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Decide where GPU work runs on Kubernetes, down to the exact devices, and plan capacity with the same code."""


def main() -> None:
    """Run the command line; input that cannot be used ends with one message and code 1, never a traceback."""
    try:
        app()
    except (InvalidInputError, RunFailedError) as error:
        typer.echo(f"dovetail: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except ModuleNotFoundError as error:
        if error.name not in PLANNER_MODULES:
            raise
        typer.echo(f"dovetail: {error.name} is missing; install the planner: pip install 'dovetail[planner]'", err=True)
        sys.exit(EXIT_FAILED)
    except OSError as error:
        # What reads files names them in errors of its own; what is left is an answer that cannot be written.
        what = f"{error.filename}: " if error.filename else "the answer cannot be written: "
        typer.echo(f"dovetail: {what}{error.strerror or error}", err=True)
        _drop_output()
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _drop_output() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain once more as it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except OSError:
        return
