"""`PynvmlNvml`: the GPUs of this node through nvidia-ml-py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pynvml

from dra_driver.nvml import mig
from dra_driver.nvml.api import (
    ComputeInstance,
    ComputeMode,
    DriverNotLoadedError,
    EventWatch,
    GpuInstance,
    GpuLostError,
    GpuReading,
    MigReading,
    NotFoundError,
    NotSupportedError,
    NvmlError,
    ProfileReading,
    RecoveryAction,
    SystemReading,
)
from dra_driver.nvml.events import PynvmlEventWatch
from dra_driver.nvml.fields import field_values
from dra_driver.nvml.reading import gpu_reading, mig_reading, system_reading
from dra_driver.nvml.session import Handle, Session, ask, ask_or

_PROCESS_LISTS = (
    (pynvml.nvmlDeviceGetComputeRunningProcesses_v3, pynvml.nvmlDeviceGetComputeRunningProcesses_v2),
    (pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2),
    (pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v3, pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v2),
)
_EXCLUSIVE_THREAD = 1
"""Compute mode of drivers before CUDA 8: exclusive as well."""

T = TypeVar("T")


class PynvmlNvml:
    """Implements `api.Nvml`, which describes the calls.

    `library`: path of libnvidia-ml.so.1, where the loader would not find it by itself.
    """

    def __init__(self, library: Path | None = None) -> None:
        self._session = Session(library)
        self._lock = threading.Lock()
        self._seen: dict[str, None] = {}
        self._left_out: frozenset[str] = frozenset()
        self._profiles: dict[str, tuple[ProfileReading, ...]] = {}

    def close(self) -> None:
        """End the session; the next call opens another."""
        self._session.close()

    def system(self) -> SystemReading:
        """Return versions."""
        return self._session.run(system_reading)

    def gpus(self) -> Sequence[GpuReading]:
        """Return all GPUs by index, read anew."""
        return self._session.run(self._read_all)

    def lost(self) -> Sequence[str]:
        """Return UUIDs of GPUs seen before that do not answer now, or did not when all were read last."""
        with self._lock:
            seen, left_out = tuple(self._seen), self._left_out
        silent = self._session.run(lambda: frozenset(uuid for uuid in seen if self._is_lost(uuid)))
        return tuple(uuid for uuid in seen if uuid in left_out | silent)

    def recovery_action(self, uuid: str) -> RecoveryAction | None:
        """Return what the GPU needs; None where this driver version does not tell."""
        field = (pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 0)
        (action,) = self._on(uuid, lambda handle: field_values(handle, [field]))
        if action is None:
            return None
        # An action that only newer drivers know: whatever it is, it is no less than this.
        return RecoveryAction(action) if action in set(RecoveryAction) else RecoveryAction.SYSTEM_REBOOT

    def processes(self, uuid: str) -> Sequence[int]:
        """Return ids of processes on the GPU and its parts: compute, graphics, clients of MPS."""
        return self._on(uuid, _processes)

    def compute_mode(self, uuid: str) -> ComputeMode:
        """Return who may use the GPU."""
        mode = self._on(uuid, lambda handle: ask(pynvml.nvmlDeviceGetComputeMode, handle))
        return ComputeMode.EXCLUSIVE_PROCESS if mode == _EXCLUSIVE_THREAD else ComputeMode(mode)

    def set_compute_mode(self, uuid: str, mode: ComputeMode) -> None:
        """Say who may use the GPU."""
        self._on(uuid, lambda handle: ask(pynvml.nvmlDeviceSetComputeMode, handle, int(mode)))

    def mig_mode(self, uuid: str) -> MigReading | None:
        """Return the MIG mode, None where there is none."""
        return self._on(uuid, mig_reading)

    def set_mig_mode(self, uuid: str, *, enabled: bool) -> None:
        """Switch MIG, now or not at all."""
        self._on(uuid, lambda handle: mig.set_mode(handle, enabled=enabled))

    def gpu_instance_profiles(self, uuid: str) -> Sequence[ProfileReading]:
        """Return profiles with placements, by enum."""
        return self._on(uuid, lambda handle: self._known_profiles(uuid, handle))

    def gpu_instances(self, uuid: str) -> Sequence[GpuInstance]:
        """Return GPU instances, by start."""
        return self._on(uuid, lambda handle: mig.gpu_instances(handle, self._known_profiles(uuid, handle)))

    def compute_instances(self, uuid: str, gpu_instance: int) -> Sequence[ComputeInstance]:
        """Return the compute instances of a GPU instance, by id."""
        return self._on(uuid, lambda handle: mig.compute_instances(_gpu_instance(handle, gpu_instance)))

    def create_gpu_instance(self, uuid: str, profile_id: int, start: int) -> int:
        """Create it at exactly this placement. Returns its id."""

        def create(handle: Handle) -> int:
            return mig.create_gpu_instance(handle, self._profile(uuid, handle, profile_id), start)

        return self._on(uuid, create)

    def create_compute_instance(self, uuid: str, gpu_instance: int) -> ComputeInstance:
        """Create the one compute instance that fills a GPU instance."""

        def create(handle: Handle) -> ComputeInstance:
            instance = _gpu_instance(handle, gpu_instance)
            profile = self._profile(uuid, handle, ask(pynvml.nvmlGpuInstanceGetInfo, instance).profileId)
            return mig.create_compute_instance(instance, profile.compute_slices)

        return self._on(uuid, create)

    def destroy_compute_instance(self, uuid: str, gpu_instance: int, compute_instance: int) -> None:
        """Destroy it."""

        def destroy(handle: Handle) -> None:
            ask(pynvml.nvmlComputeInstanceDestroy, _compute_instance(handle, gpu_instance, compute_instance))

        self._on(uuid, destroy)

    def destroy_gpu_instance(self, uuid: str, gpu_instance: int) -> None:
        """Destroy it."""
        self._on(uuid, lambda handle: ask(pynvml.nvmlGpuInstanceDestroy, _gpu_instance(handle, gpu_instance)))

    def instance_processes(self, uuid: str, gpu_instance: int, compute_instance: int) -> Sequence[int]:
        """Return ids of processes on a MIG device; empty where it is gone."""

        def processes(handle: Handle) -> Sequence[int]:
            instance = _compute_instance(handle, gpu_instance, compute_instance)
            return _processes(ask(pynvml.nvmlComputeInstanceGetInfo_v2, instance).device)

        try:
            return self._on(uuid, processes)
        except NotFoundError:
            return ()

    def watch(self, uuids: Sequence[str]) -> EventWatch:
        """Register for what this driver version has of XIDs, memory errors, lost GPUs and recovery actions."""
        return self._session.run(lambda: PynvmlEventWatch(self._session, uuids))

    def _on(self, uuid: str, question: Callable[[Handle], T]) -> T:
        """Ask something of the GPU with this UUID."""
        try:
            return self._session.run(lambda: question(self._session.handle(uuid)))
        except GpuLostError:
            self._session.forget(uuid)
            raise

    def _read_all(self) -> Sequence[GpuReading]:
        """Read every GPU. One that fails hides no other; where none can be read, the reason is raised."""
        found = _Found()
        for index in range(ask(pynvml.nvmlDeviceGetCount)):
            with found.unless_broken():
                handle = ask(pynvml.nvmlDeviceGetHandleByIndex, index)
                found.uuids[index] = ask(pynvml.nvmlDeviceGetUUID, handle)
                if not _is_lost(handle):
                    found.handles[index] = handle
        for index, handle in found.handles.items():
            self._session.keep(found.uuids[index], handle)
        readings = []
        for index, handle in found.handles.items():
            with found.unless_broken():
                readings.append(_read_twice(index, found.uuids[index], handle, found.handles))
        if found.fault is not None and not readings:
            raise found.fault
        uuids = frozenset(found.uuids.values())
        with self._lock:
            self._seen |= dict.fromkeys(found.uuids.values())
            self._left_out = uuids - {reading.uuid for reading in readings}
        return tuple(readings)

    def _is_lost(self, uuid: str) -> bool:
        try:
            return _is_lost(self._session.handle(uuid))
        except DriverNotLoadedError:
            raise
        except NvmlError:
            self._session.forget(uuid)
            return True

    def _known_profiles(self, uuid: str, handle: Handle) -> tuple[ProfileReading, ...]:
        """Return the profiles, read once: they are the product's, and prepare asks for them at every partition."""
        known = self._profiles.get(uuid)
        if known is None:
            known = mig.profiles(handle)
            if known:
                with self._lock:
                    self._profiles[uuid] = known
        return known

    def _profile(self, uuid: str, handle: Handle, profile_id: int) -> ProfileReading:
        for profile in self._known_profiles(uuid, handle):
            if profile.profile_id == profile_id:
                return profile
        call = "nvmlDeviceGetGpuInstanceProfileInfo"
        raise NotFoundError(call, pynvml.NVML_ERROR_NOT_FOUND, f"GPU {uuid} has no GPU instance profile {profile_id}")


