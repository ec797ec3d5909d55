"""Planned faults: counted over all processes, in the shared state."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Any

from twin.codes import Refused
from twin.nvml import marshal
from twin.state import Fault, State
from twin.store import Store

_VERSION = re.compile(r"(_v\d+|V)$")
HANG_POLL_S = 0.02


class Faults:
    """Says which fault is due at a call, and performs it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def due(self, name: str, args: tuple[Any, ...]) -> Fault | None:
        """Return the first fault that acts on this call; counts it."""
        if not self._store.read().faults:
            return None
        with self._store.change() as state:
            return _count(state, _VERSION.sub("", name), args)

    def act(self, fault: Fault) -> int | None:
        """Perform `fault`; returns the code that the call shall give, None to go on."""
        if fault.delay_s:
            time.sleep(fault.delay_s)
        while fault.hang and fault.number in {one.number for one in self._store.read().faults}:
            time.sleep(HANG_POLL_S)
        if fault.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return fault.code


def _count(state: State, name: str, args: tuple[Any, ...]) -> Fault | None:
    for fault in state.faults:
        if fault.function not in ("*", name) or fault.times == 0 or not _concerns(state, fault, args):
            continue
        if fault.skip:
            fault.skip -= 1
            continue
        if fault.times > 0:
            fault.times -= 1
        return fault
    return None


def _concerns(state: State, fault: Fault, args: tuple[Any, ...]) -> bool:
    if fault.gpu is None:
        return True
    try:
        serial, kind = marshal.read_handle(args[0])
    except (Refused, IndexError, TypeError):
        return False
    if kind == marshal.GPU:
        return serial == fault.gpu + 1
    gpu = state.gpus[fault.gpu]
    mine = {one.serial for one in gpu.instances} | {ci.serial for one in gpu.instances for ci in one.compute}
    return serial in mine
