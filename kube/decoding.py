"""JSON of the API server -> objects. A list or an event with a malformed object yields the others, and names that one.

In JSON of Kubernetes null means the same as nothing at all. Decoders refuse it where a value belongs, which costs
nothing while there is none; text that was refused is read once more without its nulls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from kube.depth import shallow
from kube.errors import MalformedObjectError, UnavailableError
from kube.kinds import Kind
from kube.objects_base import Part

T = TypeVar("T")
Read = TypeVar("Read")

VERBATIM = "parameters"
"""Opaque parameters are a driver's: their nulls stay."""
ADDED, MODIFIED, DELETED, BOOKMARK, ERROR = "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"
"""Types of watch events."""


class ListMetadata(Part, frozen=True, kw_only=True):
    """Metadata of a page. `continue_token` leads to the next one; empty: this was the last."""

    resource_version: str = ""
    continue_token: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, Generic[T], frozen=True, gc=False):
    metadata: ListMetadata
    items: tuple[T, ...] | None = None


class _Event(msgspec.Struct, Generic[T], frozen=True, gc=False):
    type: str
    object: T


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list."""

    objects: tuple[T, ...]
    metadata: ListMetadata
    malformed: tuple[MalformedObjectError, ...] = ()


class Event(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """A watch event. `object` is None for a bookmark, and for an object that does not decode: `malformed` says why.

    Of a deleted object that does not decode, `object` has the metadata alone, if at least that can be read; of another,
    what must be known of it all the same (`Kind.salvage`): the devices of a claim, and who uses it.
    """

    type: str
    resource_version: str
    object: T | None = None
    malformed: MalformedObjectError | None = None


class Decoder(Generic[T]):
    """Decodes one kind."""

    def __init__(self, kind: Kind[T]) -> None:
        self._kind = kind
        self._one: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind.type)
        self._list: msgspec.json.Decoder[_List[T]] = msgspec.json.Decoder(_List[kind.type])  # type: ignore[name-defined]
        self._event: msgspec.json.Decoder[_Event[T]] = msgspec.json.Decoder(_Event[kind.type])  # type: ignore[name-defined]

    def one(self, text: bytes) -> T:
        """Decode an object. Raises MalformedObjectError."""
        try:
            return self._one.decode(text)
        except (msgspec.ValidationError, RecursionError):
            return _read_patiently(self.converted, text)
        except msgspec.DecodeError as fault:
            raise _no_json(fault) from fault

    def converted(self, stored: object) -> T:
        """Decode an object that was parsed already, from JSON or YAML. Raises MalformedObjectError."""
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(stored, self._kind.type)
        try:
            return msgspec.convert(without_nulls(stored), self._kind.type)
        except msgspec.ValidationError as fault:
            raise self._malformed(stored, fault) from fault

    def salvaged(self, stored: object) -> T | None:
        """Return what must be known of an object that does not decode, None where that is nothing or malformed too."""
        saved = self._kind.salvage(stored)
        with contextlib.suppress(MalformedObjectError):
            return None if saved is None else self.converted(saved)
        return None

    def page(self, text: bytes) -> Page[T]:
        """Decode a page of a list."""
        try:
            page = self._list.decode(text)
        except (msgspec.ValidationError, RecursionError):
            return _read_patiently(self._page_by_object, text)
        except msgspec.DecodeError as fault:
            raise _no_json(fault) from fault
        return Page(page.items or (), page.metadata)

    def event(self, line: bytes) -> Event[T] | Mapping[str, Any]:
        """Decode a watch event; of an error event, return the metav1.Status."""
        try:
            event = self._event.decode(line)
        except (msgspec.ValidationError, RecursionError):
            return _read_patiently(self._odd_event, line)
        except msgspec.DecodeError as fault:
            raise _no_json(fault) from fault
        if event.type not in {ADDED, MODIFIED, DELETED}:
            return _read_patiently(self._odd_event, line)
        return Event(event.type, event.object.metadata.resource_version, event.object)  # type: ignore[attr-defined]

    def _page_by_object(self, page: Mapping[str, Any]) -> Page[T]:
        objects: list[T] = []
        malformed: list[MalformedObjectError] = []
        for stored in page.get("items") or ():
            try:
                objects.append(self.converted(stored))
            except MalformedObjectError as fault:
                malformed.append(fault)
                saved = self.salvaged(stored)
                objects += [] if saved is None else [saved]
        metadata = msgspec.convert(without_nulls(page.get("metadata") or {}), ListMetadata)
        return Page(tuple(objects), metadata, tuple(malformed))

    def _odd_event(self, event: Mapping[str, Any]) -> Event[T] | Mapping[str, Any]:
        """Return an event that is no change of an object, or whose object is not as it should be."""
        name, stored = event.get("type"), event.get("object")
        if name == ERROR and isinstance(stored, Mapping):
            return stored
        metadata = stored.get("metadata") if isinstance(stored, Mapping) else None
        version = str(metadata.get("resourceVersion") or "") if isinstance(metadata, Mapping) else ""
        if name == BOOKMARK:
            return Event(BOOKMARK, version)
        try:
            return Event(str(name), version, self.converted(stored))
        except MalformedObjectError as fault:
            remains = self._remains(metadata) if name == DELETED else self.salvaged(stored)
            return Event(str(name), version, remains, fault)

    def _remains(self, metadata: object) -> T | None:
        """Return an object that has the metadata alone, None where that is malformed too."""
        field, least = self._kind.blank
        with contextlib.suppress(MalformedObjectError):
            return self.converted({"metadata": metadata, field: least})
        return None

    def _malformed(self, stored: object, fault: msgspec.ValidationError) -> MalformedObjectError:
        problem, _, at = str(fault).partition(" - at ")
        metadata = stored.get("metadata") if isinstance(stored, Mapping) else None
        said = metadata if isinstance(metadata, Mapping) else {}
        namespace, name = (str(said.get(field) or "") for field in ("namespace", "name"))
        return MalformedObjectError(self._kind.name, namespace, name, problem, at.strip("`") or "$")


def decoder(kind: Kind[T]) -> Decoder[T]:
    """Return the decoder of a kind, made once."""
    return _made_once(kind)


@lru_cache
def _made_once(kind: Kind[Any]) -> Decoder[Any]:
    return Decoder(kind)


def without_nulls(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return JSON without the fields that are null."""
    if isinstance(value, dict):
        return {
            key: each if key == VERBATIM else without_nulls(each) for key, each in value.items() if each is not None
        }
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def parsed(text: bytes) -> dict[str, Any]:
    """Return an object or a list as plain dictionaries; what is nested too deeply is null."""
    return _read_patiently(dict, text)


def _read_patiently(read: Callable[[dict[str, Any]], Read], text: bytes) -> Read:
    """Read text that was refused: parsed first, and where it is nested too deeply, without its depths."""
    try:
        return read(_json(text))
    except RecursionError:
        return read(_json(shallow(text)))


def _json(text: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as fault:
        raise _no_json(fault) from fault
    if not isinstance(value, dict):
        raise _no_json(TypeError("not an object"))
    return value


def _no_json(fault: Exception) -> UnavailableError:
    return UnavailableError(f"the API server's answer is no JSON: {fault}")
