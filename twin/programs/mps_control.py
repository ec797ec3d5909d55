"""`nvidia-cuda-mps-control`: with `-d` or `-f` the daemon, else a client that sends it commands from stdin."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from twin.nvml.faults import Faults
from twin.programs import mps_daemon
from twin.store import Store

NAME = "nvidia-cuda-mps-control"
PIPE_DIRECTORY = "/tmp/nvidia-mps"  # noqa: S108 - the real default
LOG_DIRECTORY = "/var/log/nvidia-mps"


def main(folder: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Be the daemon or its client on the twin in `folder`; returns the exit code."""
    store = Store(Path(folder))
    pipe = Path(environment.get("CUDA_MPS_PIPE_DIRECTORY") or PIPE_DIRECTORY)
    faults = Faults(store)
    fault = faults.due(NAME, ())
    if fault is not None and (code := faults.act(fault)) is not None:
        print("An error occurred", file=sys.stderr)
        return code
    if "-d" in arguments or "-f" in arguments:
        log = Path(environment.get("CUDA_MPS_LOG_DIRECTORY") or LOG_DIRECTORY)
        devices = environment.get("CUDA_VISIBLE_DEVICES")
        return mps_daemon.start(store, pipe, log, devices, background="-d" in arguments)
    if arguments:
        print(f"usage: {NAME} [-d | -f]", file=sys.stderr)
        return 1
    return _send(pipe, sys.stdin)


def _send(pipe: Path, lines: object) -> int:
    """Send each line; print what comes back. Exit code 1 where there is no daemon, or it refused one."""
    worst = 0
    for line in lines:  # type: ignore[attr-defined]
        if not line.strip():
            continue
        try:
            text = _ask(pipe, line.strip())
        except OSError:
            print("Cannot find MPS control daemon process")
            return 1
        refused, _, said = text.partition("\n")
        if said:
            print(said, file=sys.stderr if refused != "0" else sys.stdout, flush=True)
        worst = max(worst, int(refused))
    return worst


def _ask(pipe: Path, line: str) -> str:
    """Return the daemon's answer: a line 0 or 1, then what it says."""
    directory = os.open(pipe, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            # The path through the descriptor is short, however deep the folder.
            connection.connect(f"/proc/self/fd/{directory}/control")
            connection.sendall(line.encode())
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
    finally:
        os.close(directory)
    if not parts:
        raise ConnectionError("the daemon ended")
    return b"".join(parts).decode()
