"""Values at run time.

null, bool, int, double, string and bytes are Python's None, bool, int, float, str and bytes; a uint is `UInt`, a list
a tuple. Functions tell values apart by their exact class, since bool and UInt are ints to Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from kube.cel import types
from kube.cel.types import Type

Value: TypeAlias = Any
"""A value of CEL. What it is, its class tells at run time."""

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class UInt(int):
    """An unsigned integer."""

    __slots__ = ()


class Duration(NamedTuple):
    """A span of time in nanoseconds."""

    nanos: int


class Timestamp(NamedTuple):
    """A point in time: nanoseconds since 1970. `offset_s`, where it was written, matters for its text alone."""

    nanos: int
    offset_s: int = 0


class Optional(NamedTuple):
    """An optional value; `NOTHING` is the one without."""

    held: tuple[Value, ...]


NOTHING = Optional(())


class Map:
    """A map. Keys are found across the numeric types. `total`: a missing key yields an empty map (device domains)."""

    __slots__ = ("_entries", "total")

    def __init__(self, entries: Iterable[tuple[Value, Value]] = (), *, total: bool = False) -> None:
        self._entries = {_key(key): (key, value) for key, value in entries}
        self.total = total

    @classmethod
    def of_strings(cls, entries: dict[str, Value], *, total: bool = False) -> Map:
        """Make a map with string keys."""
        new = cls((), total=total)
        new._entries = {key: (key, value) for key, value in entries.items()}
        return new

    def find(self, key: Value) -> tuple[Value, Value] | None:
        """Return the entry of a key, or None."""
        found = self._entries.get(_key(key))
        if found is None and type(key) in _NUMERIC and key == key:
            for other in _alike(key):
                if (found := self._entries.get(_key(other))) is not None:
                    break
        return found

    def insert(self, key: Value, value: Value) -> None:
        """Add or replace an entry; for maps that are still being made."""
        self._entries[_key(key)] = (key, value)

    def discard(self, key: Value) -> None:
        """Remove an entry if it is there; for maps that are still being made."""
        self._entries.pop(_key(key), None)

    def items(self) -> Iterator[tuple[Value, Value]]:
        """Iterate over keys and values, in the order they were added."""
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


class KubernetesValue:
    """Base of the types that Kubernetes adds. `size` is what costs are counted from."""

    __slots__ = ()
    size = 1


class GrowingList(list[Value]):
    """The list that a macro is making; `+` adds to it in place."""


LISTS = (tuple, GrowingList)


class GrowingMap(Map):
    """The map that a macro is making."""

    __slots__ = ()


EMPTY = Map()
_NUMERIC = frozenset({int, UInt, float})


def _key(key: Value) -> Value:
    """Return what a key is kept under. Lists are no keys to cel-go: each is found under itself alone."""
    kind = type(key)
    return key if kind is str else (kind, id(key) if kind in LISTS else key)


def _alike(key: Value) -> Iterator[Value]:
    """Yield equal numbers of the other types that keys may have."""
    kind = type(key)
    if kind is float:
        if not (math.isfinite(key) and key.is_integer()):
            return
        key = int(key)
    if kind is not int and INT_MIN <= key <= INT_MAX:
        yield int(key)
    if kind is not UInt and 0 <= key <= UINT_MAX:
        yield UInt(key)


_TYPES: dict[type, Type] = {
    bool: types.BOOL,
    int: types.INT,
    UInt: types.UINT,
    float: types.DOUBLE,
    str: types.STRING,
    bytes: types.BYTES,
    type(None): types.NULL,
    tuple: types.LIST,
    GrowingList: types.LIST,
    Map: types.MAP,
    GrowingMap: types.MAP,
    Duration: types.DURATION,
    Timestamp: types.TIMESTAMP,
    Optional: types.OPTIONAL,
    Type: types.TYPE,
}


def register(kind: type, its_type: Type) -> None:
    """Tell the type of the values of a class."""
    _TYPES[kind] = its_type


def type_of(value: Value) -> Type:
    """Return the run-time type of a value."""
    return _TYPES[type(value)]


def size_of(value: Value) -> int:
    """Return what the API server takes for the size of a value when it counts costs."""
    kind = type(value)
    if kind in (str, bytes, tuple, Map, GrowingList, GrowingMap):
        return len(value)
    return value.size if isinstance(value, KubernetesValue) else 1
