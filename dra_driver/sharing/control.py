"""Puts the settings of sharing on GPUs, and takes them off: the one place that does.

Each step may be the last one of this process: the marker is written first and removed last, every step may be done
again, and undoing what was never done does no harm. So another `apply` or `release` ends what a crash began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dra_driver.config.model import Interval, Strategy
from dra_driver.errors import PermanentError, RetryableError
from dra_driver.nvml.api import ComputeMode, GpuLostError, NotFoundError, NotSupportedError, Nvml, NvmlError
from dra_driver.prepare.effects import GpuWide
from dra_driver.roots import Roots
from dra_driver.sharing.markers import Marker, Markers
from dra_driver.sharing.mps import MpsDaemons
from dra_driver.sharing.programs import ProgramError, Programs

SMI = "nvidia-smi"
SMI_S = 10.0
"""How long nvidia-smi may take; without persistence mode it initialises the GPU first."""
TIME_SLICE = {Interval.DEFAULT: 0, Interval.SHORT: 1, Interval.MEDIUM: 2, Interval.LONG: 3}
_MODE = {Strategy.MPS: ComputeMode.EXCLUSIVE_PROCESS, Strategy.EXCLUSIVE: ComputeMode.EXCLUSIVE_PROCESS}
_NOT_SUPPORTED = "not supported"


class NodeSharing:
    """`SharingControl` (dra_driver.prepare.effects) for the GPUs of this node.

    Calls for one GPU come one at a time (the GPU's lock); those for several may come at once.
    """

    def __init__(self, nvml: Nvml, roots: Roots, boot_id: str) -> None:
        self._nvml = nvml
        self._boot_id = boot_id
        self._programs = Programs(roots.driver_root)
        self._daemons = MpsDaemons(roots)
        self._markers = Markers(roots.state / "sharing")

    def apply(self, gpu_uuid: str, wide: GpuWide) -> None:
        """Make the GPU so, and wait until it is. Raises DeviceError; what was begun then is found by `leftovers`."""
        marker = self._markers.get(gpu_uuid)
        wanted = Marker(wide, self._boot_id)
        if marker is not None and marker.wide != wide:
            # A daemon may have clients: it stays where one is wanted, whatever an unreadable marker may stand for.
            self._undo(gpu_uuid, marker.wide, with_daemon=wide.strategy is not Strategy.MPS)
        if wide.strategy is Strategy.DEFAULT:
            self._markers.remove(gpu_uuid)
            return
        if marker != wanted:
            self._markers.put(gpu_uuid, wanted)
        self._set_mode(gpu_uuid, _MODE.get(wide.strategy, ComputeMode.DEFAULT))
        if wide.strategy is Strategy.MPS:
            self._daemons.ensure(gpu_uuid)
        elif wide.interval is not Interval.DEFAULT:
            self._set_time_slice(gpu_uuid, wide.interval)

    def release(self, gpu_uuid: str) -> None:
        """Put the GPU back to defaults, if anything was set. Raises RetryableError."""
        marker = self._markers.get(gpu_uuid)
        if marker is not None:
            self._undo(gpu_uuid, marker.wide)
        self._markers.remove(gpu_uuid)

    def is_applied(self, gpu_uuid: str, wide: GpuWide) -> bool:
        """Whether the GPU is so. Nothing can read a time slice: of that, what was set in this boot is believed."""
        if self._markers.get(gpu_uuid) != Marker(wide, self._boot_id):
            return wide.strategy is Strategy.DEFAULT and self._markers.get(gpu_uuid) is None
        with _nvml(gpu_uuid):
            if self._nvml.compute_mode(gpu_uuid) is not _MODE.get(wide.strategy, ComputeMode.DEFAULT):
                return False
        return wide.strategy is not Strategy.MPS or self._daemons.is_ready(gpu_uuid)

    def leftovers(self) -> Sequence[str]:
        """Return the UUIDs of GPUs on which something is set, or may be."""
        return self._markers.uuids()

    def _undo(self, uuid: str, wide: GpuWide, *, with_daemon: bool = True) -> None:
        """Undo in reverse. A GPU that is gone took its settings along; one without a feature has none to undo."""
        if with_daemon and wide.strategy is Strategy.MPS:
            self._daemons.stop(uuid)
        if self._is_gone(uuid):
            return
        if wide.interval is not Interval.DEFAULT:
            self._forgive(lambda: self._set_time_slice(uuid, Interval.DEFAULT))
        if with_daemon or wide.strategy is not Strategy.MPS:
            self._forgive(lambda: self._set_mode(uuid, ComputeMode.DEFAULT))

    def _is_gone(self, uuid: str) -> bool:
        try:
            self._nvml.compute_mode(uuid)
        except (NotFoundError, GpuLostError):
            return True
        except NvmlError:
            return False
        return False

    def _forgive(self, undo: Callable[[], None]) -> None:
        try:
            undo()
        except PermanentError:
            return

    def _set_mode(self, uuid: str, mode: ComputeMode) -> None:
        with _nvml(uuid):
            if self._nvml.compute_mode(uuid) is not mode:
                self._nvml.set_compute_mode(uuid, mode)

    def _set_time_slice(self, uuid: str, interval: Interval) -> None:
        arguments = ("compute-policy", "-i", uuid, f"--set-timeslice={TIME_SLICE[interval]}")
        try:
            self._programs.run(SMI, arguments, timeout_s=SMI_S)
        except ProgramError as fault:
            if _NOT_SUPPORTED in fault.said.lower():
                problem = f"GPU {uuid} cannot have its time slice set ({SMI}: {fault.said})"
                raise PermanentError(f"{problem}; leave out $.sharing.timeSlicing.interval") from fault
            raise


@contextmanager
def _nvml(uuid: str) -> Iterator[None]:
    try:
        yield
    except (NotSupportedError, NotFoundError, GpuLostError) as fault:
        raise PermanentError(
            f"GPU {uuid} cannot have its compute mode set ({fault}); ask for another device"
        ) from fault
    except NvmlError as fault:
        raise RetryableError(f"GPU {uuid}: {fault}") from fault
