"""Operators, size(), `in`, and conversions between types."""

from __future__ import annotations

from collections.abc import Callable

from kube.cel import arithmetic, convert
from kube.cel.arithmetic import no_overload
from kube.cel.compare import contains, equal, order
from kube.cel.errors import CostExceeded, SelectorFault
from kube.cel.frame import Eval, Frame
from kube.cel.values import LISTS, Map, Value, type_of

MAX_INCLUDES = 64
"""Longest list that includes() searches (ResourceSliceMaxAttributeValuesPerDevice)."""


def not_strictly_false(operand: Eval, frame: Frame) -> bool:
    """Return the operand's bool; true where it is none or fails."""
    try:
        value = operand(frame)
    except CostExceeded:
        raise
    except SelectorFault:
        return True
    return value if type(value) is bool else True


def _differ(one: Value, two: Value) -> bool:
    """Tell whether two values differ; those that cannot be compared do."""
    try:
        return not equal(one, two)
    except CostExceeded:
        raise
    except SelectorFault:
        return True


def _not(value: Value) -> bool:
    if type(value) is not bool:
        raise no_overload("!_", value)
    return not value


def _in(wanted: Value, among: Value) -> bool:
    if type(among) in LISTS:
        return contains(among, wanted)
    if isinstance(among, Map):
        return among.find(wanted) is not None
    raise no_overload("@in", wanted, among)


def _size(value: Value) -> int:
    if type(value) in (str, bytes, *LISTS) or isinstance(value, Map):
        return len(value)
    raise no_overload("size", value)


def _ordered(holds: Callable[[int], bool]) -> Callable[[Value, Value], bool]:
    return lambda one, two: holds(order(one, two))


def _identity(value: Value) -> Value:
    return value


def _includes(target: Value, wanted: Value) -> bool:
    if type(target) not in LISTS:
        return contains([target], wanted)
    for at, value in enumerate(target):
        if at >= MAX_INCLUDES:
            raise SelectorFault(f"'includes' function cannot be applied to lists longer than {MAX_INCLUDES} values")
        if contains([value], wanted):
            return True
    return False


ANY_OVERLOAD: dict[str, Callable[..., Value]] = {
    "_==_": equal,
    "_!=_": _differ,
    "_+_": arithmetic.add,
    "_-_": arithmetic.subtract,
    "_*_": arithmetic.multiply,
    "_/_": arithmetic.divide,
    "_%_": arithmetic.modulo,
    "-_": arithmetic.negate,
    "!_": _not,
    "_<_": _ordered(lambda sign: sign < 0),
    "_<=_": _ordered(lambda sign: sign <= 0),
    "_>_": _ordered(lambda sign: sign > 0),
    "_>=_": _ordered(lambda sign: sign >= 0),
    "@in": _in,
    "size": _size,
    "type": type_of,
    "dyn": _identity,
}

BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    **dict.fromkeys(
        (
            "bool_to_bool",
            "bytes_to_bytes",
            "double_to_double",
            "duration_to_duration",
            "int64_to_int64",
            "string_to_string",
            "timestamp_to_timestamp",
            "uint64_to_uint64",
        ),
        _identity,
    ),
    "string_to_bool": convert.to_bool,
    "string_to_bytes": convert.to_bytes,
    **dict.fromkeys(("int64_to_double", "string_to_double", "uint64_to_double"), convert.to_double),
    **dict.fromkeys(("int64_to_duration", "string_to_duration"), convert.to_duration),
    **dict.fromkeys(
        ("double_to_int64", "duration_to_int64", "string_to_int64", "timestamp_to_int64", "uint64_to_int64"),
        convert.to_int,
    ),
    **dict.fromkeys(("double_to_uint64", "int64_to_uint64", "string_to_uint64"), convert.to_uint),
    **dict.fromkeys(("int64_to_timestamp", "string_to_timestamp"), convert.to_timestamp),
    **dict.fromkeys(
        (
            "bool_to_string",
            "bytes_to_string",
            "double_to_string",
            "duration_to_string",
            "int64_to_string",
            "timestamp_to_string",
            "uint64_to_string",
        ),
        convert.to_string,
    ),
    "dra_includes_dyn_dyn": _includes,
}
