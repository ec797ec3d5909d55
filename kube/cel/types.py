"""Types of CEL as its checker sees them, and how they are written (`list(string)`, `map(K, V)`)."""

from __future__ import annotations

import re
from typing import NamedTuple


class Type(NamedTuple):
    """A type. `kind` tells how it is treated, `name` what it is called at run time."""

    kind: str
    name: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        inner = f"({', '.join(map(str, self.params))})" if self.params else ""
        return self.name + inner


DYN = Type("dyn", "dyn")
ANY = Type("any", "google.protobuf.Any")
ERROR = Type("error", "error")
BOOL = Type("bool", "bool")
INT = Type("int", "int")
UINT = Type("uint", "uint")
DOUBLE = Type("double", "double")
STRING = Type("string", "string")
BYTES = Type("bytes", "bytes")
NULL = Type("null", "null_type")
DURATION = Type("duration", "google.protobuf.Duration")
TIMESTAMP = Type("timestamp", "google.protobuf.Timestamp")
TYPE = Type("type", "type")
QUANTITY = Type("struct", "kubernetes.Quantity")
SEMVER = Type("struct", "kubernetes.Semver")
URL = Type("struct", "kubernetes.URL")
FORMAT = Type("struct", "kubernetes.NamedFormat")
IP = Type("opaque", "net.IP")
CIDR = Type("opaque", "net.CIDR")
DEVICE = Type("struct", "kubernetes.DRADevice")
LIST = Type("list", "list", (DYN,))
MAP = Type("map", "map", (DYN, DYN))
OPTIONAL = Type("opaque", "optional_type")

NAMED = {
    **{t.name: t for t in (BOOL, INT, UINT, DOUBLE, STRING, BYTES, NULL, DURATION, TIMESTAMP, TYPE, IP, CIDR)},
    "list": LIST,
    "map": MAP,
    "optional_type": OPTIONAL,
}
"""Names of types that an expression may use as values."""

_SHORT = {
    **NAMED,
    "dyn": DYN,
    "duration": DURATION,
    "timestamp": TIMESTAMP,
    "Quantity": QUANTITY,
    "Semver": SEMVER,
    "URL": URL,
    "Format": FORMAT,
    "IP": IP,
    "CIDR": CIDR,
}
_WORD = re.compile(r"\s*([\w.]+|[(),])")


def list_of(element: Type) -> Type:
    """Return the type of lists of `element`."""
    return Type("list", "list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """Return the type of maps."""
    return Type("map", "map", (key, value))


def optional_of(value: Type) -> Type:
    """Return the type of optional values."""
    return Type("opaque", "optional_type", (value,))


def type_of(denoted: Type) -> Type:
    """Return the type of a name that denotes a type."""
    return Type("type", "type", (denoted,))


def parameter(name: str) -> Type:
    """Return a type parameter."""
    return Type("param", name)


def parse_types(text: str) -> list[Type]:
    """Read a list of types, `list(A), int`; one capital letter is a type parameter."""
    words = [*_WORD.findall(text), ""]
    at = 0

    def types() -> list[Type]:
        nonlocal at
        found: list[Type] = []
        while words[at] not in (")", ""):
            found.append(one())
            at += words[at] == ","
        return found

    def one() -> Type:
        nonlocal at
        name = words[at]
        at += 1
        inner: tuple[Type, ...] = ()
        if words[at] == "(":
            at += 1
            inner = tuple(types())
            at += 1
        return _make(name, inner)

    return types()


def _make(name: str, inner: tuple[Type, ...]) -> Type:
    if inner:
        base = TYPE if name == "type" else _SHORT[name]
        return Type(base.kind, base.name, inner)
    if len(name) == 1:
        return parameter(name)
    return _SHORT[name] if name in _SHORT else Type("struct", name)
