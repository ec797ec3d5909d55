"""`dovetail sandbox`: a real control plane with simulated GPU nodes on this machine, kept until `down`.

This module decodes options and prints; what starts programs is imported inside the commands.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.output import Column, OutputFormat, print_rows

if TYPE_CHECKING:
    from dovetail.sandbox_cmd_home import Home, Wish

EXIT_FAILED = 1
EXIT_NOT_RUNNING = 3
DEFAULT_REAL = "hgx-h100-8"
DEFAULT_NODES = "4xhgx-h100-8,2xa100-8-pcie-nvlink-pairs"
EXTRA = ("kubernetes", "trustme")
"""Packages that the extra `sandbox` brings."""
EXAMPLES = Path(__file__).parents[1] / "examples" / "sandbox"

HELP = """A real Kubernetes control plane on this machine, with simulated GPU nodes, to try things on.

Exit codes: 0 done; 1 it failed; 2 wrong usage; 3 it does not run, or a part of it ended (status). `kubectl` and `logs`
end as the program that they call.
"""

sandbox_app = typer.Typer(no_args_is_help=True, help=HELP)

Name = Annotated[
    str, typer.Option("--name", envvar="DOVETAIL_SANDBOX_NAME", help="Which sandbox, where you have several.")
]
Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="How the answer is printed.")]


@sandbox_app.command()
def up(
    *,
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="COUNTxMACHINE,...", help=f"Simulated nodes; names as in `topology list`; default {DEFAULT_NODES}."
        ),
    ] = None,
    real_node: Annotated[
        bool, typer.Option("--real-node", help="Also a real kubelet with containerd and our driver; needs root.")
    ] = False,
    real_machine: Annotated[
        str, typer.Option(metavar="MACHINE", help="Whose GPUs the real node has, simulated; as in `topology list`.")
    ] = DEFAULT_REAL,
    scheduler: Annotated[
        bool, typer.Option(help='Our scheduler, "dovetail", and its fence: no other gets devices of ours.')
    ] = True,
    name: Name = "default",
) -> None:
    """Build what is missing, start the sandbox, leave it running. Twice is fine."""
    with _faults_end():
        from dovetail.sandbox_cmd_gpus import known_machine, parse_nodes
        from dovetail.sandbox_cmd_home import Home, Wish
        from sandbox import rundir

        asked = parse_nodes(DEFAULT_NODES if nodes is None else nodes)
        known_machine("--real-machine", real_machine)
        wish = Wish(asked, real_machine if real_node else "", scheduler and _can_schedule())
        home = Home(name)
        with rundir.exclusive(f"up-{name}"):
            if home.is_up():
                _check_running(home, wish, any_wish=nodes is None and not real_node and scheduler)
            else:
                _start(home, wish)
        _advise(home)


@sandbox_app.command()
def down(*, name: Name = "default") -> None:
    """End the sandbox and remove everything of it; what a crash left goes too."""
    with _faults_end():
        from dovetail.sandbox_cmd_home import Home

        ended = Home(name).end()
    typer.echo(f"sandbox {name!r} is gone" if ended else f"sandbox {name!r} was not running")


@sandbox_app.command()
def status(*, name: Name = "default", output: Output = OutputFormat.TABLE) -> None:
    """Show components, process ids, memory, nodes and resource slices. Ends with 3 unless all components run."""
    with _faults_end():
        from dovetail.sandbox_cmd_home import Home
        from dovetail.sandbox_cmd_status import RUNNING, report

        facts = report(Home(name))
    _print_status(facts, output)
    if facts["state"] != RUNNING:
        raise typer.Exit(EXIT_NOT_RUNNING)


@sandbox_app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    }
)
def kubectl(context: typer.Context, *, name: Name = "default") -> None:
    """Run kubectl against the sandbox; all that follows is kubectl's own (--name must come first)."""
    with _faults_end():
        from dovetail.sandbox_cmd_home import Home
        from sandbox import tools

        kubeconfig = Home(name).kubeconfig()
        with _progress() as progress:
            program = tools.provide(["kubectl"], progress=progress)["kubectl"]
    os.environ["KUBECONFIG"] = str(kubeconfig)
    os.environ["KUBECACHEDIR"] = str(kubeconfig.parent / "kubectl-cache")  # goes with the sandbox
    os.execv(program, ["kubectl", *context.args])  # noqa: S606 - the user's own words


@sandbox_app.command()
def logs(
    component: Annotated[str, typer.Argument(help="As `status` names it, such as kube-scheduler or real-1/kubelet.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows, until the sandbox ends.")] = False,
    tail: Annotated[int, typer.Option(min=-1, help="Only so many last lines; -1: all.")] = -1,
    name: Name = "default",
) -> None:
    """Print the log of a component."""
    with _faults_end():
        from dovetail.sandbox_cmd_home import Home, supervisors
        from dovetail.sandbox_cmd_status import components
        from sandbox.errors import SandboxError

        files = {program.name: Path(program.log) for program in components(Home(name))}
        if component not in files:
            raise SandboxError(f"no component {component[:80]!r}; there are: {', '.join(files)}")
        log = files[component]
        ends_with = [f"--pid={pid}" for pid in supervisors(log.parents[1])][:1]
    # Numbers of tail(1): "+1" is the first line.
    argv = ["tail", "-n", "+1" if tail < 0 else str(tail), *(["-f", *ends_with] if follow else []), str(log)]
    os.execvp(argv[0], argv)  # noqa: S606 - our own words


