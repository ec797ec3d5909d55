"""Paths below another root, followed as a program would whose root that is: absolute links start there again."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePosixPath

_MAX_LINKS = 40
"""As the kernel has it (path_resolution(7))."""


def resolve(root: Path, path: str | PurePosixPath) -> Path:
    """Return `path`, absolute within `root`, without links; the result is below `root`, always.

    Raises OSError where something of it is not there, or links go round.
    """
    waiting = list(reversed(PurePosixPath(path).parts))
    there = root
    links = 0
    while waiting:
        part = waiting.pop()
        if part.startswith("/"):  # POSIX leaves two slashes at the start as they are, and so does pathlib.
            there = root
        elif part == "..":
            there = there if there == root else there.parent
        elif not (there / part).is_symlink():
            there = there / part
            there.lstat()
        else:
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            waiting.extend(reversed((there / part).readlink().parts))
    return there


def find(root: Path, path: str | PurePosixPath) -> Path | None:
    """Return what `resolve` returns, None where there is nothing."""
    try:
        return resolve(root, path)
    except OSError:
        return None
