"""NVML's field values: numbers by field id and scope, several in one call."""

from __future__ import annotations

from collections.abc import Sequence

import pynvml

from dra_driver.nvml.api import NotSupportedError
from dra_driver.nvml.session import Handle, Struct, ask

_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}


def field_values(handle: Handle, fields: Sequence[tuple[int, int]]) -> list[int | None]:
    """Return the value of each (field id, scope id); None where the GPU or the driver version does not have it."""
    if not fields:
        return []
    try:
        values = ask(pynvml.nvmlDeviceGetFieldValues, handle, list(fields))
    except NotSupportedError:
        return [None] * len(fields)
    return [_number(value) for value in values]


def _number(value: Struct) -> int | None:
    if value.nvmlReturn != pynvml.NVML_SUCCESS or value.valueType not in _MEMBERS:
        return None
    return int(getattr(value.value, _MEMBERS[value.valueType]))
