"""MPS control daemons, one for each GPU: started, found again after a restart of ours, asked, stopped.

A daemon leads a session of its own and outlives us where the process tree lets it. All of it lies in one folder,
`<state>/mps/<short id>`; no call waits longer than its time-out.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dra_driver.errors import PermanentError, RetryableError
from dra_driver.roots import Roots
from dra_driver.sharing import launch
from dra_driver.sharing.processes import Identity, holders, is_alive, kill, world
from dra_driver.sharing.programs import SHARED_MEMORY, ProgramError, Programs

PROGRAM = "nvidia-cuda-mps-control"
PIPE_DIRECTORY, LOG_DIRECTORY = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
PIPE_INSIDE, LOG_INSIDE = "/tmp/nvidia-mps", "/tmp/nvidia-mps-log"  # noqa: S108 - that /tmp is the program's own
"""Where a daemon with a root of its own has its folders."""
START_S, ANSWER_S, QUIT_S, END_S = 10.0, 2.0, 3.0, 2.0
"""How long a daemon may take to be ready, to answer, to quit by itself, to heed a signal."""
SLOW_S = 6.0
"""How long one that runs is asked again and again before it is taken to hang, and replaced."""
MAX_SOCKET_PATH = 107
LONGEST_SOCKET = "control_privileged"
"""The longest name that MPS gives a socket in its pipe directory."""
_TAIL = 400


@dataclass(frozen=True, slots=True)
class Places:
    """Files and folders of one daemon, as this process sees them."""

    home: Path
    shm: Path

    @property
    def pipe(self) -> Path:
        """Sockets and pipes: what its clients need."""
        return self.home / "pipe"

    @property
    def log(self) -> Path:
        """Logs of the daemon and its servers."""
        return self.home / "log"

    @property
    def identity(self) -> Path:
        """Which process it is."""
        return self.home / "daemon.json"

    @property
    def lock(self) -> Path:
        """Held by the daemon and by all that it starts."""
        return self.home / "lock"

    @property
    def output(self) -> Path:
        """What it prints."""
        return self.log / "output.log"


def places(roots: Roots, uuid: str) -> Places:
    """Return where the daemon of a GPU has its files."""
    short = hashlib.sha256(uuid.encode()).hexdigest()[:12]
    return Places(roots.state / "mps" / short, roots.dev_root / "dev/shm" / f"dovetail-mps-{short}")


class MpsDaemons:
    """The daemons of this node. One GPU at a time, as the locks of its callers see to; different GPUs at once."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._programs = Programs(roots.driver_root)

    def ensure(self, uuid: str) -> None:
        """Have the daemon of a GPU run and answer. Raises DeviceError."""
        where = places(self._roots, uuid)
        self._programs.find(PROGRAM)
        identity = _identity(where)
        # Its clients end with it: one that is only slow is waited for.
        if identity is not None and is_alive(identity) and _until(lambda: self._answers(where), SLOW_S):
            return
        with _all_ended(where):
            pass
        self._start(where, uuid)

    def is_ready(self, uuid: str) -> bool:
        """Whether the daemon of a GPU runs and answers."""
        where = places(self._roots, uuid)
        identity = _identity(where)
        return identity is not None and is_alive(identity) and self._answers(where)

    def stop(self, uuid: str) -> None:
        """End the daemon of a GPU, if there is one, and remove its folders. Raises RetryableError."""
        where = places(self._roots, uuid)
        identity = _identity(where)
        if identity is not None and is_alive(identity):
            with suppress(ProgramError, PermanentError):
                self._ask(where, "quit", QUIT_S)
        with _all_ended(where):
            for folder in (where.shm, where.home):
                _remove(folder)

    def _start(self, where: Places, uuid: str) -> None:
        _check_depth(where)
        for folder, mode in ((where.pipe, 0o755), (where.log, 0o755), (where.shm, 0o1777)):
            _make(folder, mode)
        variables = {
            PIPE_DIRECTORY: self._programs.place(where.pipe, PIPE_INSIDE),
            LOG_DIRECTORY: self._programs.place(where.log, LOG_INSIDE),
            "CUDA_VISIBLE_DEVICES": uuid,
        }
        binds = ((where.shm, SHARED_MEMORY), (where.pipe, PIPE_INSIDE), (where.log, LOG_INSIDE))
        note: launch.Note = {"lock": str(where.lock), "identity": str(where.identity), "world": world()}
        output = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        command = self._programs.command(PROGRAM, ("-f",), binds, note)
        try:
            pid = os.posix_spawn(
                command[0],
                command,
                self._programs.environment(variables),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(where.output), output, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as fault:
            raise ProgramError(PROGRAM, f"cannot be started ({fault.strerror})") from fault
        self._await(where, pid)

    def _await(self, where: Places, pid: int) -> None:
        """Wait until the daemon answers: the one that `pid` becomes, or another that was quicker."""
        until, pause, ours = time.monotonic() + START_S, 0.01, True
        while time.monotonic() < until:
            if self._answers(where):
                return
            ended, status = os.waitpid(pid, os.WNOHANG) if ours else (0, 0)
            if ended:
                ours = False
                code = os.waitstatus_to_exitcode(status)
                if code != launch.ALREADY:
                    raise ProgramError(PROGRAM, f"ended with code {code}", _tail(where))
            time.sleep(pause)
            pause = min(2 * pause, 0.2)
        said = _tail(where)
        with _all_ended(where):
            raise ProgramError(PROGRAM, f"does not answer after {START_S:g} s", said)

    def _answers(self, where: Places) -> bool:
        try:
            self._ask(where, "get_server_list", ANSWER_S)
        except (ProgramError, PermanentError):
            return False
        return True

    def _ask(self, where: Places, command: str, timeout_s: float) -> str:
        return self._programs.run(
            PROGRAM,
            (),
            timeout_s=timeout_s,
            variables={PIPE_DIRECTORY: self._programs.place(where.pipe, PIPE_INSIDE)},
            stdin=command + "\n",
            binds=((where.pipe, PIPE_INSIDE),),
        )


@contextmanager
def _all_ended(where: Places) -> Iterator[None]:
    """End every process of a daemon, and hold its lock so that none begins. Raises RetryableError.

    There may be servers of a daemon that died, and one that a driver began which was killed a moment ago.
    """
    identity = _identity(where)
    if identity is not None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            kill(identity, number)
            _until(lambda: not is_alive(identity), END_S)
    try:
        handle = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        # Without the folder nobody is left: who begins does not find it either, and ends.
        yield
        return
    except OSError as fault:
        raise RetryableError(f"cannot open {where.lock}: {fault.strerror}; is the disk full or read-only?") from fault
    try:
        if not _until(lambda: _locked(handle, where), END_S) or (identity is not None and is_alive(identity)):
            raise RetryableError(f"{PROGRAM}: processes that use {where.lock} do not end; does a call to the GPU hang?")
        where.identity.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def _locked(handle: int, where: Places) -> bool:
    """Take the lock, or kill who has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        for pid in set(holders(where.lock)) - {os.getpid()}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return False
    return True


def _until(true: Callable[[], bool], patience_s: float) -> bool:
    """Wait for something to be true, and return whether it is."""
    until, pause = time.monotonic() + patience_s, 0.005
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return True


# Made before there are threads: two that meet a type for the first time at once crash the process (msgspec 0.22).
_decode_identity = msgspec.json.Decoder(Identity).decode


def _check_depth(where: Places) -> None:
    """Raise PermanentError where a socket's path would be too long."""
    longest = len(os.fsencode(where.pipe / LONGEST_SOCKET))
    if longest > MAX_SOCKET_PATH:
        raise PermanentError(
            f"the folder {where.pipe} is too deep: sockets of MPS would have paths of {longest} bytes,"
            f" Unix takes {MAX_SOCKET_PATH}; choose a shorter --kubelet-root"
        )


def _identity(where: Places) -> Identity | None:
    """Return which process the daemon is; None where it was never noted, or not wholly."""
    try:
        return _decode_identity(where.identity.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


def _make(folder: Path, mode: int) -> None:
    """Make a folder, empty and with exactly this mode. One that is there stays: containers have it mounted."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
        for each in folder.iterdir():
            each.unlink() if not each.is_dir() or each.is_symlink() else shutil.rmtree(each)
    except OSError as fault:
        raise RetryableError(f"cannot make {folder}: {fault.strerror}; is the disk full or read-only?") from fault


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as fault:
        raise RetryableError(f"cannot remove {fault.filename or folder}: {fault.strerror}") from fault


def _tail(where: Places) -> str:
    """Return the end of what the daemon printed and logged."""
    found = b""
    for path in (where.log / "control.log", where.output):
        with suppress(OSError):
            found += path.read_bytes()[-_TAIL:]
    return found[-_TAIL:].decode(errors="replace")
