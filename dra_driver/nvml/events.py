"""Events of GPUs: one thread waits in NVML, outside the interpreter's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import pynvml

from dra_driver.nvml.api import GpuEvent, NotSupportedError, NvmlError
from dra_driver.nvml.session import Handle, Session, ask, ask_or, fault

WANTED = (
    pynvml.nvmlEventTypeXidCriticalError
    | pynvml.nvmlEventTypeDoubleBitEccError
    | pynvml.nvmlEventTypeNonFatalPoisonError
    | pynvml.nvmlEventTypeFatalPoisonError
    | pynvml.nvmlEventTypeGpuUnavailableError
    | pynvml.nvmlEventTypeGpuRecoveryAction
)
_WHOLE_GPU = 0xFFFFFFFF


class PynvmlEventWatch:
    """An event set of NVML. Not thread-safe: one thread waits."""

    def __init__(self, session: Session, uuids: Sequence[str]) -> None:
        self._session, self._opened = session, session.opened
        self._events = ask(pynvml.nvmlEventSetCreate)
        self._names: dict[int | None, str] = {}
        try:
            self.unwatched: Sequence[str] = tuple(uuid for uuid in uuids if not self._register(session, uuid))
        except NvmlError:
            self.close()
            raise

    def _register(self, session: Session, uuid: str) -> bool:
        handle = session.handle(uuid)
        wanted = ask_or(0, pynvml.nvmlDeviceGetSupportedEventTypes, handle) & WANTED
        if not wanted:
            return False
        try:
            ask(pynvml.nvmlDeviceRegisterEvents, handle, wanted, self._events)
        except NotSupportedError:
            return False
        self._names[_address(handle)] = uuid
        return True

    def wait(self, timeout_s: float) -> GpuEvent | None:
        """Return the next event, None when none came in time."""
        if self._is_stale():
            raise fault("nvmlEventSetWait_v2", pynvml.NVML_ERROR_UNINITIALIZED)
        try:
            data = ask(pynvml.nvmlEventSetWait_v2, self._events, max(0, round(timeout_s * 1000)))
        except NvmlError as error:
            if error.code == pynvml.NVML_ERROR_TIMEOUT:
                return None
            raise
        return GpuEvent(
            # A GPU that has just fallen off the bus no longer tells its UUID.
            uuid=self._names.get(_address(data.device)) or ask(pynvml.nvmlDeviceGetUUID, data.device),
            kind=data.eventType,
            xid=data.eventData if data.eventType == pynvml.nvmlEventTypeXidCriticalError else 0,
            gpu_instance=data.gpuInstanceId if data.gpuInstanceId != _WHOLE_GPU else None,
            compute_instance=data.computeInstanceId if data.computeInstanceId != _WHOLE_GPU else None,
        )

    def close(self) -> None:
        """Free the event set."""
        if not self._is_stale():
            with suppress(NvmlError):
                ask(pynvml.nvmlEventSetFree, self._events)

    def _is_stale(self) -> bool:
        """Whether the session ended since, and the event set with it: NVML would follow a dead pointer."""
        return self._session.opened != self._opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _address(handle: Handle) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
