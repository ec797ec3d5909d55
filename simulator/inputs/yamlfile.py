"""YAML that a person wrote, as plain values, with the same bounds as the files that ship (`topology.documents`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulator.inputs.source import read_bytes
from topology.documents import MAX_BYTES, load_document
from topology.errors import InvalidInputError

MAX_YAML_BYTES = MAX_BYTES


def read_yaml(path: Path, schema_version: str) -> dict[str, Any]:
    """Return the mapping in `path`, which must carry `schemaVersion: <schema_version>`.

    Raises InvalidInputError for a file that cannot be read, is larger than 1 MiB, or is no such document.
    """
    try:
        text = read_bytes(path, max_bytes=MAX_YAML_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            str(path), f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8"
        ) from error
    return load_document(text, str(path), schema_version, key="schemaVersion")
