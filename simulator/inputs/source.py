"""One way to open an input file: plain or gzip, never more than a set number of bytes in memory."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from topology.errors import InvalidInputError

MAX_INPUT_BYTES = 64 * 2**20
"""Most bytes of one input file, after decompression."""


def read_bytes(path: Path, *, max_bytes: int = MAX_INPUT_BYTES) -> bytes:
    """Return the content of `path`, decompressed if its name ends in `.gz`.

    Raises InvalidInputError if it cannot be read, is damaged, or holds more than `max_bytes`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            # One byte more than allowed is enough to know; a gzip bomb is never unpacked.
            content = stream.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(str(path), "", f"cannot be read: {reason}") from error
    if len(content) > max_bytes:
        raise InvalidInputError(str(path), "", f"holds more than {max_bytes} bytes; split it or raise the limit")
    return content
