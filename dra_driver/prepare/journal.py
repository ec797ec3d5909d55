"""What was done for each claim, on disk: one file a claim, replaced whole: a crash leaves the old one or the new.

Files are the truth, since two instances of the driver may run side by side in an update; what was read is kept by its
bytes, since times and inodes of files repeat. A record is written and removed only under the locks of its claim and of
its GPUs (`locks`).
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dra_driver.errors import PermanentError
from dra_driver.prepare.codec import MAX_BYTES, CorruptError, Decoded, decode, encode
from dra_driver.prepare.disk import disk
from dra_driver.prepare.model import Record

_OF_THE_FILE = (errno.EIO, errno.ELOOP)
"""What is wrong with one file alone: its claim is rebuilt, the others go on."""
_SUFFIX = ".json"
_UNFINISHED = ".part"
_UID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Entries:
    """All records by claim UID, and of those that cannot be read what is wrong with them."""

    records: Mapping[str, Record]
    corrupt: Mapping[str, str]


class Journal:
    """The records in one folder. Calls may come from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._quarantine_folder = folder / "quarantine"
        self._folder = folder / "claims"
        for each in (self._folder, self._quarantine_folder):
            each.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._known: dict[str, tuple[bytes, Decoded]] = {}
        self._guard = threading.Lock()

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._handle)

    def get(self, uid: str) -> Record | None:
        """Return the record of a claim. Raises CorruptError, RetryableError."""
        decoded = self._read(_name(uid))
        return None if decoded is None else decoded.record

    def put(self, record: Record) -> None:
        """Write a record through to the disk. Raises RetryableError; the earlier one then still stands.

        That one is replaced is not waited for: a power failure may bring the earlier one back, whole. It stems from an
        earlier boot then, of which nothing is believed but that the claim is held.
        """
        name = _name(record.claim.uid)
        with disk(f"write the record of claim {record.claim}"):
            earlier = None
            with suppress(CorruptError):
                earlier = self._read(name)
            data = encode(record, None if earlier is None else earlier.raw)
            self._write_file(name + _UNFINISHED, data)
            os.replace(name + _UNFINISHED, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
            if earlier is None:
                os.fsync(self._handle)

    def remove(self, uid: str) -> None:
        """Remove the record of a claim, if there is one.

        Not waited for: where a power failure brings it back, it says UNPREPARING, or stems from an earlier boot.
        """
        name = _name(uid)
        with disk(f"remove the record of claim {uid}"), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._handle)
        with self._guard:
            self._known.pop(name, None)

    def entries(self) -> Entries:
        """Return all that is there. Raises RetryableError where a file cannot be read at all."""
        records: dict[str, Record] = {}
        corrupt: dict[str, str] = {}
        names = self._names(_SUFFIX)
        with self._guard:
            # Another instance of the driver removes files too.
            for gone in self._known.keys() - set(names):
                del self._known[gone]
        for name in names:
            uid = name.removesuffix(_SUFFIX)
            try:
                decoded = self._read(name)
            except CorruptError as fault:
                corrupt[uid] = str(fault)
            else:
                if decoded is not None:
                    records[uid] = decoded.record
        return Entries(records, corrupt)

    def unfinished(self) -> tuple[str, ...]:
        """Return UIDs of claims whose record somebody began to write and did not finish (yet)."""
        return tuple(name.removesuffix(_SUFFIX + _UNFINISHED) for name in self._names(_SUFFIX + _UNFINISHED))

    def discard_unfinished(self, uid: str) -> None:
        """Remove what a crash left of a write."""
        with disk(f"remove an unfinished record of claim {uid}"), suppress(FileNotFoundError):
            os.unlink(_name(uid) + _UNFINISHED, dir_fd=self._handle)

    def quarantine(self, uid: str) -> Path:
        """Keep the file of a claim for people to look at, and return where. It stays in its place until replaced."""
        with disk(f"set the record of claim {uid} aside"):
            taken = {path.name for path in self._quarantine_folder.iterdir()}
            names = (f"{uid}.{number}{_SUFFIX}" for number in range(len(taken) + 1))
            target = self._quarantine_folder / next(name for name in names if name not in taken)
            with suppress(FileNotFoundError):
                os.link(_name(uid), target, src_dir_fd=self._handle, follow_symlinks=False)
        return target

    def _names(self, suffix: str) -> list[str]:
        with disk("list the journal"):
            # Opened anew: threads that list one open folder share its position, and each sees a part.
            handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._handle)
            try:
                names = sorted(os.listdir(handle))  # noqa: PTH208 - the open folder, whatever its path means now
            finally:
                os.close(handle)
        return [name for name in names if name.endswith(suffix) and _UID.fullmatch(name.removesuffix(suffix))]

    def _read(self, name: str) -> Decoded | None:
        with disk(f"read {name}"):
            try:
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._handle)
                with os.fdopen(handle, "rb") as file:
                    data = file.read(MAX_BYTES + 1)
            except FileNotFoundError:
                return None
            except OSError as fault:
                if fault.errno in _OF_THE_FILE:
                    raise CorruptError(f"cannot be read: {fault.strerror}") from fault
                raise
        with self._guard:
            known = self._known.get(name)
        if known is not None and known[0] == data:
            return known[1]
        decoded = decode(data)
        if _name(decoded.record.claim.uid) != name:
            raise CorruptError(f"is of another claim, {decoded.record.claim.uid}")
        with self._guard:
            self._known[name] = (data, decoded)
        return decoded

    def _write_file(self, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=self._handle), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _name(uid: str) -> str:
    if not _UID.fullmatch(uid):
        raise PermanentError(f"claim UID {uid[:80]!r} is not a UUID; the API server gives claims no other")
    return uid + _SUFFIX
