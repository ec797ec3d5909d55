"""YAML that a person wrote, as plain values: bounded in size and depth, no aliases, no key twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from simulator.inputs.source import read_bytes
from topology.errors import InvalidInputError

MAX_YAML_BYTES = 2**20
MAX_DEPTH = 32

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, schema_version: str) -> dict[str, Any]:
    """Return the mapping in `path`, which must carry `schemaVersion: <schema_version>`.

    Raises InvalidInputError for a file that cannot be read, is larger than 1 MiB, or is no such document.
    """
    source = str(path)
    try:
        text = read_bytes(path, max_bytes=MAX_YAML_BYTES).decode("utf-8-sig")
        _check_events(text, source)
        root = yaml.compose(text, _LOADER)
        _check_keys(root, source)
        document = yaml.load(text, _LOADER)  # noqa: S506 - a safe loader, chosen above
    except UnicodeDecodeError as error:
        raise InvalidInputError(source, f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise InvalidInputError(source, "", f"is not YAML: {' '.join(str(error).split())}") from error
    except InvalidInputError:
        raise
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # PyYAML lets through what goes wrong inside it on scalars such as 2026-99-99, !!bool x or !!int "".
        raise InvalidInputError(source, "", f"is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInputError(source, "", f"must be a mapping that starts with schemaVersion: {schema_version}")
    if document.get("schemaVersion") != schema_version:
        found = document.get("schemaVersion")
        raise InvalidInputError(source, "schemaVersion", f"is {found!r}; this program reads {schema_version!r}")
    return document


def _check_events(text: str, source: str) -> None:
    # Aliases let a few lines stand for gigabytes, and nesting exhausts the stack: refused before values are built.
    depth = 0
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInputError(source, _line(event), f"uses the alias *{event.anchor}; write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidInputError(source, _line(event), f"is nested deeper than {MAX_DEPTH} levels")


def _check_keys(node: yaml.Node | None, source: str) -> None:
    # The loader would silently keep the last of two equal keys.
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidInputError(source, _line(key), "has a key that is no plain text")
            if key.value in seen:
                raise InvalidInputError(source, _line(key), f"repeats the key {key.value!r}; keep one")
            seen.add(key.value)
            _check_keys(value, source)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, source)


def _line(marked: yaml.Node | yaml.Event) -> str:
    return f"line {marked.start_mark.line + 1}" if marked.start_mark else ""