@dataclass(slots=True)
class _Found:
    """By index: the UUIDs of the GPUs there are, the handles of those that answer; and what failed of others."""

    handles: dict[int, Handle] = field(default_factory=dict)
    uuids: dict[int, str] = field(default_factory=dict)
    fault: NvmlError | None = None

    @contextmanager
    def unless_broken(self) -> Iterator[None]:
        """Go on without this GPU: one that has fallen off the bus is often no more than an unknown error to NVML."""
        try:
            yield
        except DriverNotLoadedError:
            raise
        except GpuLostError:
            pass
        except NvmlError as error:
            self.fault = error


def _read_twice(index: int, uuid: str, handle: Handle, answering: Mapping[int, Handle]) -> GpuReading:
    """Read a GPU, once more where it fails: one failure is no reason to take it for gone."""
    try:
        return gpu_reading(index, uuid, handle, answering)
    except (GpuLostError, DriverNotLoadedError):
        raise
    except NvmlError:
        return gpu_reading(index, uuid, handle, answering)


def _is_lost(handle: Handle) -> bool:
    """Whether the GPU has fallen off the bus: its memory is asked for, since what NVML keeps is answered for ever."""
    try:
        ask_or(None, pynvml.nvmlDeviceGetMemoryInfo, handle)
    except GpuLostError:
        return True
    except DriverNotLoadedError:
        raise
    except NvmlError:
        return False  # it is there, and whoever asks more of it is told what is wrong
    return False


def _gpu_instance(handle: Handle, number: int) -> Handle:
    return ask(pynvml.nvmlDeviceGetGpuInstanceById, handle, number)


def _compute_instance(handle: Handle, gpu_instance: int, number: int) -> Handle:
    return ask(pynvml.nvmlGpuInstanceGetComputeInstanceById, _gpu_instance(handle, gpu_instance), number)


def _processes(handle: Handle) -> tuple[int, ...]:
    found: set[int] = set()
    for newer, older in _PROCESS_LISTS:
        try:
            listed = ask(newer, handle)
        except NotSupportedError:
            listed = ask_or([], older, handle)
        found |= {process.pid for process in listed}
    return tuple(sorted(found))
