"""Reads and writes the ctypes arguments that pynvml passes, as the C library would through its pointers."""

from __future__ import annotations

import ctypes
from typing import Any

from topology.mig import MigEngines
from twin.codes import Code, Refused

KIND_BITS = 0xF
GPU, GPU_INSTANCE, COMPUTE_INSTANCE, MIG_DEVICE, EVENT_SET = range(1, 6)
"""Kinds of handle. Its address is `serial * 16 + kind`: one that outlived its object never names another."""


def number(value: Any) -> int:  # noqa: ANN401 - an int or a ctypes integer
    """Return an integer argument."""
    return value if isinstance(value, int) else int(value.value)


def target(reference: Any) -> Any:  # noqa: ANN401 - byref(x), a pointer, an array, or null
    """Return what a pointer argument points to; INVALID_ARGUMENT for null."""
    if reference is None:
        raise Refused(Code.INVALID_ARGUMENT, "null pointer")
    if hasattr(reference, "contents"):
        return reference.contents if reference else target(None)
    return getattr(reference, "_obj", reference)


def put(reference: Any, value: int) -> None:  # noqa: ANN401
    """Write an integer."""
    target(reference).value = value


def put_text(buffer: Any, length: Any, text: str) -> None:  # noqa: ANN401
    """Write a text with its end mark; INSUFFICIENT_SIZE where it does not fit."""
    raw = text.encode()
    if len(raw) >= number(length):
        raise Refused(Code.INSUFFICIENT_SIZE, text)
    buffer.value = raw


def put_handle(reference: Any, serial: int, kind: int) -> None:  # noqa: ANN401
    """Write a handle through a pointer to one."""
    ctypes.c_void_p.from_buffer(target(reference)).value = serial << 4 | kind


def handle_value(serial: int, kind: int) -> ctypes.c_void_p:
    """Return a handle, to be cast into a field or an array."""
    return ctypes.c_void_p(serial << 4 | kind)


def read_handle(handle: Any) -> tuple[int, int]:  # noqa: ANN401 - a ctypes pointer
    """Return (serial, kind); INVALID_ARGUMENT for null."""
    address = ctypes.cast(handle, ctypes.c_void_p).value
    if not address:
        raise Refused(Code.INVALID_ARGUMENT, "null handle")
    return address >> 4, address & KIND_BITS


def put_handles(array: Any, serials: list[int], kind: int) -> None:  # noqa: ANN401 - a ctypes array of handles
    """Write handles into an array; the caller made it large enough, as for the C library."""
    array = target(array)
    for at, serial in enumerate(serials):
        array[at] = ctypes.cast(handle_value(serial, kind), array._type_)


def fill(struct: Any, values: dict[str, Any]) -> None:  # noqa: ANN401 - a ctypes structure
    """Set the fields of `struct` that it has among `values`."""
    for name, *_ in struct._fields_:
        if name in values:
            setattr(struct, name, values[name])


def engine_counts(engines: MigEngines | None, *, shared: bool = False) -> dict[str, int]:
    """Return the counts of engines under the names that structs of GPU, or of compute instances (`shared`), have."""
    has = engines or MigEngines()
    names = ("CopyEngineCount", "DecoderCount", "EncoderCount", "JpegCount", "OfaCount")
    keys = (f"shared{name}" if shared else name[0].lower() + name[1:] for name in names)
    return dict(zip(keys, (has.copy, has.decoder, has.encoder, has.jpeg, has.ofa), strict=True))


def fill_handle(struct: Any, field: str, serial: int, kind: int) -> None:  # noqa: ANN401
    """Set a field that holds a handle."""
    kinds = {name: type_ for name, type_, *_ in struct._fields_}
    setattr(struct, field, ctypes.cast(handle_value(serial, kind), kinds[field]))


def require_version(struct: Any, *versions: int) -> int:  # noqa: ANN401
    """Return the version of a struct; ARGUMENT_VERSION_MISMATCH where it is none of `versions` or its size is wrong."""
    version, size = struct.version >> 24, struct.version & 0xFFFFFF
    if version not in versions or size != ctypes.sizeof(struct):
        raise Refused(Code.ARGUMENT_VERSION_MISMATCH, f"{struct.version:#x}")
    return int(version)
