"""Optional values, and the first and last elements of lists."""

from __future__ import annotations

from collections.abc import Callable

from kube.cel.errors import SelectorFault
from kube.cel.values import LISTS, NOTHING, GrowingMap, Map, Optional, Timestamp, Value

_YEAR_1 = -62135596800 * 10**9


def _of(value: Value) -> Optional:
    return Optional((value,))


def _of_non_zero(value: Value) -> Optional:
    return NOTHING if _is_zero(value) else Optional((value,))


def _is_zero(value: Value) -> bool:
    kind = type(value)
    if value is None:
        return True
    if kind is Timestamp:
        return bool(value.nanos == _YEAR_1)
    if kind in (bool, str, bytes, *LISTS, Map, GrowingMap):
        return not value
    if isinstance(value, int | float):
        return value == 0
    return hasattr(value, "nanos") and value.nanos == 0


def _value(value: Optional) -> Value:
    if not value.held:
        raise SelectorFault("optional.none() dereference")
    return value.held[0]


def _unwrap(values: tuple[Value, ...]) -> tuple[Value, ...]:
    for value in values:
        if type(value) is not Optional:
            raise SelectorFault(f"value {value!r} is not optional")
    return tuple(held for value in values for held in value.held)


def _map_insert(target: Map, *rest: Value) -> Map:
    """Add a key and a value, or all entries of a map, to a map that has none of these keys."""
    made = target if type(target) is GrowingMap else Map(target.items())
    for key, value in [rest] if len(rest) == 2 else list(rest[0].items()):
        if made.find(key) is not None:
            raise SelectorFault(f"insert failed: key {key} already exists")
        if type(key) is bytes:
            raise SelectorFault("internal error: bytes cannot be a key")
        made.insert(key, value)
    return made


BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    "optional_of": _of,
    "optional_ofNonZeroValue": _of_non_zero,
    "optional_none": lambda: NOTHING,
    "optional_value": _value,
    "optional_hasValue": lambda value: bool(value.held),
    "list_last": lambda values: _of(values[-1]) if values else NOTHING,
    "list_first": lambda values: _of(values[0]) if values else NOTHING,
    "optional_unwrap": _unwrap,
    "optional_unwrapOpt": _unwrap,
    "@mapInsert_map_key_value": _map_insert,
    "@mapInsert_map_map": _map_insert,
}
