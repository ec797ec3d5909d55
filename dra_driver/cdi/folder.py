"""The folder of CDI files, which others share: the runtime reads it, other drivers write to it.

Everything is done relative to the opened folder and by names without a slash, so that nothing outside can be reached
through a name, and nothing behind a link that somebody planted. The folder is opened anew each time: `/run` is emptied
and filled behind our back, and what is written into a folder that was removed would be lost without a word.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dra_driver.cdi.names import PREFIX, SUFFIX, file_name, uid_of_file
from dra_driver.errors import PermanentError, RetryableError

MAX_BYTES = 4 << 20
"""Far above the largest file of ours: 32 devices and a whole driver's libraries are some 100 KB."""
_UNFINISHED = ".part"
_FOLDER_MODE = 0o755
_FILE_MODE = 0o644
_ATTEMPTS = 3

_REMEDIES = {
    errno.ENOSPC: "make room on that file system",
    errno.EDQUOT: "make room on that file system",
    errno.EROFS: "mount it writable into the driver's pod",
    errno.EACCES: "run the driver as root and mount the folder writable",
    errno.EPERM: "run the driver as root and mount the folder writable",
    errno.EIO: "the disk fails; look into the kernel's log",
    errno.ELOOP: "a link stands where the folder should be; remove it or name its target",
    errno.ENOTDIR: "something else stands where the folder should be; remove it",
    errno.EISDIR: "a folder stands where the file should be; remove it",
    errno.ENOTEMPTY: "a folder stands where the file should be; remove it",
    errno.EEXIST: "a folder stands where the file should be; remove it",
    errno.EMFILE: "the driver has too many files open; restart it and tell us",
    errno.ENFILE: "the node has too many files open",
}


class CdiFolderError(RetryableError):
    """The disk said no; `code` is its errno. What was there before is there still."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class UnsafeFolderError(PermanentError):
    """Others than root could write into the folder, and thereby give any device to any container."""


class CdiFolder:
    """Our files in the folder of CDI files, by claim UID. Calls may come from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, uid: str, content: bytes) -> None:
        """Put the file of a claim there, through to the disk: at every instant it is the old or the new, whole."""
        name = file_name(uid)
        with self._opened(f"write {name}") as folder:
            for attempt in range(_ATTEMPTS):
                try:
                    self._put(folder, name, content)
                except FileNotFoundError:
                    # Another instance of the driver has just cleaned up what it took for the rest of a crash.
                    if attempt == _ATTEMPTS - 1:
                        raise
                else:
                    return

    def read(self, uid: str) -> bytes | None:
        """Return the file of a claim; None where there is none, or none that we can have written."""
        name = file_name(uid)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._opened(f"read {name}") as folder:
            try:
                handle = os.open(name, flags, dir_fd=folder)
            except OSError as fault:
                # A link, a socket: nothing of ours, and in the way of nothing, as a write replaces it.
                if fault.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                    return None
                raise
            try:
                return _whole(handle)
            finally:
                os.close(handle)

    def remove(self, uid: str) -> None:
        """Remove the file of a claim, whatever it has become; none there is fine."""
        name = file_name(uid)
        with self._opened(f"remove {name}") as folder:
            for each in (name, _unfinished(name)):
                with suppress(FileNotFoundError):
                    os.unlink(each, dir_fd=folder)
            os.fsync(folder)

    def uids(self) -> tuple[str, ...]:
        """Return the claims that have a file here, or something in its place."""
        with self._opened("list") as folder:
            found = (uid_of_file(name) for name in _names(folder))
            return tuple(sorted(uid for uid in found if uid is not None))

    def discard_unfinished(self) -> int:
        """Remove what crashes have left of writes, and return how many. Asked once, at the start."""
        removed = 0
        with self._opened("clean") as folder:
            for name in filter(_is_unfinished, _names(folder)):
                # A folder of that name is none of ours; a write that it is in the way of says so.
                with suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(name, dir_fd=folder)
                    removed += 1
        return removed

    def _put(self, folder: int, name: str, content: bytes) -> None:
        unfinished = _unfinished(name)
        with suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(unfinished, flags, 0o600, dir_fd=folder), "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), _FILE_MODE)
                os.fsync(file.fileno())
            os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with suppress(OSError):
                os.unlink(unfinished, dir_fd=folder)
            raise
        os.fsync(folder)

    @contextmanager
    def _opened(self, what: str) -> Iterator[int]:
        try:
            self._path.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _require_safe(folder, self._path)
                yield folder
            finally:
                os.close(folder)
        except OSError as fault:
            code = fault.errno or 0
            name = errno.errorcode.get(code, "OSError")
            remedy = _REMEDIES.get(code, "see what is there")
            text = f"CDI folder {self._path}: cannot {what}: {fault.strerror} ({name}); {remedy}"
            raise CdiFolderError(text, code) from fault


def _names(folder: int) -> list[str]:
    return os.listdir(folder)


def _require_safe(folder: int, path: Path) -> None:
    status = os.fstat(folder)
    if status.st_uid not in (0, os.geteuid()):
        raise UnsafeFolderError(f"CDI folder {path}: belongs to user {status.st_uid}; `chown root {path}`")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise UnsafeFolderError(
            f"CDI folder {path}: has mode {mode:04o}; who writes there gives any device to any container: "
            f"`chmod 0755 {path}`"
        )


def _whole(handle: int) -> bytes | None:
    """Return what an open file holds; None where it is no plain file, or larger than ours ever are."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        return None
    parts: list[bytes] = []
    left = MAX_BYTES + 1
    while left > 0 and (part := os.read(handle, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts) if left > 0 else None


def _unfinished(name: str) -> str:
    """Return a name that no runtime reads: it does not end in .json or .yaml."""
    return f".{name}{_UNFINISHED}"


def _is_unfinished(name: str) -> bool:
    return name.startswith(f".{PREFIX}") and name.endswith(SUFFIX + _UNFINISHED)
