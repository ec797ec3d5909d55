"""JSON of a stranger, read in one pass at C speed and still strictly: what is doubtful is refused, with its path.

Refused are text that is not UTF-8, malformed or too deep; numbers that are not finite or need more than 64 bits; and
keys given twice, which readers resolve differently. Invariant: `parse` returns a value or raises JsonFault, whatever
the bytes.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec

MAX_DEPTH = 100
"""Levels of nesting. Pods of Kubernetes stay below 30."""
MAX_INT, MIN_INT = 2**63 - 1, -(2**63)
PATH_SHOWN = 300
"""Characters of a path that a fault repeats; keys come from the stranger."""


class JsonFault(ValueError):  # noqa: N818 - it is the stranger's fault, no error of ours
    """Why bytes are not the JSON we want. `path` is a JSONPath such as `$.Pod.metadata.uid`."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path if len(path) <= PATH_SHOWN else f"{path[:PATH_SHOWN]}..."
        self.problem = problem
        super().__init__(f"{self.path}: {problem}")


def parse(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Decode JSON. Raises JsonFault."""
    try:
        body.decode()
        value = msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise JsonFault("$", f"byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise _too_deep() from error
    except msgspec.ValidationError as error:  # a number that no double or integer holds
        raise JsonFault("$", _words(error)) from error
    except msgspec.DecodeError as error:
        raise JsonFault("$", _words(error)) from error
    _check_duplicates(body, value)
    return value


def _words(error: Exception) -> str:
    text = str(error).partition(" - at ")[0]
    return text if text.startswith("JSON") else text[:1].lower() + text[1:]


def _check_duplicates(body: bytes, value: Any) -> None:  # noqa: ANN401
    """Raise JsonFault where an object has a key twice.

    Decoding kept the last of them. Every pair has one colon outside its strings, so the text has as many colons as the
    value has pairs and colons in strings, unless pairs were lost. An escaped colon would be counted in the value alone:
    where there is one, the slow way tells.
    """
    colons = _colons(value, 0)
    escaped = b"\\u003a" in body or b"\\u003A" in body
    if escaped or colons != body.count(b":"):
        _find_duplicate(_Pairs.read(body), "$")


def _colons(value: Any, depth: int) -> int:  # noqa: ANN401
    """Count the colons that the compact text of a value has, and check depth and integers on the way."""
    if isinstance(value, dict):
        return _colons_of_object(value, depth)
    if isinstance(value, list):
        return _colons_of_array(value, depth)
    if isinstance(value, str):
        return value.count(":")
    if value.__class__ is int and not MIN_INT <= value <= MAX_INT:
        raise JsonFault("$", "integer of more than 64 bits")
    return 0


def _colons_of_object(content: dict[str, Any], depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise _too_deep()
    found = len(content) + "".join(content).count(":")
    for key, item in content.items():
        if item.__class__ is str:
            if ":" in item:
                found += item.count(":")
        elif item is not None:
            found += _colons_within(item, depth + 1, key)
    return found


def _colons_of_array(items: list[Any], depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise _too_deep()
    try:
        return "".join(items).count(":")  # thousands of node names
    except TypeError:
        return sum(_colons_within(item, depth + 1, at) for at, item in enumerate(items))


def _colons_within(item: Any, depth: int, step: str | int) -> int:  # noqa: ANN401
    try:
        return _colons(item, depth)
    except JsonFault as fault:
        raise JsonFault("$" + _step(step) + fault.path.removeprefix("$"), fault.problem) from None


def _too_deep() -> JsonFault:
    return JsonFault("$", f"nested deeper than {MAX_DEPTH} levels")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its pairs."""

    @classmethod
    def read(cls, body: bytes) -> Any:  # noqa: ANN401
        return json.loads(body, object_pairs_hook=cls, parse_constant=_not_finite)


def _not_finite(name: str) -> NoReturn:
    raise JsonFault("$", f"{name} is no number of JSON")


def _find_duplicate(value: Any, path: str) -> None:  # noqa: ANN401
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            if key in seen:
                raise JsonFault(path + _step(key), "given twice")
            seen.add(key)
            _find_duplicate(item, path + _step(key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            _find_duplicate(item, path + _step(at))


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{json.dumps(step[:PATH_SHOWN])}]"
