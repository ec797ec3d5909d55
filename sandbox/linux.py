"""The few system calls that Python 3.11 does not wrap: death signals, namespaces, detaching mounts.

Everything here may run between fork and exec, so it takes plain values and allocates little.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SHARED = 0x100000
MNT_DETACH = 2
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27, "CAP_SETFCAP": 31}
"""What a node needs, with the bit of each in `CapEff` (capabilities(7))."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def die_with_parent(parent: int) -> None:
    """Let the calling process get SIGKILL when `parent`, which forked it, ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before the call: nobody would tell us
        os._exit(1)


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of the calling process (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def own_hostname(name: str) -> None:
    """Leave the machine's UTS namespace and be called `name` in a new one.

    Raises OSError where neither root nor user namespaces allow it.
    """
    if os.geteuid() == 0:
        _check(_libc.unshare(CLONE_NEWUTS), "unshare(CLONE_NEWUTS)")
    else:
        uid, gid = os.getuid(), os.getgid()
        _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWUTS), "unshare(CLONE_NEWUSER | CLONE_NEWUTS)")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    socket.sethostname(name)


def mount_tmpfs(point: str) -> None:
    """Lay an empty file system over a folder."""
    _mount(b"tmpfs", point, b"tmpfs", 0)


def bind(source: Path, point: str) -> None:
    """Lay one file or folder over another."""
    _mount(os.fsencode(source), point, None, MS_BIND)


def share_mounts() -> None:
    """Let mounts propagate among the mount namespaces that are made from this one, as on a booted machine."""
    _mount(None, "/", None, MS_REC | MS_SHARED)


def _mount(source: bytes | None, point: str, kind: bytes | None, flags: int) -> None:
    _check(_libc.mount(source, os.fsencode(point), kind, ctypes.c_ulong(flags), None), f"mount {point}")


def detach_mount(path: str) -> None:
    """umount2(path, MNT_DETACH)."""
    _check(_libc.umount2(os.fsencode(path), MNT_DETACH), f"umount {path}")


def mounts_under(directory: Path) -> list[str]:
    """Mount points at and below a directory in the caller's mount namespace, deepest first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")  # blanks are written \\040
        if point == str(directory) or point.startswith(f"{directory}/"):
            points.append(point)
    return sorted(points, key=len, reverse=True)


def missing_capabilities() -> list[str]:
    """Names of the capabilities of a node that the calling process lacks."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff"):
            held = int(line.split()[1], 16)
            return [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]
    raise AssertionError("/proc/self/status has no CapEff")


def descendants(root: int) -> list[int]:
    """Living processes below `root`, parents before children. Zombies are left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name of a program may hold blanks and parentheses: fields start after the last one.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    level = [root]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found += level
    return found
