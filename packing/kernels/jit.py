"""The one way kernels are compiled: on first use, GIL released, machine code kept between processes where possible.

numba's own on-disk cache looks only at the file of the cached function, so a change in a kernel that it *calls* would
go unnoticed; nor does it tell code that checks bounds from code that does not. The cache folder is therefore named by a
digest of all kernel sources and the mode: any edit starts a fresh one.
Without a writable folder (a read-only container without NUMBA_CACHE_DIR) kernels are compiled in every process instead.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def _cache_dir() -> str:
    """Return a writable folder for machine code, or an empty string."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    digest.update(f"boundscheck {os.environ.get('NUMBA_BOUNDSCHECK', '')}".encode())
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "dovetail-kernels" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except (OSError, RuntimeError):  # RuntimeError: no home directory to expand
        return ""


_CACHE_DIR = _cache_dir()
if _CACHE_DIR:
    setattr(numba.config, "CACHE_DIR", _CACHE_DIR)  # noqa: B010 - numba defines its settings at run time


def compiled_before() -> bool:
    """Whether the decision kernel is in the cache; if not, the first call compiles for about half a minute."""
    return bool(_CACHE_DIR) and any(Path(_CACHE_DIR).glob("**/decide.decide-*.nbi"))


def kernel(function: F) -> F:
    """Compile `function` for plain arrays and scalars; no fastmath, so that results are the same on every machine."""
    return _compile(function)


def hot_kernel(function: F) -> F:
    """Compile `function` to be called from Python, without reference counts: it may use arrays but not create any.

    A tuple of forty arrays handed down ten calls costs eight hundred atomic counter updates per node otherwise.
    """
    return _compile(function, _nrt=False)


def inner_kernel(function: F) -> F:
    """Compile `function` like `hot_kernel`, to be called by other kernels alone.

    Without the wrapper that unpacks forty arrays from Python objects it compiles twice as fast; inlined, a call hands
    no two hundred array fields down on the stack.
    """
    return _compile(function, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)


def direct(entry: F) -> F:
    """Return `entry`, a kernel that Python calls, without numba's look at the types of its arguments.

    For sixty arrays that look takes 6 us, unpacking them 0.5. It is needless: what the kernel is called with first is
    what it is always called with (tests/packing/test_signatures.py). Sizes and dimensions are still checked.
    """
    if not hasattr(entry, "overloads"):  # NUMBA_DISABLE_JIT: a plain function
        return entry
    return cast("F", Direct(entry))


class Direct:
    """Machine code of a kernel for the types of its first call."""

    __slots__ = ("_code", "kernel")

    def __init__(self, kernel: Any) -> None:  # noqa: ANN401 - numba is not annotated
        self.kernel = kernel
        self._code: Callable[..., Any] | None = None

    def __call__(self, *arguments: object) -> object:
        """Run the kernel."""
        if self._code is None:
            typeof: Any = numba.typeof
            types = tuple(typeof(argument) for argument in arguments)
            result = self.kernel(*arguments)
            self._code = self.kernel.overloads[types].entry_point
            return result
        return self._code(*arguments)


def _compile(function: F, **options: bool) -> F:
    """Apply numba's decorator; its published types lack the options that matter here."""
    jit: Any = numba.njit
    compiled: F = jit(nogil=True, error_model="numpy", cache=bool(_CACHE_DIR), **options)(function)
    return compiled
