"""Selections: `.field`, `[key]`, `.?field`, `[?key]` and has() on maps, lists and optionals (cel-go attributes.go)."""

from __future__ import annotations

from dataclasses import dataclass

from kube.cel.errors import SelectorFault
from kube.cel.frame import Eval, Frame
from kube.cel.values import EMPTY, INT_MAX, LISTS, NOTHING, Map, Optional, UInt, Value

_KEYS = frozenset({str, int, UInt, bool, float})
_ABSENT = object()


@dataclass(slots=True, kw_only=True)
class Key:
    """One selection: by a constant or by what `computed` yields; has() where `test`."""

    constant: Value = None
    computed: Eval | None = None
    optional: bool = False
    test: bool = False


def resolve_chain(root: Eval, keys: list[Key]) -> Eval:
    """Return what applies selections to a value, one after the other."""
    if not keys:
        return root
    if not any(key.optional for key in keys):
        steps = [(key, key.constant, key.computed, key.test) for key in keys]

        def plain(frame: Frame) -> Value:
            value = root(frame)
            if type(value) is Optional:
                return _optional_chain(frame, value, keys)
            for _, constant, computed, test in steps:
                index = constant if computed is None else _index(computed(frame))
                frame.cost += 1
                value = find(value, index) is not _ABSENT if test else select(value, index)
            return value

        return plain
    return lambda frame: _optional_chain(frame, root(frame), keys)


def _optional_chain(frame: Frame, value: Value, keys: list[Key]) -> Value:
    unwraps = type(value) is Optional
    if unwraps:
        if not value.held:
            return NOTHING
        value = value.held[0]
    for key in keys:
        index = key.constant if key.computed is None else _index(key.computed(frame))
        unwraps = unwraps or key.optional
        if not unwraps:
            frame.cost += 1
            value = find(value, index) is not _ABSENT if key.test else select(value, index)
            continue
        found = find(value, index)
        frame.cost += found is not _ABSENT
        if found is _ABSENT:
            return NOTHING
        value = found
    return Optional((value,)) if unwraps else value


def _index(key: Value) -> Value:
    if type(key) not in _KEYS:
        raise SelectorFault(f"invalid qualifier type: {type(key).__name__}")
    return key


def select(value: Value, key: Value) -> Value:
    """Return a part of a value. Raises SelectorFault where there is none."""
    found = find(value, key)
    if found is _ABSENT:
        kind = "index out of bounds" if type(value) in LISTS else "no such key"
        raise SelectorFault(f"{kind}: {key}")
    return found


def find(value: Value, key: Value) -> Value:
    """Return a part of a value, or a mark for its absence. Raises SelectorFault for an invalid list index."""
    if isinstance(value, Map):
        entry = value.find(key)
        if entry is not None:
            return entry[1]
        return EMPTY if value.total else _ABSENT
    if type(value) in LISTS:
        at = _list_index(key)
        return value[at] if 0 <= at < len(value) else _ABSENT
    return _ABSENT


def _list_index(key: Value) -> int:
    kind = type(key)
    if kind is int:
        return int(key)
    if kind is UInt and key <= INT_MAX:
        return int(key)
    if kind is float and key.is_integer() and abs(key) < 2**63:
        return int(key)
    raise SelectorFault(f"unsupported index {key!r} in list")
