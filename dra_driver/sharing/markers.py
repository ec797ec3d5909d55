"""What was set on each GPU: one small file a GPU, there before anything is set and until all of it is undone."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dra_driver.config.model import Interval, Strategy
from dra_driver.errors import PermanentError, RetryableError
from dra_driver.prepare.effects import GpuWide

_UUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}")
_SUFFIX = ".json"
_UNFINISHED = ".part"
ANYTHING = GpuWide(Strategy.MPS, Interval.LONG)
"""What a marker stands for that cannot be read: all that there is may have been set."""


class Marker(msgspec.Struct, frozen=True):
    """What was set, and in which boot: a time slice does not outlive it."""

    wide: GpuWide
    boot_id: str


# Made before there are threads: two that meet a type for the first time at once crash the process (msgspec 0.22).
_decode = msgspec.json.Decoder(Marker).decode


class Markers:
    """The markers in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, uuid: str) -> Marker | None:
        """Return the marker of a GPU."""
        try:
            return _decode(self._path(uuid).read_bytes())
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            return Marker(ANYTHING, "")
        except OSError as fault:
            raise _disk(self._path(uuid), fault) from fault

    def put(self, uuid: str, marker: Marker) -> None:
        """Write the marker of a GPU through to the disk."""
        path = self._path(uuid)
        unfinished = path.with_suffix(_UNFINISHED)
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(marker))
                file.flush()
                os.fsync(handle)
            unfinished.replace(path)
            self._sync()
        except OSError as fault:
            raise _disk(path, fault) from fault

    def remove(self, uuid: str) -> None:
        """Remove the marker of a GPU, and what a crash left of writing it."""
        path = self._path(uuid)
        try:
            path.with_suffix(_UNFINISHED).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        except OSError as fault:
            raise _disk(path, fault) from fault

    def uuids(self) -> Sequence[str]:
        """Return the GPUs that have a marker, or a begun one."""
        try:
            names = {path.stem for path in self._folder.iterdir() if path.suffix in (_SUFFIX, _UNFINISHED)}
            return sorted(filter(_UUID.fullmatch, names))
        except FileNotFoundError:
            return ()
        except OSError as fault:
            raise _disk(self._folder, fault) from fault

    def _path(self, uuid: str) -> Path:
        if not _UUID.fullmatch(uuid):
            raise PermanentError(f"{uuid[:80]!r} is no UUID of a GPU")
        return self._folder / (uuid + _SUFFIX)

    def _sync(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _disk(path: Path, fault: OSError) -> RetryableError:
    return RetryableError(f"sharing: {path}: {fault.strerror}; is the disk full or read-only?")
