"""Keeps a twin in a folder that several processes share: one file, replaced whole, so any kill leaves a whole state.

Readers take no lock: they read the file (a few KiB) and decode it only when its bytes changed. Writers hold a record
lock, which ends with the process and is not inherited by `fork`, and a thread lock, since record locks bind processes.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from twin.facts import MachineFacts
from twin.state import State

_thread_locks: dict[str, threading.Lock] = {}
os.register_at_fork(after_in_child=_thread_locks.clear)

_decode = msgspec.json.Decoder(State).decode
_encode = msgspec.json.Encoder().encode


class Store:
    """One folder: `facts.json`, written once, and `state.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.facts = msgspec.json.decode((self.folder / "facts.json").read_bytes(), type=MachineFacts)
        self._path = str(self.folder / "state.json")
        self._lock_path = str(self.folder / "lock")
        self._seen: tuple[bytes, State] = (b"", _decode(Path(self._path).read_bytes()))

    @staticmethod
    def make(folder: Path, facts: MachineFacts, state: State) -> Store:
        """Write a new twin. Raises FileExistsError where one is."""
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "facts.json").exists():
            raise FileExistsError(f"{folder}: holds a twin already; choose another folder or remove it")
        (folder / "lock").touch()
        _replace(str(folder / "state.json"), _encode(state))
        _replace(str(folder / "facts.json"), _encode(facts))
        return Store(folder)

    def read(self) -> State:
        """Return the state now. It is shared with other readers: never change it."""
        raw = self._raw()
        seen_raw, seen = self._seen
        if raw == seen_raw:
            return seen
        state = _decode(raw)
        self._seen = (raw, state)
        return state

    @contextmanager
    def change(self) -> Iterator[State]:
        """Give the state for change, alone; it is stored when the block ends without an exception."""
        with self._locked():
            before = self._raw()
            state = _decode(before)
            yield state
            raw = _encode(state)
            if raw != before:
                _replace(self._path, raw)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _thread_locks.setdefault(self._lock_path, threading.Lock()):
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def _raw(self) -> bytes:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)


def _replace(path: str, raw: bytes) -> None:
    # No fsync: a twin outlives processes, not the machine that it runs on.
    beside = f"{path}.new"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, raw)
    finally:
        os.close(descriptor)
    os.replace(beside, path)  # noqa: PTH105 - quicker than a Path, and this is the hot path
