"""The decision log: every decision with what it was made from, so that it can be made again (`scheduler.replay`).

A file is a story. It begins with the state of the cluster as far as decisions see it; then come the changes of that
state and the decisions, in their order. Lines are JSON objects with a key `record`:

    settings   what the cluster is asked with
    replace    all objects of a kind         put, remove    one object
    pod        what a bound pod takes of its node, null once it is gone
    hold, drop a reservation begins, ends
    pack       nodes and pools were arranged and the mix learned anew
    decision   pod, claims and nodes asked about, and the answer

Pods that only come and go are told by what they take, nodes that differ in nothing we read not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from kube.arrange import same_to_us
from kube.books import HostUse
from kube.cluster import Cluster, ClusterSettings
from kube.deciding import Decided, Packed
from kube.history import LearnedMix
from kube.kinds import CLAIMS, CLASSES, NAMESPACES, NODES, SLICES, TAINT_RULES, Kind
from kube.objects import DeviceTaintRule, Node, Pod, ResourceSlice
from kube.resolved import Resolved
from packing.dra.inventory import Inventory
from packing.dra.ledger import Ledger
from packing.dra.model import Allocation
from scheduler.jsonlines import JsonLines, Record

KINDS: dict[type, Kind[Any]] = {kind.type: kind for kind in (NODES, NAMESPACES, CLASSES, TAINT_RULES, SLICES, CLAIMS)}
"""Those whose objects are logged."""
MIB = 1 << 20


class LoggedCluster(Cluster):
    """A cluster that logs what happens to it."""

    def __init__(self, settings: ClusterSettings, path: Path, *, max_mib: int) -> None:
        """Begin the log. Raises OSError where that cannot be done."""
        super().__init__(settings)
        self._inside = False
        """Whether a call of ours is under way, whose parts are no news."""
        self._among: dict[frozenset[str], int] = {}
        self._pools: dict[type, dict[str, Any]] = {ResourceSlice: {}, DeviceTaintRule: {}}
        """As they came: the cluster itself keeps what they amount to."""
        self._log = JsonLines(path, max_bytes=max_mib * MIB, head=self._head)

    def close(self) -> None:
        """End the log."""
        self._log.close()

    # What changes the state

    def keep(self, kind: Kind[Any], objects: Sequence[Any]) -> Sequence[Any]:  # noqa: ARG002 - of all kinds
        """Return the objects: the log has them whole."""
        return objects

    def replace(self, kind: Kind[Any], objects: Iterable[Any]) -> None:
        """Take `objects` for all of a kind."""
        found = list(objects)
        before = dict(self.books.pods)
        self._inside = True
        super().replace(kind, found)
        self._inside = False
        if kind.type is Pod:
            for uid in before.keys() | self.books.pods.keys():
                self._tell_pod(uid, before.get(uid))
        elif kind.type in KINDS:
            if kind.type in self._pools:
                self._pools[kind.type] = {each.metadata.name: each for each in found}
            self._log.write({"record": "replace", "kind": kind.name, "objects": _plain(found)})

    def put(self, new: object) -> None:
        """Take an object that is new or has changed."""
        if self._inside:
            super().put(new)
        elif isinstance(new, Pod):
            before = self.books.pods.get(new.metadata.uid)
            super().put(new)
            self._tell_pod(new.metadata.uid, before)
        else:
            old = self.store.nodes.get("", new.metadata.name) if isinstance(new, Node) else None
            super().put(new)
            if type(new) in self._pools:
                self._pools[type(new)][_name(new)] = new
            if not (isinstance(new, Node) and old is not None and same_to_us(old, new)):
                self._tell("put", new)

    def remove(self, gone: object) -> None:
        """Take a deletion."""
        if self._inside:
            super().remove(gone)
        elif isinstance(gone, Pod):
            before = self.books.pods.get(gone.metadata.uid)
            super().remove(gone)
            self._tell_pod(gone.metadata.uid, before)
        else:
            super().remove(gone)
            if type(gone) in self._pools:
                self._pools[type(gone)].pop(_name(gone), None)
            self._tell("remove", gone)

    def hold(self, key: Hashable, resolved: Resolved, allocation: Allocation) -> None:
        """Count an allocation as used."""
        super().hold(key, resolved, allocation)
        held = self.books.held.get(key)
        if held is not None:
            self._log.write({"record": "hold", "key": _plain(key), **_plain(held)})

    def drop(self, key: Hashable) -> None:
        """End a hold."""
        if key in self.books.held:
            self._log.write({"record": "drop", "key": _plain(key)})
        super().drop(key)

    def _pack(self, inventory: Inventory, ledger: Ledger) -> Packed:
        self._log.write({"record": "pack"})
        return super()._pack(inventory, ledger)

    # Decisions

    def decide(self, resolved: Resolved, among: Collection[str] | None = None, *, slack: float = 0.0) -> Decided:
        """Choose node and devices."""
        answer = super().decide(resolved, among, slack=slack)
        question = {
            "record": "decision",
            "at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "pod": _plain(resolved.pod),
            "ways": [_way(way.ask) for way in resolved.ways],
            "slack": slack,
            **self._asked(among),
        }
        self._log.write({**question, "answer": answer_of(answer)})
        self._log.flush()
        return answer

    def _asked(self, among: Collection[str] | None) -> Record:
        """Return the nodes: by name the first time in a file, then by the number that they were given."""
        if among is None:
            return {"among": None}
        names = frozenset(among)
        if names in self._among:
            return {"among": self._among[names]}
        self._among[names] = len(self._among)
        return {"among": len(self._among) - 1, "names": sorted(names)}

    # Records

    def _tell(self, record: str, found: Any) -> None:  # noqa: ANN401 - an object of the API
        kind = KINDS.get(type(found))
        if kind is not None:
            self._log.write({"record": record, "kind": kind.name, "object": _plain(found)})

    def _tell_pod(self, uid: str, before: HostUse | None) -> None:
        use = self.books.pods.get(uid)
        if use != before:
            self._log.write({"record": "pod", "uid": uid, "use": _plain(use)})

    def _head(self) -> Iterator[Record]:
        """Yield the state. The mix is learned anew from it, here as when it is read."""
        self._among.clear()
        yield settings_record(self.settings)
        store = self.store
        for kind, found in (
            (NODES, store.nodes),
            (NAMESPACES, store.namespaces),
            (CLASSES, store.classes),
            (TAINT_RULES, self._pools[DeviceTaintRule].values()),
            (SLICES, self._pools[ResourceSlice].values()),
            (CLAIMS, store.claims),
        ):
            yield {"record": "replace", "kind": kind.name, "objects": _plain(list(found))}
        for uid, use in self.books.pods.items():
            yield {"record": "pod", "uid": uid, "use": _plain(use)}
        for key, held in self.books.held.items():
            yield {"record": "hold", "key": _plain(key), **_plain(held)}
        self._mix = LearnedMix(self.settings.mix)
        self._repack()


def settings_record(settings: ClusterSettings) -> Record:
    """Return what the cluster is asked with; of the mix, which may be large, what it is recognised by."""
    mix = None if settings.mix is None else hashlib.sha256(repr(settings.mix.counts).encode()).hexdigest()
    plain = {name: getattr(settings, name) for name in ("drivers", "gpu_driver", "policy", "seed", "place_all")}
    return {"record": "settings", **plain, "ignored_taints": sorted(settings.ignored_taints), "mix": mix}


def answer_of(answer: Decided) -> Record:
    """Return an answer as it is logged."""
    return {
        "allocation": _plain(answer.allocation),
        "alternatives": _plain(answer.alternatives),
        "undecided": answer.undecided,
        "fault": answer.fault,
    }


def _name(found: Any) -> str:  # noqa: ANN401 - an object of the API
    return str(found.metadata.name)


def _way(ask: Any) -> Record:  # noqa: ANN401
    return {"claims": [claim.uid for claim in ask.claims], "nodes": None if ask.nodes is None else sorted(ask.nodes)}


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON
    return msgspec.to_builtins(value, enc_hook=_dict)


def _dict(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(type(value))
