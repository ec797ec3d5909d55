"""What the driver asks of the GPUs of a node, in values. `binding.PynvmlNvml` answers; no other code knows pynvml.

GPUs are named by UUID, as they never change; GPU and compute instances by the ids NVML gave them, which are used again
after they are destroyed: who keeps an id keeps the UUID of the MIG device with it, and compares before it destroys.
Sizes are bytes unless a name says otherwise. Every call may raise NvmlError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Protocol, Self

from topology.facts import FabricFacts
from topology.mig import MigEngines

NOT_IN_FABRIC = FabricFacts()


class NvmlError(Exception):
    """NVML said no. `code` is its nvmlReturn_t, `call` the function asked."""

    def __init__(self, call: str, code: int, text: str) -> None:
        super().__init__(f"{call}: {text}")
        self.call = call
        self.code = code


class DriverNotLoadedError(NvmlError):
    """No libnvidia-ml, or no kernel driver behind it (yet, or any more)."""


class NotPermittedError(NvmlError):
    """NVML_ERROR_NO_PERMISSION: it takes root, or the device node is not to be opened."""


class NotSupportedError(NvmlError):
    """NVML_ERROR_NOT_SUPPORTED, or a function that this driver version lacks."""


class NotFoundError(NvmlError):
    """NVML_ERROR_NOT_FOUND or INVALID_ARGUMENT for an id: there is no such GPU or instance (any more)."""


class InUseError(NvmlError):
    """NVML_ERROR_IN_USE: a process or another client holds it; later it may go."""


class NoRoomError(NvmlError):
    """NVML_ERROR_INSUFFICIENT_RESOURCES: the placement is taken."""


class GpuLostError(NvmlError):
    """NVML_ERROR_GPU_IS_LOST or GPU_NOT_FOUND: it fell off the bus."""


class ResetRequiredError(NvmlError):
    """It takes a reset of the GPU. A MIG mode that would only become real with one (Ampere) was set back."""


class ComputeMode(IntEnum):
    """nvmlComputeMode_t."""

    DEFAULT = 0
    PROHIBITED = 2
    EXCLUSIVE_PROCESS = 3


class RecoveryAction(IntEnum):
    """What brings a GPU back (NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, field 230)."""

    NONE = 0
    GPU_RESET = 1
    NODE_REBOOT = 2
    DRAIN_P2P = 3
    DRAIN_AND_RESET = 4
    RECOVER_IMEX_DOMAIN = 5
    BUS_RESET = 6
    SYSTEM_REBOOT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemReading:
    """Versions of the driver, of CUDA (`13.0`), of NVML."""

    driver_version: str
    cuda_driver_version: str
    nvml_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigReading:
    """MIG mode now, and after the next reset."""

    enabled: bool
    pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReading:
    """One active NVLink. `remote`: gpu, switch, npu or unknown; `remote_pci_address` as sysfs writes it, else empty."""

    link: int
    remote: str
    remote_pci_address: str = ""
    version: int = 0
    mbps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU as NVML tells it; None and empty text where it does not (older driver, virtual machine)."""

    index: int
    minor: int
    uuid: str
    product: str
    brand: str = ""
    architecture: str = ""
    cuda_compute_capability: str = ""
    memory_bytes: int
    multiprocessors: int | None = None
    addressing_mode: str = ""
    pci_address: str = ""
    links: tuple[LinkReading, ...] = ()
    pcie_levels: tuple[str, ...] = ()
    """To the GPU of each index, in the words of `nvidia-smi topo -m`, `X` for itself, empty where unknown."""
    nvlink_peers: tuple[bool | None, ...] = ()
    """Whether nvmlDeviceGetP2PStatus(NVLINK) is OK to the GPU of each index; None for itself and where unknown."""
    fabric: FabricFacts = NOT_IN_FABRIC
    mig: MigReading | None = None
    """None where the GPU cannot be partitioned."""
    virtual: bool = False
    """A vGPU guest: nothing about it can be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileReading:
    """A GPU instance profile and its placements, as NVML reports them; `enum` is what NVML is asked for."""

    enum: int
    profile_id: int
    name: str = ""
    """Empty where this NVML does not tell names."""
    compute_slices: int
    size: int
    starts: tuple[int, ...]
    max_instances: int
    multiprocessors: int
    memory_mib: int
    engines: MigEngines


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInstance:
    """A GPU instance that exists, whether or not it has a compute instance."""

    id: int
    profile_id: int
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeInstance:
    """A compute instance that exists, and the UUID (`MIG-...`) of the MIG device that it is."""

    id: int
    gpu_instance: int
    uuid: str
    profile_id: int
    fills: bool = True
    """Whether it has all compute slices of the GPU instance; also True where this NVML does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEvent:
    """An event of a GPU. `xid` is 0 for events of other kinds; ids are None for the whole GPU."""

    uuid: str
    kind: int
    """nvmlEventType*."""
    xid: int = 0
    gpu_instance: int | None = None
    compute_instance: int | None = None


