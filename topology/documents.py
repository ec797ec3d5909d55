"""Reads YAML text that strangers wrote into typed values: bounded in size and depth, no key twice, faults by field."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import yaml

from topology.errors import InvalidInputError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_SHOWN = 200

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
T = TypeVar("T")


def load_document(text: str, name: str, schema: str, *, key: str = "schema") -> dict[str, Any]:
    """Return the mapping in `text`, which must carry `<key>: <schema>`.

    Raises InvalidInputError (object `name`) for text above 1 MiB, broken YAML, aliases, deep nesting, a key twice or
    another schema.
    """
    documents = load_documents(text, name)
    if len(documents) > 1:
        raise InvalidInputError(name, "", "holds several documents; write one")
    document = documents[0] if documents else None
    if not isinstance(document, dict):
        raise InvalidInputError(name, "", f"is no YAML mapping; such a file starts with `{key}: {schema}`")
    found = document.get(key)
    if found != schema:
        raise InvalidInputError(name, key, f"is {_shortened(repr(found))}; must be {schema!r}")
    return document


def load_documents(text: str, name: str) -> list[Any]:
    """Return the documents in `text`, of any form. Raises InvalidInputError as `load_document` does."""
    # Lone surrogates, which no file can hold, are left to the YAML reader to refuse.
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise InvalidInputError(name, "", f"larger than {MAX_BYTES} bytes; such a file has a few thousand")
    try:
        _check_events(text, name)
        for root in yaml.compose_all(text, Loader=_LOADER):
            _check_keys(root, name)
        return list(yaml.load_all(text, Loader=_LOADER))
    except InvalidInputError:
        raise
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # PyYAML lets through what goes wrong inside it on scalars such as !!bool x, !!int "" or !!timestamp x.
        raise InvalidInputError(name, "", f"is not YAML: {_one_line(error)}") from error


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
            raise InvalidInputError(name, _line(event), f"uses the YAML alias *{event.anchor}; write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidInputError(name, _line(event), f"nested deeper than {MAX_DEPTH} levels")


def _check_keys(node: yaml.Node | None, name: str) -> None:
    # The loader would silently keep the last of two equal keys.
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidInputError(name, _line(key), "has a key that is no plain text")
            if key.value in seen:
                raise InvalidInputError(name, _line(key), f"repeats the key {_shortened(key.value)!r}; keep one")
            seen.add(key.value)
            _check_keys(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, name)


def _line(marked: yaml.Node | yaml.Event) -> str:
    return f"line {marked.start_mark.line + 1}" if marked.start_mark else ""


def _one_line(error: Exception) -> str:
    return _shortened(" ".join(str(error).split()))


def _shortened(text: str) -> str:
    """Keep what a file says from filling the message."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
