"""The dynamic loader's cache, /etc/ld.so.cache: in which folders the host's loader finds a library.

Format: glibc, sysdeps/generic/dl-cache.h; the old part (`ld.so-1.7.0`), first before glibc 2.32, is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MAX_BYTES = 32 << 20
_OLD_MAGIC = b"ld.so-1.7.0\0"
_OLD_HEADER = struct.Struct("<12sI")
_OLD_ENTRY = 12
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sII20x")
_ENTRY = struct.Struct("<iIIIQ")
_ALIGN = 8


def folders_of(cache: Path, library: str) -> tuple[PurePosixPath, ...]:
    """Return the folders in which the cache has `library` (`libcuda.so.1`); none where there is no cache to read."""
    try:
        with cache.open("rb") as file:
            data = file.read(MAX_BYTES)
    except OSError:
        return ()
    return tuple(dict.fromkeys(PurePosixPath(path).parent for name, path in entries(data) if name == library))


def entries(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield name and path of each library; nothing from bytes that are no cache, or from entries that point outside."""
    start = _start(data)
    if len(data) < start + _HEADER.size:
        return
    magic, count, _length = _HEADER.unpack_from(data, start)
    if magic != _MAGIC:
        return
    for position in range(start + _HEADER.size, start + _HEADER.size + count * _ENTRY.size, _ENTRY.size):
        if position + _ENTRY.size > len(data):
            return
        _flags, name, path, _os_version, _hwcap = _ENTRY.unpack_from(data, position)
        yield _text(data, start + name), _text(data, start + path)


def _start(data: bytes) -> int:
    """Return where the new part begins: names are counted from there."""
    if not data.startswith(_OLD_MAGIC) or len(data) < _OLD_HEADER.size:
        return 0
    count: int = _OLD_HEADER.unpack_from(data)[1]
    end = _OLD_HEADER.size + count * _OLD_ENTRY
    return -(-end // _ALIGN) * _ALIGN


def _text(data: bytes, start: int) -> str:
    end = data.find(b"\0", start)
    return data[start:end].decode("utf-8", "replace") if end > start else ""
