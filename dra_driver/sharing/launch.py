"""Becomes one of NVIDIA's programs: `launch.py SPEC`, where SPEC is the JSON of `Spec`. Standard library alone.

A daemon notes who it is before it is that program, so that no moment exists in which one runs that nobody knows of.
Mounts are the program's own: no other process sees them, and they end with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
ALREADY = 75
"""Exit code where another one is at it (EX_TEMPFAIL)."""


class Note(TypedDict):
    """Where a daemon notes who it is, in which world, and the lock that it and its children hold while they live."""

    lock: str
    identity: str
    world: str


class Spec(TypedDict):
    """What to become."""

    program: Sequence[str]
    """Path within `root`, and arguments."""
    root: str
    """The new root folder; `/`: as it is. In another one, /tmp is empty and its own."""
    binds: Sequence[tuple[str, str]]
    """Folders, and where they are mounted: paths before the change of the root. Those below its /tmp are made."""
    note: NotRequired[Note]


def main(spec: Spec) -> None:
    """Note who we are, see to root and mounts, become the program."""
    os.umask(0o022)
    if note := spec.get("note"):
        _hold(note["lock"])
        _write(Path(note["identity"]), note["world"])
    if spec["root"] != "/" or spec["binds"]:
        _enter(spec["root"], spec["binds"])
    try:
        os.execv(spec["program"][0], list(spec["program"]))  # noqa: S606 - found below the driver root
    except OSError as fault:
        sys.exit(f"{spec['program'][0]} cannot be started: {fault.strerror}")


def _hold(lock: str) -> None:
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(ALREADY)
    # Kept by the program, and by what it starts, for as long as any of them lives.
    os.set_inheritable(handle, True)  # noqa: FBT003 - no keyword


def _write(identity: Path, world: str) -> None:
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    content = {"pid": os.getpid(), "start_ticks": int(stat.rpartition(")")[2].split()[19]), "world": world}
    unfinished = identity.with_suffix(".part")
    unfinished.write_text(json.dumps(content), encoding="ascii")
    unfinished.rename(identity)


def _enter(root: str, binds: Sequence[tuple[str, str]]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS), "have mounts of its own")
    _check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "keep mounts to itself")
    own = Path(root) / "tmp"
    if root != "/":
        _check(libc.mount(b"tmpfs", os.fsencode(own), b"tmpfs", 0, b"mode=1777,size=1m"), f"mount {own}")
    for folder, there in binds:
        if root != "/" and Path(there).is_relative_to(own):
            Path(there).mkdir()
        _check(libc.mount(os.fsencode(folder), os.fsencode(there), None, MS_BIND, None), f"mount {folder} on {there}")
    if root != "/":
        _check(libc.chroot(os.fsencode(root)), f"have {root} as the root", "SYS_CHROOT")
        os.chdir("/")


def _check(result: int, what: str, capability: str = "SYS_ADMIN") -> None:
    if result != 0:
        sys.exit(f"cannot {what}: {os.strerror(ctypes.get_errno())}; the driver must be root with CAP_{capability}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
