"""Conversions between types, with Go's rules for what text is a number, a truth or a time."""

from __future__ import annotations

import math
import re

from kube.cel.arithmetic import checked_int, checked_timestamp, checked_uint, no_overload
from kube.cel.errors import SelectorFault
from kube.cel.gonumbers import double_text, fixed_text
from kube.cel.gotime import duration_of, timestamp_of, timestamp_text
from kube.cel.types import Type
from kube.cel.values import Duration, Timestamp, UInt, Value

MAX_DIGITS = 25
_INT = re.compile(r"[+-]?[0-9]+")
_UINT = re.compile(r"[0-9]+")
_D, _H = "[0-9](?:_?[0-9])*", "[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_DECIMAL = re.compile(rf"[+-]?(?:{_D}\.?(?:{_D})?|\.{_D})(?:[eE][+-]?{_D})?")
_HEX = re.compile(rf"[+-]?0[xX](?:_?{_H}\.?(?:{_H})?|\.{_H})[pP][+-]?{_D}")
_SPECIAL = re.compile(r"[+-]?inf(?:inity)?|nan", re.IGNORECASE)
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def _wrong(value: Value, wanted: str) -> SelectorFault:
    return SelectorFault(f"type conversion error from {value!r} to '{wanted}'")


def _whole(digits: str) -> int:
    """Return a whole number, or one beyond 64 bits for more digits than those have."""
    sign, shown = (-1 if digits[0] == "-" else 1), digits.lstrip("+-").lstrip("0")
    return sign * (int(shown or "0") if len(shown) <= MAX_DIGITS else 10**MAX_DIGITS)


def to_bool(text: str) -> bool:
    """Return the bool that a text stands for."""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise _wrong(text, "bool")


def to_bytes(text: str) -> bytes:
    """Return the UTF-8 of a text."""
    return text.encode(errors="replace")


def to_int(value: Value) -> int:
    """Return an int of a text, another number, a duration (nanoseconds) or a timestamp (seconds)."""
    match value:
        case str():
            if not _INT.fullmatch(value):
                raise _wrong(value, "int")
            return checked_int(_whole(value))
        case float():
            if not math.isfinite(value) or not -(2.0**63) < value < 2.0**63:
                raise SelectorFault("integer overflow")
            return int(value)
        case Duration():
            return value.nanos
        case Timestamp():
            return value.nanos // 10**9
    return checked_int(int(value))


def to_uint(value: Value) -> UInt:
    """Return a uint of a text or another number."""
    if type(value) is str:
        if not _UINT.fullmatch(value):
            raise _wrong(value, "uint")
        return checked_uint(_whole(value))
    if type(value) is float and (not math.isfinite(value) or not 0 <= value < 2.0**64):
        raise SelectorFault("unsigned integer overflow")
    return checked_uint(int(value))


def to_double(value: Value) -> float:
    """Return a double of a text or another number."""
    if type(value) is not str:
        return float(value)
    if _SPECIAL.fullmatch(value):
        return float(value)
    if _DECIMAL.fullmatch(value):
        found = float(value.replace("_", ""))
    elif _HEX.fullmatch(value):
        try:
            found = float.fromhex(value.replace("_", ""))
        except OverflowError:
            raise _wrong(value, "double") from None
    else:
        raise _wrong(value, "double")
    if math.isinf(found):
        raise _wrong(value, "double")
    return found


def to_duration(value: Value) -> Duration:
    """Return a duration of a text."""
    if type(value) is not str:
        raise _wrong(value, "google.protobuf.Duration")
    return duration_of(value)


def to_timestamp(value: Value) -> Timestamp:
    """Return a timestamp of a text (RFC 3339) or of seconds since 1970."""
    return timestamp_of(value) if type(value) is str else checked_timestamp(value * 10**9)


def to_string(value: Value) -> str:
    """Return a value's text."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise SelectorFault("invalid UTF-8 in bytes, cannot convert to string") from None
        case float():
            return double_text(value)
        case int():
            return str(int(value))
        case Type():
            return value.name
        case Duration():
            whole, rest = divmod(abs(value.nanos), 10**9)
            sign = -1 if value.nanos < 0 else 1
            return fixed_text(float(sign * whole) + (sign * rest) / 1e9) + "s"
        case Timestamp():
            return timestamp_text(value)
        case None:
            return "null"
    raise no_overload("string", value)
