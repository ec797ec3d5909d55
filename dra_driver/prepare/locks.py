"""Who may work on a claim, and on a GPU: one at a time, in this process and in another instance of the driver.

First the claim, then its GPUs in order of their UUIDs, so that nobody waits in a circle. Each lock is a lock among
threads, and a `flock` on a file among processes, which ends with the process that held it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dra_driver.errors import CancelledError, RetryableError
from dra_driver.prepare.disk import disk
from dra_driver.prepare.effects import Caller

CLAIM_LOCKS = 64
PATIENCE_S = 20.0
"""For a claim, and again for all of its GPUs: together less than the kubelet waits for an answer (45 s), so that it is
told why."""
_GONE_CHECK_S = 0.25
_POLL_S = (0.001, 0.05)


class Locks:
    """Locks whose files lie in one folder. They are made when first needed and stay."""

    def __init__(
        self, folder: Path, *, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._folder = folder
        self._patience_s = patience_s
        self._clock = clock
        self._locks: dict[str, _Lock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def claim(self, uid: str, caller: Caller) -> Iterator[None]:
        """Hold the lock of a claim; some claims share one. Raises RetryableError, CancelledError."""
        with self._hold(f"claim-{zlib.crc32(uid.encode()) % CLAIM_LOCKS:02d}", caller, self._until()):
            yield

    @contextmanager
    def gpus(self, uuids: Iterable[str], caller: Caller) -> Iterator[None]:
        """Hold the locks of GPUs. Raises RetryableError, CancelledError."""
        until = self._until()
        with ExitStack() as held:
            for uuid in sorted(set(uuids)):
                held.enter_context(self._hold(f"gpu-{uuid}", caller, until))
            yield

    def _until(self) -> float:
        return self._clock() + self._patience_s

    @contextmanager
    def _hold(self, name: str, caller: Caller, until: float) -> Iterator[None]:
        with self._guard:
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = _Lock(self._folder / f"{name}.lock")
        lock.acquire(caller, until, self._clock)
        try:
            yield
        finally:
            lock.release()


class _Lock:
    def __init__(self, path: Path) -> None:
        self._name = path.stem
        with disk(f"open {path}"):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._thread = threading.Lock()

    def acquire(self, caller: Caller, until: float, clock: Callable[[], float]) -> None:
        while not self._thread.acquire(timeout=_GONE_CHECK_S):
            self._give_up_if(caller, until, clock)
        try:
            pause = _POLL_S[0]
            while not self._try_file():
                self._give_up_if(caller, until, clock)
                time.sleep(pause)
                pause = min(2 * pause, _POLL_S[1])
        except BaseException:
            self._thread.release()
            raise

    def release(self) -> None:
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        self._thread.release()

    def _try_file(self) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _give_up_if(self, caller: Caller, until: float, clock: Callable[[], float]) -> None:
        if caller.is_gone():
            raise CancelledError(f"the caller gave up while {self._name} was busy; nothing was done")
        if clock() > until:
            raise RetryableError(f"{self._name} is busy with another call or another instance of the driver")
