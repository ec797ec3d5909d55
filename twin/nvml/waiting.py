"""Waits for the next change of a twin without asking again and again: inotify on its state."""

from __future__ import annotations

import ctypes
import os
import select
from pathlib import Path
from types import TracebackType
from typing import Self

_IN_MODIFY = 0x2
_libc = ctypes.CDLL(None, use_errno=True)


class Waiter:
    """Wakes when `file` was written since the waiter was opened or last woke."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        watch = _libc.inotify_add_watch(self._descriptor, os.fsencode(self._file), _IN_MODIFY)
        if self._descriptor < 0 or watch < 0:
            raise OSError(ctypes.get_errno(), f"inotify on {self._file}")
        return self

    def wait(self, seconds: float) -> None:
        """Return after a change, or after `seconds`."""
        poll = select.poll()  # select() knows no descriptor beyond 1023
        poll.register(self._descriptor, select.POLLIN)
        if poll.poll(seconds * 1000):
            os.read(self._descriptor, 1 << 16)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
