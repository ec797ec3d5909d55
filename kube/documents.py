"""Files that people and kubectl write, JSON or YAML, one object or many -> plain objects with their kinds.

Who reads the file caps its size; nesting, aliases and repeated keys are bounded here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from kube.depth import shallow
from topology.documents import load_documents
from topology.errors import InvalidInputError

Json = dict[str, Any]

MAX_LISTS = 8
"""Lists inside each other."""


def read_documents(content: bytes, source: str) -> list[object]:
    """Return the documents of a file: what starts like JSON is JSON, everything else YAML of at most 1 MiB.

    Raises InvalidInputError.
    """
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"{", b"["}:
        found = _json(content.removeprefix(b"\xef\xbb\xbf"), source)
        return found if isinstance(found, list) else [found]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(source, f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8") from error
    return [each for each in load_documents(text, source) if each is not None]


def stored_objects(documents: Iterable[object], source: str) -> Iterator[tuple[str, Json]]:
    """Yield kind and object of all that documents hold, Lists and lists such as PodList included.

    Raises InvalidInputError for what is no object of the Kubernetes API.
    """
    for document in documents:
        yield from _stored(document, source)


def _json(content: bytes, source: str) -> object:
    try:
        try:
            return msgspec.json.decode(content)
        except RecursionError:
            return msgspec.json.decode(shallow(content))
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInputError(source, "", f"is not JSON: {error}") from error


def _stored(document: object, source: str, kind: str = "", depth: int = 0) -> Iterator[tuple[str, Json]]:
    """Yield what is in a document. Items of a PodList do not say that they are pods."""
    if not isinstance(document, Mapping):
        problem = f"is {type(document).__name__}, not an object or a List of the Kubernetes API"
        raise InvalidInputError(source, "", problem)
    said = document.get("kind") or kind
    if not isinstance(said, str) or not said:
        raise InvalidInputError(source, "kind", "is missing; write as `kubectl get -o json` does")
    if not said.endswith("List"):
        yield said, dict(document)
        return
    if depth == MAX_LISTS:
        raise InvalidInputError(source, "kind", f"is the {MAX_LISTS + 1}th list inside a list; put its items into one")
    items = document.get("items") or ()
    if not isinstance(items, list | tuple):
        raise InvalidInputError(source, "items", f"is {type(items).__name__}; must be a list of objects")
    for at, item in enumerate(items):
        yield from _stored(item, f"{source} items[{at}]", said.removesuffix("List"), depth + 1)
