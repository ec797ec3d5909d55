"""The object that stands for libnvidia-ml: functions by name, faults, and putting it under pynvml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pynvml

from twin.codes import TEXTS, Code, Refused
from twin.nvml import calls_device, calls_events, calls_links, calls_mig, calls_migdevice, calls_system
from twin.nvml.faults import Faults
from twin.nvml.session import CALLS, Session
from twin.store import Store

__all__ = ["Library", "install"]
_REGISTERED = (calls_device, calls_events, calls_links, calls_mig, calls_migdevice, calls_system)
_WITHOUT_INIT = ("nvmlInitWithFlags", "nvmlInit_v2")


class Library:
    """Functions are attributes, as of a ctypes library. A name that this driver lacks raises AttributeError.

    `calls` counts the calls of this process by name.
    """

    def __init__(self, store: Store) -> None:
        self.session = Session(store)
        self.calls: Counter[str] = Counter()
        self._faults = Faults(store)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a function with ctypes arguments
        if name == "nvmlErrorString":
            return self._keep(name, _error_string)
        function = CALLS.get(name)
        if function is None or name in self.session.state.behaviour.lacks:
            raise AttributeError(name)
        session, faults, calls = self.session, self._faults, self.calls
        needs_init = name not in _WITHOUT_INIT

        def perform(*args: Any) -> int:  # noqa: ANN401
            calls[name] += 1
            if needs_init and not session.initialized:
                return int(Code.UNINITIALIZED)
            fault = faults.due(name, args)
            if fault is not None and not fault.after and (code := faults.act(fault)) is not None:
                return code
            try:
                answer = int(function(session, *args) or Code.SUCCESS)
            except Refused as refused:
                answer = int(refused.code)
            if fault is not None and fault.after and (code := faults.act(fault)) is not None:
                return code
            return answer

        return self._keep(name, perform)

    def _keep(self, name: str, function: Any) -> Any:  # noqa: ANN401
        self.__dict__[name] = function
        return function


# pynvml sets `restype` on it, which only a plain function takes.
def _error_string(code: int) -> bytes:
    return TEXTS.get(Code(code) if code in list(Code) else Code.UNKNOWN, "Unknown Error").encode()


@contextmanager
def install(library: Library) -> Iterator[Library]:
    """Put `library` under pynvml for the length of the block; what was there before comes back."""
    module: Any = pynvml
    before = module.nvmlLib, dict(module._nvmlGetFunctionPointer_cache), module._nvmlLib_refcount
    module.nvmlLib, module._nvmlLib_refcount = library, 0
    module._nvmlGetFunctionPointer_cache.clear()
    try:
        yield library
    finally:
        module.nvmlLib, cache, module._nvmlLib_refcount = before
        module._nvmlGetFunctionPointer_cache.clear()
        module._nvmlGetFunctionPointer_cache.update(cache)
