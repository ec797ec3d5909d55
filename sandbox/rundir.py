"""Private directories: one per supervisor, held by a lock as long as it lives, swept when it could not clean up.

A directory whose lock nobody holds is what a killed supervisor left: its processes died with it (death signals, PID
namespace), so only cgroups and files remain, and whoever comes next removes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sandbox import cgroups
from sandbox.errors import SandboxError
from sandbox.locking import locked

OWNER = "DOVETAIL_SANDBOX"
"""Environment variable of every program of a sandbox: its directory. It tells ours from foreign ones."""
SOCKET_BYTES = 107
"""The longest path of a unix socket (unix(7))."""
LONGEST_IN_NODE = "/node-123456/kubelet/plugins_registry/gpu.dovetail.dev-reg.sock"
"""The longest socket below the base folder."""
KEPT_LOGS = 10
"""Log folders of failed runs that stay; older ones go."""
_NAME = re.compile(r"\.?.+-[0-9a-f]{6}")
"""What `create` calls a directory; nothing else is swept, wherever DOVETAIL_SANDBOX_DIR leads."""


def base() -> Path:
    """Return the folder of all sandboxes of this user, `DOVETAIL_SANDBOX_DIR` or one below the temporary folder."""
    chosen = os.environ.get("DOVETAIL_SANDBOX_DIR")
    path = Path(chosen).absolute() if chosen else Path(tempfile.gettempdir()) / f"dovetail-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise SandboxError(
            f"{path} is not a folder of this user alone; remove it, or point DOVETAIL_SANDBOX_DIR elsewhere"
        )
    if len(os.fsencode(path)) + len(LONGEST_IN_NODE) > SOCKET_BYTES:
        longest = SOCKET_BYTES - len(LONGEST_IN_NODE)
        raise SandboxError(f"{path} is too long for sockets below it; DOVETAIL_SANDBOX_DIR may have {longest} bytes")
    return path


@contextlib.contextmanager
def exclusive(purpose: str) -> Iterator[None]:
    """One process of this user at a time does `purpose`, such as sweeping."""
    with locked(base() / f"{purpose}.lock"):
        yield


def create(prefix: str) -> tuple[Path, int]:
    """Make a new directory and the descriptor that locks it; the supervisor inherits the descriptor."""
    with exclusive("sweep"):  # until it is locked, it looks like one that a killed supervisor left
        path = base() / f"{prefix}-{secrets.token_hex(3)}"
        path.mkdir(mode=0o700)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (path / "logs").mkdir()
    return path, descriptor


def living(prefix: str) -> list[Path]:
    """Directories with that prefix whose supervisor lives."""
    return [path for path in sorted(base().glob(f"{prefix}-*")) if _is_held(path)]


def sweep() -> list[Path]:
    """Remove what killed supervisors left behind; returns their directories. The caller holds `exclusive("sweep")`."""
    swept = []
    for path in sorted(base().iterdir()):
        if _NAME.fullmatch(path.name) and (path / "lock").exists() and not _is_held(path):
            with contextlib.suppress(FileNotFoundError):  # it was killed before it had any
                keep_logs(path)
            remove(path)
            swept.append(path)
    return swept


def remove(path: Path) -> None:
    """Remove a directory and the cgroups that carry its name. Its processes and mounts are gone by now."""
    if os.geteuid() == 0:
        cgroups.remove(cgroup_name(path))
    shutil.rmtree(path, ignore_errors=True)


def cgroup_name(path: Path) -> str:
    """Name a directory's cgroups."""
    return f"dovetail-{path.name}"


def keep_logs(path: Path) -> Path:
    """Copy a run's logs to where they outlive it."""
    logs = base() / "logs"
    logs.mkdir(exist_ok=True)
    kept = logs / path.name
    shutil.copytree(path / "logs", kept, dirs_exist_ok=True)
    for old in sorted(logs.iterdir(), key=lambda entry: entry.stat().st_mtime)[:-KEPT_LOGS]:
        shutil.rmtree(old, ignore_errors=True)
    return kept


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