@contextmanager
def _faults_end() -> Iterator[None]:
    """End with a message and EXIT_FAILED where the sandbox cannot do what it was asked for."""
    try:
        from sandbox.api import ApiFault, Unreachable, refusal
        from sandbox.errors import SandboxError

        try:
            yield
        except SandboxError as fault:
            typer.echo(f"dovetail: {fault}", err=True)
            raise typer.Exit(EXIT_FAILED) from fault
        except ApiFault as fault:
            typer.echo(f"dovetail: kube-apiserver refuses: {refusal(fault)}", err=True)
            raise typer.Exit(EXIT_FAILED) from fault
        except Unreachable as fault:
            typer.echo(f"dovetail: kube-apiserver does not answer: {fault}", err=True)
            raise typer.Exit(EXIT_FAILED) from fault
    except ModuleNotFoundError as fault:
        if fault.name not in EXTRA:
            raise
        typer.echo(f"dovetail: {fault.name} is missing; install: pip install 'dovetail[sandbox]'", err=True)
        raise typer.Exit(EXIT_FAILED) from fault


@contextmanager
def _progress() -> Iterator[Any]:
    from rich.console import Console

    from sandbox.provision import shown

    with shown(Console(stderr=True, highlight=False)) as progress:
        yield progress


def _start(home: Home, wish: Wish) -> None:
    import time

    start_s = time.monotonic()

    def step(done: str) -> None:
        typer.echo(f"{time.monotonic() - start_s:6.1f} s  {done}", err=True)

    with _progress() as progress:
        home.provide(wish, progress)
    home.start(wish, step)


def _can_schedule() -> bool:
    """Whether what our scheduler imports is installed; says so where it is not."""
    from dovetail.extras import INSTALL_CLUSTER
    from dovetail.sandbox_cmd_scheduler import lacks

    missing = lacks()
    if missing:
        names = ", ".join(missing)
        typer.echo(f"dovetail: without our scheduler, as {names} is missing; install: {INSTALL_CLUSTER}", err=True)
    return not missing


def _check_running(home: Home, wish: Wish, *, any_wish: bool) -> None:
    """Say that it runs. Raises SandboxError when it is not what is asked for now, or broken."""
    from dovetail.sandbox_cmd_status import components
    from sandbox.errors import SandboxError

    has = home.wish()
    again = f"dovetail sandbox down --name {home.name}"
    if not any_wish and has != wish:
        raise SandboxError(f"sandbox {home.name!r} runs already, with {has}; end it first: {again}")
    ended = [program.name for program in components(home) if program.pid is None]
    if ended:
        raise SandboxError(f"sandbox {home.name!r} runs already, but not {', '.join(ended)}; end it first: {again}")
    typer.echo(f"sandbox {home.name!r} runs already, with {has}", err=True)


def _advise(home: Home) -> None:
    option = "" if home.name == "default" else f" --name {home.name}"
    ours = _our_name()
    kubectl = f"{ours} sandbox kubectl{option}"
    examples = EXAMPLES.relative_to(Path.cwd()) if EXAMPLES.is_relative_to(Path.cwd()) else EXAMPLES
    lines = [
        f"kubeconfig: {home.kubeconfig()}",
        "",
        "Try:",
        f"  {kubectl} get nodes -L node.kubernetes.io/instance-type",
        f"  {kubectl} get resourceslices,deviceclasses",
    ]
    if EXAMPLES.is_dir():
        lines += [f"  {kubectl} apply -f {examples}/whole-gpu.yaml   # and the others there"]
    if home.wish().real_node and EXAMPLES.is_dir():
        real = "gpu-container" if home.wish().scheduler else "container"
        lines += [f"  {kubectl} apply -f {examples}/{real}.yaml   # a real container, on the real node"]
        lines += [f"  {kubectl} logs -f {real}"]
    lines += [f"  {kubectl} get pods,resourceclaims -o wide"]
    if home.wish().scheduler:
        lines += ["", 'Pods get GPUs from the scheduler "dovetail" alone (spec.schedulerName), as the examples do.']
    lines += ["", f"End it: {ours} sandbox down{option}"]
    typer.echo("\n".join(lines))


def _our_name() -> str:
    """Return what a person types to call this program: by `make`, it is not in the PATH."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m dovetail"
    found = shutil.which(called.name)
    return called.name if found and Path(found).resolve() == called.resolve() else str(called)


def _print_status(facts: dict[str, Any], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        import json

        typer.echo(json.dumps(facts, indent=2))
        return
    if output is OutputFormat.YAML:
        import yaml

        typer.echo(yaml.safe_dump(facts, sort_keys=False), nl=False)
        return
    columns = [Column("name", "COMPONENT"), Column("pid", "PID"), Column("memory_mib", "MEMORY MIB")]
    rows = [{"state": _state(program), **program} for program in facts["components"]]
    if output is OutputFormat.CSV or rows:
        print_rows(rows, [*columns, Column("state", "STATE")], output)
    if output is OutputFormat.TABLE:
        typer.echo("\n".join(_summary(facts)))


def _state(program: dict[str, Any]) -> str:
    return "runs" if program["pid"] is not None else f"ended with {program['returncode']}"


def _summary(facts: dict[str, Any]) -> Iterator[str]:
    if not facts["components"]:
        yield f"sandbox {facts['name']!r} does not run"
        return
    yield ""
    yield f"sandbox {facts['name']!r}: {facts['state']}, Kubernetes {facts['kubernetes']}, {facts['memory_mib']} MiB"
    yield f"kubeconfig: {facts['kubeconfig']}"
    yield from facts["faults"]
    for group in facts.get("nodes", ()):
        yield f"nodes: {group['nodes']} x {group['machine']}, {group['ready']} ready"
    if "resource_slices" in facts:
        yield f"resource slices: {facts['resource_slices']}, with {facts['devices']} devices"
