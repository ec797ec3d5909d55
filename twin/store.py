"""Keeps a twin in a folder that several processes share, so that a kill at any moment leaves a whole state.

`state` has a header and two slots. A writer fills the slot that is not in use, then writes the header (one write within
a page), which makes it the state. A reader whose header is the same after as before has read a slot that nobody wrote.
Readers take no lock and decode only what changed. Writers hold a record lock, which ends with the process and is not
inherited by `fork`, and a thread lock, since record locks bind processes. Nothing is forced to disk: a twin outlives
processes, not the machine that it runs on.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from twin.facts import MachineFacts
from twin.state import State

STATE = "state"
_HEADER = struct.Struct("<QIQ")
"""Generation, length in bytes, generation again: a reader amid a write sees two different ones."""
_SLOTS = 4096, 4096 + (4 << 20)

_thread_locks: dict[str, threading.Lock] = {}
os.register_at_fork(after_in_child=_thread_locks.clear)

_decode = msgspec.json.Decoder(State).decode
_encode = msgspec.json.Encoder().encode


class Store:
    """One folder: `facts.json`, written once, and `state`. Raises FileNotFoundError where there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.facts = msgspec.json.decode((self.folder / "facts.json").read_bytes(), type=MachineFacts)
        self._lock_path = str(self.folder / "lock")
        self._file = os.open(self.folder / STATE, os.O_RDWR | os.O_CLOEXEC)
        self._seen: tuple[int, State] = self._load()

    @staticmethod
    def make(folder: Path, facts: MachineFacts, state: State) -> Store:
        """Write a new twin. Raises FileExistsError where one is."""
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "facts.json").exists():
            raise FileExistsError(f"{folder}: holds a twin already; choose another folder or remove it")
        (folder / "lock").touch()
        raw = _encode(state)
        first = _HEADER.pack(1, len(raw), 1)
        (folder / STATE).write_bytes(first + bytes(_SLOTS[1] - len(first)) + raw)
        # Last, since it says that a twin is here.
        beside = folder / "facts.json.new"
        beside.write_bytes(_encode(facts))
        beside.replace(folder / "facts.json")
        return Store(folder)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self) -> State:
        """Return the state now. It is shared with other readers: never change it."""
        seen = self._seen
        generation, _, again = _HEADER.unpack(os.pread(self._file, _HEADER.size, 0))
        if generation == again == seen[0]:
            return seen[1]
        self._seen = seen = self._load()
        return seen[1]

    @contextmanager
    def change(self) -> Iterator[State]:
        """Give the state for change, alone; it is stored when the block ends without an exception."""
        with self._locked():
            generation, before = self._raw()
            state = _decode(before)
            yield state
            raw = _encode(state)
            if raw != before:
                self._write(generation + 1, raw)

    def _write(self, generation: int, raw: bytes) -> None:
        assert len(raw) <= _SLOTS[1] - _SLOTS[0]
        os.pwrite(self._file, raw, _SLOTS[generation % 2])
        os.pwrite(self._file, _HEADER.pack(generation, len(raw), generation), 0)

    def _load(self) -> tuple[int, State]:
        generation, raw = self._raw()
        return generation, _decode(raw)

    def _raw(self) -> tuple[int, bytes]:
        while True:
            header = os.pread(self._file, _HEADER.size, 0)
            generation, length, again = _HEADER.unpack(header)
            raw = os.pread(self._file, length, _SLOTS[generation % 2])
            if generation == again and os.pread(self._file, _HEADER.size, 0) == header:
                return generation, raw

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _thread_locks.setdefault(self._lock_path, threading.Lock()):
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
