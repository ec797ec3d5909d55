"""Reads YAML text that strangers wrote into typed values: bounded in size and depth, faults named by field."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import yaml

from topology.errors import InvalidInputError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
T = TypeVar("T")


def load_document(text: str, name: str, schema: str) -> dict[str, Any]:
    """Return the mapping in `text`, which must carry `schema: <schema>`.

    Raises InvalidInputError (object `name`) for text above 1 MiB, broken YAML, aliases, deep nesting or another schema.
    """
    if len(text) > MAX_BYTES or len(text.encode()) > MAX_BYTES:
        raise InvalidInputError(name, "", f"larger than {MAX_BYTES} bytes; a topology file has a few thousand")
    try:
        _check_events(text, name)
        document = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader, chosen above
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(name, "", f"not YAML: {_one_line(error)}") from error
    if not isinstance(document, dict):
        raise InvalidInputError(name, "", f"must be a mapping of fields, such as `schema: {schema}`")
    if document.get("schema") != schema:
        raise InvalidInputError(name, "schema", f"is {document.get('schema')!r}; must be {schema!r}")
    return document


def convert(document: dict[str, Any], kind: type[T], name: str) -> T:
    """Return `document` as a value of `kind`; InvalidInputError names the first field that has the wrong type."""
    try:
        return msgspec.convert(document, kind, strict=True)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        raise InvalidInputError(name, path.strip("`").removeprefix("$").lstrip("."), problem) from error


def _check_events(text: str, name: str) -> None:
    # Aliases let a few lines stand for gigabytes, and nesting exhausts the stack: refused before values are built.
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInputError(name, "", f"uses the YAML alias *{event.anchor}; write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise InvalidInputError(name, "", f"nested deeper than {MAX_DEPTH} levels")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
