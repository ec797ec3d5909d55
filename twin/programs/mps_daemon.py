"""The process of an MPS control daemon: pipe directory, control socket, server processes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from twin.codes import Refused
from twin.mps import CommandError, answer, daemon_of, gpus_of, require_startable, visible
from twin.processes import attach
from twin.state import MpsDaemon, Process, State
from twin.store import Store

_PR_SET_PDEATHSIG = 1
_SERVER_MEMORY_MIB = 30


def start(store: Store, pipe: Path, log: Path, devices: str | None, *, background: bool) -> int:
    """Run the daemon of a pipe directory; in the background it returns as soon as commands are taken."""
    try:
        pipe.mkdir(exist_ok=True)
        log.mkdir(exist_ok=True)
        lock = os.open(pipe / "control_lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as fault:
        print(f"Cannot use {fault.filename}: {fault.strerror}", file=sys.stderr)
        return 1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("An instance of this daemon is already running", file=sys.stderr)
        return 1
    if background:
        return _in_background(store, pipe, log, devices)
    return Daemon(store, pipe, log, devices).run(-1)


def _in_background(store: Store, pipe: Path, log: Path, devices: str | None) -> int:
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        return 0 if os.read(ready, 1) else 1
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(ready)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os._exit(Daemon(store, pipe, log, devices).run(tell))


class Daemon:
    """One control daemon; what it knows is in the twin's state, so that tests see it."""

    def __init__(self, store: Store, pipe: Path, log: Path, devices: str | None) -> None:
        self._store = store
        self._pipe = pipe.resolve()
        self._devices = devices
        self._log: TextIO = (log / "control.log").open("a", buffering=1)
        self._ends = False

    def run(self, tell: int) -> int:
        """Serve commands until `quit` or a signal; writes a byte to `tell` when it is ready."""
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        os.chdir(self._pipe)
        Path("control").unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("control")
            listener.listen(16)
            Path("nvidia-cuda-mps-control.pid").write_text(f"{os.getpid()}\n")
            self._enlist()
            self._log.write("Start\n")
            if tell >= 0:
                os.write(tell, b"1")
                os.close(tell)
            while not self._ends and woken not in select.select([listener.fileno(), woken], [], [])[0]:
                self._serve(listener)
        self._stop()
        return 0

    def _enlist(self) -> None:
        with self._store.change() as state:
            forget_dead(state)
            state.mps.append(
                MpsDaemon(
                    pipe_directory=str(self._pipe),
                    pid=os.getpid(),
                    start_time=started(os.getpid()) or 0,
                    gpus=visible(self._store.facts, state, self._devices),
                )
            )

    def _serve(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            line = connection.recv(4096).decode().strip()
            self._log.write(f"{line}\n")
            try:
                said, refused = self._command(line), 0
            except (CommandError, Refused) as fault:
                said, refused = str(fault), 1
                self._log.write(f"{fault}\n")
            with suppress(OSError):
                connection.sendall(f"{refused}\n{said}".encode())

    def _command(self, line: str) -> str:
        if line.split()[:1] == ["quit"]:
            self._ends = True
            return ""
        if line.split()[:1] == ["start_server"]:
            return self._start_server()
        with self._store.change() as state:
            forget_dead(state)
            return answer(self._store.facts, state, self._mine(state), line)

    def _mine(self, state: State) -> MpsDaemon:
        found = daemon_of(state, str(self._pipe))
        if found is None:
            raise CommandError("This daemon is not known: the machine was booted anew")
        return found

    def _start_server(self) -> str:
        with self._store.change() as state:
            daemon = self._mine(state)
            if daemon.servers:
                return ""
            require_startable(self._store.facts, state, daemon)
            pid = _server()
            try:
                for gpu, ids in gpus_of(self._store.facts, state, daemon):
                    at = ids or (None, None)
                    attach(
                        state,
                        gpu,
                        Process(
                            pid=pid,
                            memory_mib=_SERVER_MEMORY_MIB,
                            gpu_instance=at[0],
                            compute_instance=at[1],
                        ),
                    )
            except Refused:
                os.kill(pid, signal.SIGKILL)
                raise
            daemon.servers.append(pid)
        return ""

    def _stop(self) -> None:
        with self._store.change() as state:
            daemon = daemon_of(state, str(self._pipe))
            for pid in daemon.servers if daemon else ():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                for gpu in state.gpus:
                    gpu.processes = [one for one in gpu.processes if one.pid != pid]
            state.mps = [one for one in state.mps if one is not daemon]
        for name in ("control", "nvidia-cuda-mps-control.pid"):
            Path(name).unlink(missing_ok=True)
        self._log.write("Exit\n")


def _server() -> int:
    """Start a server process: it holds the GPUs, and ends with its daemon."""
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Else the client would wait for an end of its connection, and the next daemon for the lock.
    os.closerange(3, 1 << 16)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    while True:
        signal.pause()


def forget_dead(state: State) -> None:
    """Forget daemons that were killed, with their servers: the driver frees a GPU when its process is gone."""
    dead = [one for one in state.mps if started(one.pid) != one.start_time]
    servers = {pid for one in dead for pid in one.servers}
    for gpu in state.gpus:
        gpu.processes = [one for one in gpu.processes if one.pid not in servers]
    state.mps = [one for one in state.mps if one not in dead]


def started(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
