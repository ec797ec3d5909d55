"""One process's view of the machine through NVML: initialization count, handles, event sets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from twin.codes import Code, Refused
from twin.facts import GpuFacts, MachineFacts
from twin.nvml import marshal
from twin.state import ComputeInstance, GpuInstance, GpuState, State
from twin.store import Store
from twin.tree.capabilities import changing

Call = Callable[..., Code | None]
CALLS: dict[str, Call] = {}
"""Every function of the library, by its exported name."""


def call(*names: str) -> Callable[[Call], Call]:
    """Register a function of the library under `names`."""

    def register(function: Call) -> Call:
        CALLS.update(dict.fromkeys(names, function))
        return function

    return register


class EventSet:
    """What a process watches: event types by GPU, and the number of the last event it has been told."""

    def __init__(self, seen: int) -> None:
        self.types: dict[int, int] = {}
        self.seen = seen


class Session:
    """The library in one process."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.initialized = 0
        self.event_sets: dict[int, EventSet] = {}
        self.event_serial = 0
        self.lock = threading.Lock()

    @property
    def facts(self) -> MachineFacts:
        """What never changes."""
        return self.store.facts

    @property
    def state(self) -> State:
        """The machine now; never change it."""
        return self.store.read()

    def change(self) -> AbstractContextManager[State]:
        """Change the machine, alone; also what the driver shows of its instances under /proc."""
        return changing(self.store)

    def require_privilege(self) -> None:
        """Refuse an unprivileged caller."""
        if not self.state.behaviour.privileged:
            raise Refused(Code.NO_PERMISSION)

    def gpu(self, handle: Any, state: State | None = None) -> tuple[GpuFacts, GpuState]:  # noqa: ANN401
        """Return the GPU of a GPU handle. Lost: GPU_IS_LOST. A MIG device: INVALID_ARGUMENT."""
        serial, kind = marshal.read_handle(handle)
        if kind != marshal.GPU or not 1 <= serial <= len(self.facts.gpus):
            raise Refused(Code.INVALID_ARGUMENT, "not a GPU")
        return self.gpu_at(serial - 1, state or self.state)

    def gpu_at(self, index: int, state: State) -> tuple[GpuFacts, GpuState]:
        """Return a GPU by index; GPU_IS_LOST where it fell off the bus."""
        gpu = state.gpus[index]
        if gpu.lost:
            raise Refused(Code.GPU_IS_LOST)
        return self.facts.gpus[index], gpu

    def instance(self, handle: Any, state: State) -> tuple[GpuFacts, GpuState, GpuInstance]:  # noqa: ANN401
        """Return the GPU instance of a handle; INVALID_ARGUMENT where it is gone."""
        serial, kind = marshal.read_handle(handle)
        for index, gpu in enumerate(state.gpus if kind == marshal.GPU_INSTANCE else ()):
            for instance in gpu.instances:
                if instance.serial == serial:
                    return (*self.gpu_at(index, state), instance)
        raise Refused(Code.INVALID_ARGUMENT, "no such GPU instance")

    def compute(
        self,
        handle: Any,  # noqa: ANN401
        state: State,
        kind: int = marshal.COMPUTE_INSTANCE,
    ) -> tuple[GpuFacts, GpuState, GpuInstance, ComputeInstance]:
        """Return the compute instance of its handle or of its MIG device's; INVALID_ARGUMENT where it is gone."""
        serial, found = marshal.read_handle(handle)
        for index, gpu in enumerate(state.gpus if found == kind else ()):
            for instance in gpu.instances:
                for compute in instance.compute:
                    if compute.serial == serial:
                        return (*self.gpu_at(index, state), instance, compute)
        raise Refused(Code.INVALID_ARGUMENT, "no such compute instance")
