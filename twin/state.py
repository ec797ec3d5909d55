"""What changes about a machine: MIG, modes, users, health, faults that are planned. Plain mutable values.

Serial numbers never repeat in the life of a twin; ids do, as the real ones.
"""

from __future__ import annotations

from msgspec import Struct


class ComputeInstance(Struct, kw_only=True):
    """A compute instance: `start` and `size` in compute slices of its GPU instance. It is the MIG device `uuid`."""

    id: int
    serial: int
    profile: int
    start: int
    size: int
    uuid: str


class GpuInstance(Struct, kw_only=True):
    """A GPU instance: `start` in memory slices; `profile` is NVML's enum."""

    id: int
    serial: int
    profile: int
    start: int
    compute: list[ComputeInstance] = []


class Process(Struct, kw_only=True):
    """A process on a GPU, or on the MIG device (gpu_instance, compute_instance) of it."""

    pid: int
    kind: str = "compute"
    memory_mib: int = 0
    gpu_instance: int | None = None
    compute_instance: int | None = None


class GpuState(Struct, kw_only=True):
    """One GPU. `time_slice`: 0 default to 3 long."""

    mig_enabled: bool = False
    mig_pending: bool = False
    instances: list[GpuInstance] = []
    compute_mode: int = 0
    time_slice: int = 0
    persistence: bool = False
    processes: list[Process] = []
    lost: bool = False
    recovery_action: int = 0
    links_down: list[int] = []


class Event(Struct, kw_only=True):
    """Something that `nvmlEventSetWait` tells; `number` ascends."""

    number: int
    gpu: int
    kind: int
    data: int = 0
    gpu_instance: int | None = None
    compute_instance: int | None = None


class Fault(Struct, kw_only=True):
    """What happens at certain calls of `function` (no version suffix; `*` for all).

    It skips `skip` calls, then acts on `times` calls (-1: on all). In order: sleep `delay_s`; hang until the fault is
    cleared; kill the process; return `code`. With `after` the call takes effect first, so the caller cannot know.
    """

    number: int
    function: str
    skip: int = 0
    times: int = 1
    code: int | None = None
    delay_s: float = 0.0
    hang: bool = False
    kill: bool = False
    after: bool = False
    gpu: int | None = None


class MpsDaemon(Struct, kw_only=True):
    """A running MPS control daemon. `gpus` are UUIDs of GPUs or MIG devices; limits are texts as given, by UUID."""

    pipe_directory: str
    pid: int
    start_time: int
    gpus: list[str]
    active_thread_percentage: float = 100.0
    pinned_memory_limits: dict[str, str] = {}
    servers: list[int] = []


class Behaviour(Struct, kw_only=True):
    """What kind of driver and host this is.

    `lacks`: functions its NVML does not export. `reset_supported`: false in many clouds. `vgpu_guest`: GPUs are slices
    handed to a virtual machine. `repeat_mig_uuids`: a MIG device gets the UUID again that its ids had before. `tree`:
    the host tree kept in step, with the majors it shows.
    """

    driver_version: str
    cuda_version: str
    lacks: list[str] = []
    reset_supported: bool = True
    vgpu_guest: bool = False
    privileged: bool = True
    repeat_mig_uuids: bool = False
    tree: str = ""
    uvm_major: int = 0
    caps_major: int = 0


class State(Struct, kw_only=True):
    """The machine."""

    behaviour: Behaviour
    gpus: list[GpuState]
    serial: int = 0
    event_number: int = 0
    events: list[Event] = []
    faults: list[Fault] = []
    mps: list[MpsDaemon] = []
    boots: int = 1

    def next_serial(self) -> int:
        """Return a number that no other object of this twin ever had."""
        self.serial += 1
        return self.serial


KEPT_EVENTS = 512


def add_event(state: State, event: Event) -> None:
    """Append `event` with the next number; the oldest are forgotten."""
    state.event_number += 1
    event.number = state.event_number
    state.events.append(event)
    del state.events[:-KEPT_EVENTS]
