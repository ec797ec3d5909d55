"""One NVML session for the life of the process: opened when first asked, opened again after the driver was away.

nvidia-ml-py is untyped and keeps the library in a global of its module; both stay in this package. Handles are kept by
UUID: looking them up can take seconds on a busy node.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pynvml

from dra_driver.nvml.api import (
    DriverNotLoadedError,
    GpuLostError,
    InUseError,
    NoRoomError,
    NotFoundError,
    NotPermittedError,
    NotSupportedError,
    NvmlError,
    ResetRequiredError,
)

NO_GPUS_IS_FINE = 1
"""NVML_INIT_FLAG_NO_GPUS: a node without GPUs is an answer, not an error."""

_ERRORS: dict[int, type[NvmlError]] = {
    pynvml.NVML_ERROR_UNINITIALIZED: DriverNotLoadedError,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: DriverNotLoadedError,
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: DriverNotLoadedError,
    pynvml.NVML_ERROR_NO_PERMISSION: NotPermittedError,
    pynvml.NVML_ERROR_NOT_SUPPORTED: NotSupportedError,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: NotSupportedError,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: NotSupportedError,
    pynvml.NVML_ERROR_NOT_FOUND: NotFoundError,
    pynvml.NVML_ERROR_INVALID_ARGUMENT: NotFoundError,
    pynvml.NVML_ERROR_IN_USE: InUseError,
    pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES: NoRoomError,
    pynvml.NVML_ERROR_GPU_IS_LOST: GpuLostError,
    pynvml.NVML_ERROR_GPU_NOT_FOUND: GpuLostError,
    pynvml.NVML_ERROR_RESET_REQUIRED: ResetRequiredError,
}
_REMEDIES = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 was not found: install the driver, or name its root",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "kernel driver and libnvidia-ml differ in version: restart this program "
    "after a driver upgrade",
    pynvml.NVML_ERROR_NO_PERMISSION: "not permitted: it takes root and access to the GPU's device node",
}

T = TypeVar("T")
Handle: TypeAlias = Any
"""A GPU, an instance or an event set, as nvidia-ml-py holds it: an opaque pointer."""
Struct: TypeAlias = Any
"""A struct of NVML, or an array of them."""


def fault(call: str, code: int) -> NvmlError:
    """Return NVML's code as an error of ours."""
    text = _REMEDIES.get(code) or str(pynvml.NVMLError(code))
    return _ERRORS.get(code, NvmlError)(call, code, text)


def ask(function: Callable[..., Any], *arguments: object) -> Struct:
    """Call a function of nvidia-ml-py; what it raises becomes an NvmlError."""
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        raise fault(function.__name__, error.value) from None


def ask_or(default: T, function: Callable[..., Any], *arguments: object) -> Struct | T:
    """Like `ask`; `default` where this GPU or this driver version does not tell."""
    try:
        return ask(function, *arguments)
    except (NotSupportedError, NotFoundError):
        return default


class Session:
    """The session. Thread-safe: NVML is, and opening and the handles have a lock."""

    def __init__(self, library: Path | None = None) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._opened = 0
        self._open = False
        self._handles: dict[str, Handle] = {}

    @property
    def opened(self) -> int:
        """How often it was opened, 0 while it is closed: pointers of an earlier session lead nowhere."""
        with self._lock:
            return self._opened if self._open else 0

    def run(self, question: Callable[[], T]) -> T:
        """Answer a question that may take several calls, once more if the driver turns out to have been reloaded."""
        opened = self._ensure_open()
        try:
            return question()
        except DriverNotLoadedError:
            self._close(opened)
        self._ensure_open()
        return question()

    def handle(self, uuid: str) -> Handle:
        """Return the handle of a GPU. Raises NotFoundError where there is none with this UUID."""
        handle = self._handles.get(uuid)
        if handle is None:
            handle = _find(uuid)
            self.keep(uuid, handle)
        return handle

    def keep(self, uuid: str, handle: Handle) -> None:
        """Remember the handle of a GPU."""
        with self._lock:
            self._handles[uuid] = handle

    def forget(self, uuid: str) -> None:
        """Look the handle up anew next time: the GPU was lost, and may come back."""
        with self._lock:
            self._handles.pop(uuid, None)

    def close(self) -> None:
        """End the session. The next question opens another."""
        self._close(self._opened)

    def _ensure_open(self) -> int:
        with self._lock:
            if not self._open:
                _load(self._library)
                ask(pynvml.nvmlInitWithFlags, NO_GPUS_IS_FINE)
                self._open = True
                self._opened += 1
            return self._opened

    def _close(self, opened: int) -> None:
        with self._lock:
            # Another thread may have opened a new session since.
            if self._open and self._opened == opened:
                self._open = False
                self._handles.clear()
                with suppress(NvmlError):
                    ask(pynvml.nvmlShutdown)


def _find(uuid: str) -> Handle:
    try:
        return ask(pynvml.nvmlDeviceGetHandleByUUID, uuid)
    except GpuLostError:
        # NVML stops searching at any GPU that is lost: this one may be well (nvml.h).
        for index in range(ask(pynvml.nvmlDeviceGetCount)):
            with suppress(NvmlError):
                handle = ask(pynvml.nvmlDeviceGetHandleByIndex, index)
                if ask(pynvml.nvmlDeviceGetUUID, handle) == uuid:
                    return handle
        raise


def _load(library: Path | None) -> None:
    """Load libnvidia-ml from `library` unless one is loaded: nvidia-ml-py itself knows no path."""
    if library is None or pynvml.nvmlLib is not None:
        return
    try:
        pynvml.nvmlLib = ctypes.CDLL(str(library))
    except OSError as error:
        raise DriverNotLoadedError("dlopen", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, f"{library}: {error}") from None
