"""Where the kubelet finds us: two Unix sockets that only root may open, and nobody else's file in their place.

gRPC for Python does not show the peer's credentials (SO_PEERCRED) nor take a listening socket of ours. What keeps
others out is the kernel: to connect to a socket takes the right to write it, and it is 0600, root's, from the moment
it exists, in a folder that nobody else can write.

An instance holds a lock of its own as long as it lives. Whose lock can be had is dead, however it died, and its sockets
are stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dra_driver.plugin.errors import SocketError
from dra_driver.roots import Roots

log = logging.getLogger(__name__)

MAX_PATH = 107
"""Bytes of a Unix socket's path, without the NUL that ends it."""
FOLDER_MODE = 0o750
SOCKET_UMASK = 0o177
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_INSTANCE = r"(?:-[A-Za-z0-9-]{1,63})?"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPaths:
    """The sockets of one instance. Raises SocketError where a path is too long.

    The kubelet must see them at the same paths as we do: a pod mounts the kubelet's folders where they are.
    """

    plugin: Path
    """Where prepare, unprepare and health are served."""
    registration: Path
    """What the kubelet watches for."""
    lock: Path

    def __post_init__(self) -> None:
        for path in (self.plugin, self.registration):
            if (length := len(os.fsencode(path))) > MAX_PATH:
                raise SocketError(
                    f"{path}: {length} bytes are too long for a Unix socket, at most {MAX_PATH} are possible; "
                    f"use a shorter --kubelet-root"
                )

    @classmethod
    def of(cls, roots: Roots, driver: str, pod_uid: str = "") -> Self:
        """Return the paths of an instance; `pod_uid` tells instances apart that live side by side."""
        instance = f"-{pod_uid}" if pod_uid else ""
        return cls(
            plugin=roots.state / f"dra{instance}.sock",
            registration=roots.kubelet / "plugins_registry" / f"{driver}{instance}-reg.sock",
            lock=roots.state / f"dra{instance}.lock",
        )


@contextlib.contextmanager
def claimed(paths: SocketPaths, driver: str) -> Iterator[None]:
    """Have the paths free and to ourselves until the block ends; sockets of dead instances are gone.

    Raises SocketError where a folder is not safe, another instance lives, or a file that is no socket is in the way.
    """
    with contextlib.suppress(OSError):  # What is wrong with the folder, the check says better.
        paths.plugin.parent.mkdir(mode=FOLDER_MODE)
    _check_folder(paths.plugin.parent)
    _check_folder(paths.registration.parent)
    lock = _try_lock(paths.lock)
    if lock is None:
        raise SocketError(
            f"{paths.plugin}: another instance is serving here; end it first, or give each instance its --pod-uid"
        )
    with contextlib.closing(lock):
        _remove_sockets(paths)
        _remove_dead(paths, driver)
        try:
            yield
        finally:
            _remove_sockets(paths)
            paths.lock.unlink(missing_ok=True)


@contextlib.contextmanager
def private_sockets() -> Iterator[None]:
    """Have what is bound in the block be root's alone. The mask is the process's: files of other threads get less."""
    before = os.umask(SOCKET_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def _check_folder(folder: Path) -> None:
    try:
        found = folder.lstat()
    except OSError as fault:
        raise SocketError(f"{folder}: {fault.strerror}; is --kubelet-root the kubelet's --root-dir?") from fault
    if not stat.S_ISDIR(found.st_mode):
        raise SocketError(f"{folder}: must be a folder, not a link or file; remove it")
    if found.st_uid != os.geteuid():
        raise SocketError(f"{folder}: belongs to user {found.st_uid}; must belong to {os.geteuid()}: chown it")
    if found.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(found.st_mode)
        raise SocketError(f"{folder}: others may write it (mode {mode:04o}); chmod {mode & ~_OTHERS_WRITE:04o}")


class _Lock:
    """A locked file; closing it, also by death, gives it free."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)


def _try_lock(path: Path) -> _Lock | None:
    """Lock a file, None where another process has it, or is just removing it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        raise SocketError(f"{path}: cannot be opened as a lock: {fault.strerror}; remove it") from fault
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _same(descriptor, path):
            return _Lock(descriptor)
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _remove_sockets(paths: SocketPaths) -> None:
    """Remove both sockets. Raises SocketError where one is another kind of file."""
    for path in (paths.registration, paths.plugin):
        try:
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise SocketError(f"{path}: is in the way and not a socket; remove it")
            path.unlink()
        except FileNotFoundError:
            continue


def _remove_dead(ours: SocketPaths, driver: str) -> None:
    """Remove the sockets of instances that died without a chance to: the kubelet would dial them for ever."""
    for path in ours.lock.parent.glob("dra*.lock"):
        if path == ours.lock or not (named := re.fullmatch(rf"dra({_INSTANCE})\.lock", path.name)):
            continue
        dead = SocketPaths(
            plugin=path.with_suffix(".sock"),
            registration=ours.registration.parent / f"{driver}{named[1]}-reg.sock",
            lock=path,
        )
        try:
            if (lock := _try_lock(path)) is not None:
                with contextlib.closing(lock):
                    _remove_sockets(dead)
                    path.unlink(missing_ok=True)
        except SocketError as fault:
            log.warning("left of an instance that died: %s", fault)
