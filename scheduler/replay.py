"""Makes the decisions of a log again, from what is in the log alone, and tells which come out otherwise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kube.books import Held, HostUse
from kube.cluster import Cluster, ClusterSettings
from kube.kinds import KINDS
from kube.objects import Pod
from kube.refusal import Refusal
from kube.resolved import Resolved
from packing.dra.model import Allocation, Ask, ClaimAsk
from packing.mix import DemandMix
from packing.model import NodeName
from scheduler.decisionlog import answer_of, settings_record
from topology.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A decision, as it was logged on a line of the file and as it comes out now."""

    line: int
    pod: str
    logged: Any
    now: Any

    @property
    def same(self) -> bool:
        """Whether both are the same."""
        return bool(self.logged == self.now)


def replay(path: Path, mix: DemandMix | None = None) -> Iterator[Replayed]:
    """Yield the decisions of a log file, made again. `mix`: the one the scheduler was given, if it was given one.

    Raises InvalidInputError for a file that is no such log.
    """
    story = _Story(mix)
    with path.open(encoding="ascii") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                replayed = story.take(number, record)
            except (ValueError, KeyError, TypeError) as error:
                if number > 1 and not line.endswith("\n"):
                    return  # the process was killed while it wrote
                raise InvalidInputError(
                    f"{path} line {number}", "", f"is no record of a decision log: {error}"
                ) from error
            if replayed is not None:
                yield replayed


@dataclass(slots=True)
class _Story:
    mix: DemandMix | None
    cluster: Cluster = field(default_factory=Cluster)
    among: dict[int, list[str]] = field(default_factory=dict)

    def take(self, line: int, record: dict[str, Any]) -> Replayed | None:
        """Follow one record; return the decision that it was."""
        match record["record"]:
            case "decision":
                return self._decide(line, record)
            case "settings":
                self.cluster = Cluster(_settings(record, self.mix))
            case "replace":
                kind = KINDS[record["kind"]]
                self.cluster.replace(kind, msgspec.convert(record["objects"], list[kind.type]))  # type: ignore[name-defined]
            case "put":
                self.cluster.put(msgspec.convert(record["object"], KINDS[record["kind"]].type))
            case "remove":
                self.cluster.remove(msgspec.convert(record["object"], KINDS[record["kind"]].type))
            case "pod":
                self._pod(record["uid"], record["use"])
            case "hold":
                self._hold(record)
            case "drop":
                self.cluster.drop(_key(record["key"]))
            case "pack":
                self.cluster.packed()
            case other:
                raise ValueError(f"unknown record {other!r}")
        return None

    def _pod(self, uid: str, use: Any) -> None:  # noqa: ANN401
        if use is None:
            self.cluster.books.unbind(uid)
        else:
            self.cluster.books.bind(uid, msgspec.convert(use, HostUse))

    def _hold(self, record: dict[str, Any]) -> None:
        held = msgspec.convert(record, Held)
        host = held.host or HostUse(NodeName(""), 0, 0)
        asks = tuple(ClaimAsk(uid=uid, name=uid, requests=()) for uid in held.claims)
        ask = Ask(claims=asks, cpu_milli=host.cpu_milli, memory_mib=host.memory_mib)
        allocation = Allocation(node=host.node, claims=tuple(held.claims.values()))
        self.cluster.books.hold(_key(record["key"]), held.pod, ask, allocation)

    def _decide(self, line: int, record: dict[str, Any]) -> Replayed:
        if "names" in record:
            self.among[record["among"]] = record["names"]
        among = None if record["among"] is None else self.among[record["among"]]
        pod = msgspec.convert(record["pod"], Pod)
        now: Any
        try:
            resolved = _as_asked(self.cluster.resolve(pod), record["ways"])
            answer = self.cluster.decide(resolved, among, slack=record["slack"])
            now = json.loads(json.dumps(answer_of(answer)))
        except Refusal as refusal:
            now = {"refusal": refusal.text}
        name = pod.metadata.full_name
        return Replayed(line=line, pod=name, logged=record["answer"], now=now)


def _settings(record: dict[str, Any], mix: DemandMix | None) -> ClusterSettings:
    settings = ClusterSettings(
        drivers=tuple(record["drivers"]),
        gpu_driver=record["gpu_driver"],
        policy=record["policy"],
        seed=record["seed"],
        place_all=record["place_all"],
        ignored_taints=frozenset(record["ignored_taints"]),
        mix=mix,
    )
    if settings_record(settings)["mix"] != record["mix"]:
        wanted = "the demand mix that the scheduler was given (--mix)" if record["mix"] else "no demand mix"
        raise InvalidInputError("decision log", "mix", f"was written with {wanted}")
    return settings


def _as_asked(resolved: Resolved, ways: list[dict[str, Any]]) -> Resolved:
    """Narrow a pod to what was left to decide: claims that others had planned were not, and tie it to their node."""
    narrowed = []
    for way, asked in zip(resolved.ways, ways, strict=True):
        kept = set(asked["claims"])
        claims = tuple(each for each in way.claims if each.ask.uid in kept)
        nodes = None if asked["nodes"] is None else frozenset(map(NodeName, asked["nodes"]))
        if len(claims) == len(way.claims) and nodes == way.ask.nodes:
            narrowed.append(way)
            continue
        ask = dataclasses.replace(way.ask, claims=tuple(each.ask for each in claims), nodes=nodes, signature=None)
        narrowed.append(dataclasses.replace(way, claims=claims, ask=ask))
    return dataclasses.replace(resolved, ways=tuple(narrowed))


def _key(plain: Any) -> Any:  # noqa: ANN401 - whatever identifies a reservation
    return tuple(_key(each) for each in plain) if isinstance(plain, list) else plain
