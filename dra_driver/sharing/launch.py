"""Becomes a daemon's process: `launch.py LOCK IDENTITY WORLD SHM PROGRAM ARGS...`. Standard library alone.

Before it is that program it notes who it is, so that no moment exists in which a daemon runs that nobody knows of, and
makes the folder SHM its /dev/shm: the daemon's clients get the same one, and no other container sees it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
ALREADY = 75
"""Exit code where another one is at it (EX_TEMPFAIL)."""


def main(lock: str, identity: str, world: str, shm: str, program: str, *arguments: str) -> None:
    """Note who we are, see to /dev/shm, become the program."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(ALREADY)
    # Kept by the program, and by what it starts, for as long as any of them lives.
    os.set_inheritable(handle, True)  # noqa: FBT003 - no keyword
    os.umask(0o022)
    _note(Path(identity), world)
    _share_memory(shm)
    os.execv(program, [program, *arguments])  # noqa: S606 - found below the driver root


def _note(identity: Path, world: str) -> None:
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    content = {"pid": os.getpid(), "start_ticks": int(stat.rpartition(")")[2].split()[19]), "world": world}
    unfinished = identity.with_suffix(".part")
    unfinished.write_text(json.dumps(content), encoding="ascii")
    unfinished.rename(identity)


def _share_memory(folder: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS), "unshare the mounts")
    _check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "keep mounts to itself")
    _check(libc.mount(folder.encode(), b"/dev/shm", None, MS_BIND, None), f"mount {folder} on /dev/shm")


def _check(result: int, what: str) -> None:
    if result != 0:
        sys.exit(f"cannot {what}: {os.strerror(ctypes.get_errno())}; the driver needs CAP_SYS_ADMIN for MPS")


if __name__ == "__main__":
    main(*sys.argv[1:])
