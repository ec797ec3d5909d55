"""Objects of a cluster in one document, as `kubectl get ... -A -o json` writes them, or as people write manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kube.decoding import decoder
from kube.errors import MalformedObjectError
from kube.kinds import KINDS
from topology.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The objects of a document in its order. `malformed` do not decode; `skipped` are kinds that we do not read."""

    objects: tuple[object, ...]
    malformed: tuple[MalformedObjectError, ...] = ()
    skipped: tuple[str, ...] = ()


def read_snapshot(document: object, source: str = "snapshot") -> Snapshot:
    """Return the objects of a parsed document: one object, a List, or a list such as PodList.

    Of several versions of the API the one of an object is not looked at: fields that we read have the same meaning in
    all that `kube.kinds` names. Raises InvalidInputError for a document that holds no objects.
    """
    objects: list[object] = []
    malformed: list[MalformedObjectError] = []
    skipped: dict[str, None] = {}
    for kind, stored in _stored(document, source, ""):
        if kind not in KINDS:
            skipped[kind] = None
            continue
        try:
            objects.append(decoder(KINDS[kind]).converted(stored))
        except MalformedObjectError as fault:
            malformed.append(fault)
    return Snapshot(tuple(objects), tuple(malformed), tuple(skipped))


def _stored(document: object, source: str, kind: str) -> Iterator[tuple[str, Any]]:
    """Yield kind and object of all that is in a document. Items of a PodList do not say that they are pods."""
    if not isinstance(document, Mapping):
        problem = f"is {type(document).__name__}, not an object or a List of the Kubernetes API"
        raise InvalidInputError(source, "", problem)
    said = document.get("kind") or kind
    if not isinstance(said, str) or not said:
        raise InvalidInputError(source, "kind", "is missing; write as `kubectl get -o json` does")
    if not said.endswith("List"):
        yield said, document
        return
    items = document.get("items") or ()
    if not isinstance(items, list | tuple):
        raise InvalidInputError(source, "items", f"is {type(items).__name__}; must be a list of objects")
    for at, item in enumerate(items):
        yield from _stored(item, f"{source} items[{at}]", said.removesuffix("List"))
