"""What an MPS control daemon knows and answers: pure rules over the state, by its pipe directory."""

from __future__ import annotations

import re
from collections.abc import Callable

from twin.codes import Code, Refused
from twin.facts import GpuFacts, MachineFacts
from twin.state import MpsDaemon, State

_LIMIT = re.compile(r"(\d+)([GMgm])?")
_BEFORE_VOLTA = ("Kepler", "Maxwell", "Pascal")


class CommandError(Exception):
    """A command that the daemon refuses; the text is what it prints."""


def visible(facts: MachineFacts, state: State, devices: str | None) -> list[str]:
    """Return UUIDs that CUDA_VISIBLE_DEVICES names (indices, UUIDs, MIG UUIDs), all GPUs where it is unset.

    As in CUDA the list ends at the first that does not exist.
    """
    if devices is None:
        return [gpu.uuid for gpu in facts.gpus]
    migs = [ci.uuid for gpu in state.gpus for one in gpu.instances for ci in one.compute]
    known = {str(gpu.index): gpu.uuid for gpu in facts.gpus} | {name: name for name in migs}
    known |= {gpu.uuid: gpu.uuid for gpu in facts.gpus}
    found = []
    for name in devices.split(","):
        if name.strip() not in known:
            break
        found.append(known[name.strip()])
    return found


def daemon_of(state: State, pipe_directory: str) -> MpsDaemon | None:
    """Return the daemon with this pipe directory."""
    return next((one for one in state.mps if one.pipe_directory == pipe_directory), None)


def gpus_of(facts: MachineFacts, state: State, daemon: MpsDaemon) -> list[tuple[GpuFacts, tuple[int, int] | None]]:
    """Return the GPUs of a daemon, each with the ids of the MIG device where it is one."""
    found: list[tuple[GpuFacts, tuple[int, int] | None]] = []
    for facts_, gpu in zip(facts.gpus, state.gpus, strict=True):
        if facts_.uuid in daemon.gpus:
            found.append((facts_, None))
        migs = [(one.id, ci.id) for one in gpu.instances for ci in one.compute if ci.uuid in daemon.gpus]
        found += [(facts_, ids) for ids in migs]
    return found


def answer(facts: MachineFacts, state: State, daemon: MpsDaemon, line: str) -> str:
    """Return what the daemon prints for a command; CommandError where it refuses. Servers are started elsewhere."""
    command, *arguments = line.split()
    handler = _COMMANDS.get(command)
    if handler is None:
        raise CommandError(f"Unknown command {command}")
    try:
        return handler(facts, state, daemon, arguments)
    except (IndexError, ValueError) as fault:
        raise CommandError(f"Invalid arguments to {command}") from fault


def _require_volta(facts: MachineFacts, state: State, daemon: MpsDaemon) -> None:
    if any(gpu.architecture in _BEFORE_VOLTA for gpu, _ in gpus_of(facts, state, daemon)):
        raise CommandError("Not supported on GPUs before Volta")


def _set_percentage(facts: MachineFacts, state: State, daemon: MpsDaemon, arguments: list[str]) -> str:
    _require_volta(facts, state, daemon)
    percentage = float(arguments[0])
    if not 0 < percentage <= 100:
        raise CommandError(f"Invalid active thread percentage {arguments[0]}")
    daemon.active_thread_percentage = percentage
    return f"{percentage}"


def _get_percentage(_facts: MachineFacts, _state: State, daemon: MpsDaemon, _arguments: list[str]) -> str:
    return f"{daemon.active_thread_percentage}"


def _device(daemon: MpsDaemon, name: str) -> str:
    """Return the UUID of a device named by its number among those of the daemon, or by UUID."""
    if name in daemon.gpus:
        return name
    if name.isdigit() and int(name) < len(daemon.gpus):
        return daemon.gpus[int(name)]
    raise CommandError(f"Invalid device {name}")


def _set_limit(facts: MachineFacts, state: State, daemon: MpsDaemon, arguments: list[str]) -> str:
    _require_volta(facts, state, daemon)
    device, limit = _device(daemon, arguments[0]), arguments[1]
    if not _LIMIT.fullmatch(limit):
        raise CommandError(f"Invalid memory limit {limit}")
    daemon.pinned_memory_limits[device] = limit
    return ""


def _get_limit(_facts: MachineFacts, _state: State, daemon: MpsDaemon, arguments: list[str]) -> str:
    return daemon.pinned_memory_limits.get(_device(daemon, arguments[0]), "")


def _servers(_facts: MachineFacts, _state: State, daemon: MpsDaemon, _arguments: list[str]) -> str:
    return "\n".join(map(str, daemon.servers))


def _server_status(_facts: MachineFacts, _state: State, daemon: MpsDaemon, arguments: list[str]) -> str:
    if int(arguments[0]) not in daemon.servers:
        raise CommandError(f"Server {arguments[0]} not found")
    return "ACTIVE"


def _clients(facts: MachineFacts, state: State, daemon: MpsDaemon, _arguments: list[str]) -> str:
    pids = []
    for gpu, ids in gpus_of(facts, state, daemon):
        at = ids or (None, None)
        mine = [one for one in state.gpus[gpu.index].processes if (one.gpu_instance, one.compute_instance) == at]
        pids += [one.pid for one in mine if one.kind == "mps" and one.pid not in daemon.servers]
    return "\n".join(map(str, pids))


Handler = Callable[[MachineFacts, State, MpsDaemon, list[str]], str]
_COMMANDS: dict[str, Handler] = {
    "get_server_list": _servers,
    "get_server_status": _server_status,
    "get_client_list": _clients,
    "set_default_active_thread_percentage": _set_percentage,
    "get_default_active_thread_percentage": _get_percentage,
    "set_default_device_pinned_mem_limit": _set_limit,
    "get_default_device_pinned_mem_limit": _get_limit,
}


def require_startable(facts: MachineFacts, state: State, daemon: MpsDaemon) -> None:
    """Refuse a server where CUDA would: no device, MIG without a MIG device, PROHIBITED, another process has it."""
    devices = gpus_of(facts, state, daemon)
    if not devices:
        raise Refused(Code.NOT_FOUND, "no CUDA-capable device is visible")
    for gpu, ids in devices:
        if state.gpus[gpu.index].mig_enabled and ids is None:
            raise Refused(Code.NOT_SUPPORTED, "MIG is on: name a MIG device")