class EventWatch(Protocol):
    """Events of the GPUs it was made for. Closed as a context manager."""

    @property
    def unwatched(self) -> Sequence[str]:
        """Return UUIDs of GPUs that have no events to register for."""
        ...

    def wait(self, timeout_s: float) -> GpuEvent | None:
        """Return the next event, None when none came in time."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Nvml(Protocol):
    """The GPUs of this node. One session for the life of the process; calls may come from several threads."""

    def system(self) -> SystemReading:
        """Return versions."""
        ...

    def gpus(self) -> Sequence[GpuReading]:
        """Return all GPUs by index, read anew. One that is lost is left out: `lost` has it."""
        ...

    def lost(self) -> Sequence[str]:
        """Return UUIDs of GPUs seen before that do not answer now, or did not when all were read last."""
        ...

    def recovery_action(self, uuid: str) -> RecoveryAction | None:
        """Return what the GPU needs; None where this driver version does not tell."""
        ...

    def processes(self, uuid: str) -> Sequence[int]:
        """Return ids of processes that use the GPU or a part of it, compute and graphics."""
        ...

    def compute_mode(self, uuid: str) -> ComputeMode:
        """Return who may use the GPU."""
        ...

    def set_compute_mode(self, uuid: str, mode: ComputeMode) -> None:
        """Say who may use the GPU."""
        ...

    def mig_mode(self, uuid: str) -> MigReading | None:
        """Return the MIG mode, None where there is none."""
        ...

    def set_mig_mode(self, uuid: str, *, enabled: bool) -> None:
        """Switch MIG, now or not at all.

        Raises ResetRequiredError where it takes a reset, InUseError where a client holds the GPU; nothing is then left
        pending, since a pending mode would become real with a reset that somebody does for another reason.
        """
        ...

    def gpu_instance_profiles(self, uuid: str) -> Sequence[ProfileReading]:
        """Return profiles with placements, by enum; needs root. Empty where the GPU cannot be partitioned."""
        ...

    def gpu_instances(self, uuid: str) -> Sequence[GpuInstance]:
        """Return GPU instances, also those without compute instance; empty where MIG is off."""
        ...

    def compute_instances(self, uuid: str, gpu_instance: int) -> Sequence[ComputeInstance]:
        """Return the compute instances of a GPU instance."""
        ...

    def create_gpu_instance(self, uuid: str, profile_id: int, start: int) -> int:
        """Create it at exactly this placement. Returns its id. Raises NoRoomError where that is taken."""
        ...

    def create_compute_instance(self, uuid: str, gpu_instance: int) -> ComputeInstance:
        """Create the one compute instance that fills a GPU instance (by slices; never 7_SLICE_NVL)."""
        ...

    def destroy_compute_instance(self, uuid: str, gpu_instance: int, compute_instance: int) -> None:
        """Destroy it. Raises InUseError while a process uses it, NotFoundError where it is gone."""
        ...

    def destroy_gpu_instance(self, uuid: str, gpu_instance: int) -> None:
        """Destroy it. Raises InUseError while it has a compute instance or a user, NotFoundError where it is gone."""
        ...

    def instance_processes(self, uuid: str, gpu_instance: int, compute_instance: int) -> Sequence[int]:
        """Return ids of processes on a MIG device; empty where it is gone."""
        ...

    def watch(self, uuids: Sequence[str]) -> EventWatch:
        """Register for XIDs, lost GPUs and recovery actions, as far as this driver version has them."""
        ...
