"""A file of JSON objects, one a line, that begins anew when it is full; a few of those before are kept.

Every file can be read alone: `head` gives the records that it begins with. Lines are ASCII, control characters escaped,
so that they can be printed on any terminal. A disk that is full costs records, never the process.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

RETRY_S = 30.0
KEEP = 5
"""Files kept beside the one that is written: PATH.1 is the youngest of them."""

Record = Mapping[str, object]


class JsonLines:
    """The writer. Raises OSError when the file cannot be begun at all."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        head: Callable[[], Iterable[Record]] = tuple,
        keep: int = KEEP,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._head = head
        self._keep = keep
        self._clock = clock
        self._file: IO[str] | None = None
        self._size = 0
        self._full_at = 0
        self._retry_s = 0.0
        self.lost = 0
        """Records that could not be written."""
        self._begin()

    def write(self, record: Record) -> None:
        """Append a record."""
        if self._file is None and not self._resumes():
            self.lost += 1
            return
        try:
            if self._size >= self._full_at:
                self._begin()
            self._append(record)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Write the rest and end."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self.close()
        self._rotate()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="ascii")
        self._size = 0
        for record in self._head():
            self._append(record)
        self._full_at = max(self._max_bytes, 2 * self._size)

    def _rotate(self) -> None:
        for number in range(self._keep - 1, -1, -1):
            old = self._numbered(number)
            if old.exists():
                old.replace(self._numbered(number + 1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _append(self, record: Record) -> None:
        assert self._file is not None
        line = encode(record)
        self._file.write(line)
        self._size += len(line)

    def _fail(self, error: OSError) -> None:
        log.error("decision log stops for a while path=%r error=%r", str(self._path), str(error))
        self.lost += 1
        self._retry_s = self._clock() + RETRY_S
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError:
            return

    def _resumes(self) -> bool:
        """Begin a new file where the wait is over: one with a gap could not be replayed."""
        if self._clock() < self._retry_s:
            return False
        try:
            self._begin()
        except OSError as error:
            self._fail(error)
        return self._file is not None


def encode(record: Record) -> str:
    """Return the line of a record."""
    return json.dumps(record, separators=(",", ":"), allow_nan=False).replace("\x7f", "\\u007f") + "\n"
