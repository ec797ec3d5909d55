"""What is on a GPU now, as far as preparing depends on it: MIG mode and instances, in one value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dra_driver.errors import DeviceError, GpuGoneError, PermanentError, RetryableError
from dra_driver.nvml.api import (
    ComputeInstance,
    GpuInstance,
    GpuLostError,
    InUseError,
    NoRoomError,
    NotFoundError,
    NotSupportedError,
    Nvml,
    NvmlError,
    ResetRequiredError,
)
from dra_driver.prepare.model import MigTarget

_REMEDY: dict[type[NvmlError], str] = {
    InUseError: "a process or another client (DCGM, persistence mode) holds it; it is tried again",
    NoRoomError: "its place is taken by an instance that is not in our journal",
    GpuLostError: "the GPU fell off the bus; the node needs attention",
    ResetRequiredError: "the GPU would have to be reset, which is left to people",
    NotSupportedError: "this GPU or driver version cannot",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A GPU instance with the compute instances on it."""

    gpu_instance: GpuInstance
    compute: tuple[ComputeInstance, ...] = ()

    def is_at(self, target: MigTarget) -> bool:
        """Whether it is exactly this placement."""
        there = self.gpu_instance
        return (there.profile_id, there.start, there.size) == (target.profile_id, target.start, target.size)

    def overlaps(self, target: MigTarget) -> bool:
        """Whether it takes a memory slice of this placement."""
        there = self.gpu_instance
        return there.start < target.start + target.size and target.start < there.start + there.size


@dataclass(frozen=True, slots=True, kw_only=True)
class OnGpu:
    """MIG of one GPU: whether it is on, None where it has none, and what exists."""

    uuid: str
    mig_enabled: bool | None = None
    instances: tuple[Instance, ...] = ()


def read(nvml: Nvml, uuid: str) -> OnGpu:
    """Return what is on a GPU. Raises DeviceError."""
    with asking(f"read MIG of GPU {uuid}"):
        try:
            mode = nvml.mig_mode(uuid)
        except NotFoundError as fault:
            raise GpuGoneError(f"GPU {uuid} is not in the machine any more: {fault}") from fault
        if mode is None or not mode.enabled:
            return OnGpu(uuid=uuid, mig_enabled=None if mode is None else False)
        instances = tuple(
            Instance(gpu_instance=instance, compute=tuple(nvml.compute_instances(uuid, instance.id)))
            for instance in nvml.gpu_instances(uuid)
        )
        return OnGpu(uuid=uuid, mig_enabled=True, instances=instances)


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn NVML's errors into ours: `what` (an infinitive) is told with its cause and what helps."""
    try:
        yield
    except NvmlError as fault:
        remedy = next((text for kind, text in _REMEDY.items() if isinstance(fault, kind)), "it is tried again")
        raise _kind(fault)(f"cannot {what}: {fault}; {remedy}") from fault


def _kind(fault: NvmlError) -> type[DeviceError]:
    if isinstance(fault, GpuLostError):
        return GpuGoneError
    return PermanentError if isinstance(fault, NotSupportedError | ResetRequiredError) else RetryableError
