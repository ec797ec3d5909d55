"""A process that outlives us, told from any other that gets its number later.

Its identity is its pid with its start time, in a pid namespace, in a boot. What is of another namespace or boot is gone
as far as we can tell: a container takes all its processes with it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

_PROC = Path("/proc")
"""Ours, not the host's: it is our own child."""
_ZOMBIE = {"Z", "X"}


class Identity(msgspec.Struct, frozen=True):
    """A process, and the group and session that it leads."""

    pid: int
    start_ticks: int
    """Clock ticks since boot, field 22 of /proc/<pid>/stat."""
    world: str
    """Boot id and pid namespace."""


def is_alive(process: Identity) -> bool:
    """Whether it runs. A zombie does not; if it is our child it is taken from the process table."""
    if process.world != world():
        return False
    if _started(process.pid) != process.start_ticks:
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
        return False
    return True


def kill(process: Identity, number: signal.Signals) -> None:
    """Send a signal to the process and its group; also to a group that has lost its leader, and never to another's."""
    if process.world != world():
        return
    # The kernel gives no new process a number that a group still has: without a leader, the group is the old one.
    if _started(process.pid) in (None, process.start_ticks):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def holders(path: Path) -> Sequence[int]:
    """Return pids of processes that have a file open."""
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return ()
    found = []
    for folder in _PROC.glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(_is(each, wanted) for each in folder.iterdir()):
                found.append(int(folder.parent.name))
    return found


def world() -> str:
    """Return what pids are good for: this boot, this namespace."""
    return f"{boot_id()} {(_PROC / 'self/ns/pid').readlink()}"


def boot_id() -> str:
    """Return the id that the kernel drew as it booted."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _is(link: Path, wanted: os.stat_result) -> bool:
    try:
        there = link.stat()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino)


def _started(pid: int) -> int | None:
    """Return when a process started; None where there is none, or it is a zombie."""
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in _ZOMBIE else int(fields[19])
