"""Objects of a cluster in one document, as `kubectl get ... -A -o json` writes them, or as people write manifests."""

from __future__ import annotations

from dataclasses import dataclass

from kube.decoding import decoder
from kube.documents import stored_objects
from kube.errors import MalformedObjectError
from kube.kinds import KINDS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The objects of a document in its order. `malformed` do not decode; `skipped` are kinds that we do not read.

    Of a malformed claim, `objects` has a stand-in that holds its devices.
    """

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
    for kind, stored in stored_objects([document], source):
        if kind not in KINDS:
            skipped[kind] = None
            continue
        read = decoder(KINDS[kind])
        try:
            objects.append(read.converted(stored))
        except MalformedObjectError as fault:
            malformed.append(fault)
            saved = read.salvaged(stored)
            objects += [] if saved is None else [saved]
    return Snapshot(tuple(objects), tuple(malformed), tuple(skipped))
