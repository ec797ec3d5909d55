"""`python -m twin`: make a twin, run a program on it, bring trouble, look at it."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from topology.errors import InvalidInputError
from twin.codes import Refused
from twin.control import Twin

Handler = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 refused, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    at = given.index("--") if "--" in given else len(given)
    asked = _parser().parse_args(given[:at])
    asked.rest = given[at + 1 :]
    handler: Handler = asked.handler
    try:
        return handler(asked)
    except (Refused, InvalidInputError, FileExistsError, FileNotFoundError, KeyError) as fault:
        print(f"twin: {fault}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m twin", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_making(commands)
    _add_trouble(commands)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, handler: Handler, text: str) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("state", type=Path, metavar="STATE", help="folder of the twin")
    parser.set_defaults(handler=handler)
    return parser


def _add_making(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    new = _command(commands, "new", _new, "make a twin")
    new.add_argument("--machine", required=True, help="id in the catalog, such as hgx-h100-8")
    new.add_argument("--node", default="twin", help="UUIDs come from this name")
    new.add_argument("--tree", type=Path, help="write the host tree here")
    new.add_argument("--mig", action="store_true", help="MIG mode is on from the start")
    new.add_argument("--driver-version")
    new.add_argument("--lacks", action="append", default=[], help="an NVML function that this driver has not")
    new.add_argument("--no-reset", action="store_true", help="GPUs cannot be reset, as in many clouds")
    new.add_argument("--vgpu-guest", action="store_true")
    tree = _command(commands, "tree", _tree, "write the host tree")
    tree.add_argument("root", type=Path)
    _command(commands, "run", _run, "run a module on the twin: run STATE -- MODULE ARGS...")
    show = _command(commands, "show", _show, "print the machine")
    show.add_argument("-o", "--output", choices=("json", "yaml"), default="yaml")


def _add_trouble(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    xid = _command(commands, "xid", _xid, "report an XID")
    xid.add_argument("gpu")
    xid.add_argument("number", type=int)
    xid.add_argument("--mig", type=_pair, help="GI/CI of the MIG device")
    xid.add_argument("--recovery-action", type=int, default=0)
    for name, text in (("lose", "let a GPU fall off the bus"), ("recover", "bring it back"), ("reset", "reset it")):
        _command(commands, name, _one_gpu(name), text).add_argument("gpu")
    _command(commands, "reboot", _reboot, "boot the node anew")
    process = _command(commands, "process", _process, "let a process use a GPU, or leave all")
    process.add_argument("gpu", nargs="?")
    process.add_argument("--pid", type=int, required=True)
    process.add_argument("--mig", type=_pair, help="GI/CI of the MIG device")
    process.add_argument("--gone", action="store_true")
    fault = _command(commands, "fault", _fault, "plan a fault")
    fault.add_argument("function", nargs="?", help="NVML function without version suffix, or a program's name")
    fault.add_argument("--code", type=int)
    fault.add_argument("--nth", type=int, default=1)
    fault.add_argument("--times", type=int, default=1, help="-1: always")
    fault.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    for flag, text in (("hang", "until cleared"), ("kill", "SIGKILL"), ("after", "the call takes effect first")):
        fault.add_argument(f"--{flag}", action="store_true", help=text)
    fault.add_argument("--clear", action="store_true", help="forget all faults")
    link = _command(commands, "link", _link, "take an NVLink down or up")
    link.add_argument("gpu")
    link.add_argument("link", type=int)
    link.add_argument("to", choices=("up", "down"))


def _pair(text: str) -> tuple[int, int]:
    instance, _, compute = text.partition("/")
    return int(instance), int(compute)


def _gpu(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _new(asked: argparse.Namespace) -> int:
    named = {"driver_version": asked.driver_version} if asked.driver_version else {}
    twin = Twin.create(
        asked.state,
        asked.machine,
        node=asked.node,
        mig_enabled=asked.mig,
        lacks=asked.lacks,
        reset_supported=not asked.no_reset,
        vgpu_guest=asked.vgpu_guest,
        **named,
    )
    if asked.tree:
        twin.write_tree(asked.tree)
    return 0


def _tree(asked: argparse.Namespace) -> int:
    Twin.open(asked.state).write_tree(asked.root)
    return 0


def _run(asked: argparse.Namespace) -> int:
    if not asked.rest:
        print("twin: say which module to run: run STATE -- MODULE ARGS...", file=sys.stderr)
        return 2
    with Twin.open(asked.state).install():
        sys.argv = list(asked.rest)
        runpy.run_module(asked.rest[0], run_name="__main__", alter_sys=True)
    return 0


def _show(asked: argparse.Namespace) -> int:
    twin = Twin.open(asked.state)
    picture = {"facts": msgspec.to_builtins(twin.facts), "state": msgspec.to_builtins(twin.state)}
    if asked.output == "json":
        print(msgspec.json.encode(picture).decode())
    else:
        import yaml

        print(yaml.safe_dump(picture, sort_keys=False), end="")
    return 0


def _xid(asked: argparse.Namespace) -> int:
    twin = Twin.open(asked.state)
    twin.xid(_gpu(asked.gpu), asked.number, mig_device=asked.mig, recovery_action=asked.recovery_action)
    return 0


def _one_gpu(method: str) -> Handler:
    def handler(asked: argparse.Namespace) -> int:
        getattr(Twin.open(asked.state), method)(_gpu(asked.gpu))
        return 0

    return handler


def _reboot(asked: argparse.Namespace) -> int:
    Twin.open(asked.state).reboot()
    return 0


def _process(asked: argparse.Namespace) -> int:
    twin = Twin.open(asked.state)
    if asked.gone:
        twin.process_gone(asked.pid)
    else:
        twin.process(_gpu(asked.gpu or "0"), asked.pid, mig_device=asked.mig)
    return 0


def _fault(asked: argparse.Namespace) -> int:
    twin = Twin.open(asked.state)
    if asked.clear:
        twin.clear_faults()
    if asked.function:
        twin.fault(
            asked.function,
            code=asked.code,
            nth=asked.nth,
            times=asked.times,
            delay_s=asked.delay,
            hang=asked.hang,
            kill=asked.kill,
            after=asked.after,
        )
    return 0


def _link(asked: argparse.Namespace) -> int:
    Twin.open(asked.state).link(_gpu(asked.gpu), asked.link, up=asked.to == "up")
    return 0
