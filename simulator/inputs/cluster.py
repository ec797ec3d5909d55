"""Cluster files: pools of like nodes, by machine shape, size and price. Schema `simulator/schemas/cluster.schema.json`.

The schema is generated from the structs below (`cluster_schema`); a test keeps the file equal to it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from packing.model import MAX_GPUS_PER_NODE, WHOLE_MILLI, MigMode, Node, NodeName, NodeShape
from packing.shapes import shape_of
from simulator.inputs.quantity import cpu_milli, memory_mib
from simulator.inputs.source import read_bytes
from simulator.inputs.yamlfile import MAX_YAML_BYTES, read_yaml
from topology.catalog import machine as shipped_machine
from topology.errors import InvalidInputError, InvalidInputsError
from topology.machine import Machine, parse_machine
from topology.quality import flat_quality

T = TypeVar("T")

SCHEMA_VERSION = "cluster/v1"
MAX_NODES = 100_000
"""Most nodes of one cluster file."""

GpuIndex = Annotated[int, Meta(ge=0, lt=MAX_GPUS_PER_NODE)]
Quantity = int | float | str
# Room for "-" and the five digits of a node number in a DNS label of 63 characters.
PoolName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=57)]


class UnhealthyGpus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GPUs of one node of a pool that are broken and get no work."""

    node: Annotated[int, Meta(ge=0, lt=MAX_NODES, description="Number of the node in its pool, from 0.")]
    gpus: Annotated[tuple[GpuIndex, ...], Meta(min_length=1, description="GPU indices.")]


class PoolEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A number of like nodes, named `<name>-0000` and on."""

    name: Annotated[PoolName, Meta(description="A DNS label, at most 57 characters.")]
    count: Annotated[int, Meta(ge=1, le=MAX_NODES, description="Number of nodes.")]
    machine: Annotated[
        str, Meta(description="A shipped machine shape, or a path to a topology file; empty for nodes without GPUs.")
    ] = ""
    cpu: Annotated[Quantity, Meta(description="Cores of one node as a Kubernetes quantity, such as 96 or 96000m.")]
    memory: Annotated[Quantity, Meta(description="Memory of one node as a Kubernetes quantity, such as 1Ti.")]
    mig: Annotated[MigMode, Meta(description="MIG mode of its GPUs.")] = MigMode.DISABLED
    price_per_hour: Annotated[float, Meta(ge=0, description="Price of one node for one hour, in any currency.")] = 0
    unhealthy: tuple[UnhealthyGpus, ...] = ()


class ClusterFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A synthetic cluster for the simulator."""

    schema_version: Annotated[str, Meta(pattern=f"^{SCHEMA_VERSION}$")]
    pools: Annotated[tuple[PoolEntry, ...], Meta(min_length=1)]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodePool:
    """The nodes of one pool and the price of one of them per hour."""

    name: str
    machine: str
    nodes: tuple[Node, ...]
    price_per_hour: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Cluster:
    """A cluster as its file describes it. Nodes of equal machines share one shape."""

    source: str
    pools: tuple[NodePool, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, pool by pool."""
        return tuple(chain.from_iterable(pool.nodes for pool in self.pools))

    @property
    def capacity_milli(self) -> int:
        """Healthy GPUs in thousandths of a GPU."""
        return WHOLE_MILLI * sum(len(node.shape.gpus) - len(node.unhealthy) for node in self.nodes)

    @property
    def price_per_hour(self) -> float:
        """Price of the whole cluster for one hour."""
        return math.fsum(pool.price_per_hour * len(pool.nodes) for pool in self.pools)


def read_cluster(path: Path) -> Cluster:
    """Return the cluster that `path` describes; machine paths are relative to its folder.

    Raises InvalidInputError, or InvalidInputsError with the faults of all pools.
    """
    document = read_yaml(path, SCHEMA_VERSION)
    return _Reader(path).cluster(document)


def cluster_schema() -> dict[str, Any]:
    """Return the JSON Schema of a cluster file."""
    (_,), components = msgspec.json.schema_components((ClusterFile,))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Cluster file",
        "$ref": "#/$defs/ClusterFile",
        "$defs": components,
    }


_FIELDS = {info.encode_name: info for info in msgspec.structs.fields(PoolEntry)}

STAND_IN = PoolEntry(name="a", count=MAX_NODES, cpu=0, memory=0)
"""Stands in for fields that are wrong or missing, such that the checks of the others find nothing in it."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A pool as far as it could be read: what it is called in messages, and which fields are `bad` and stood in for."""

    where: str
    entry: PoolEntry
    bad: frozenset[str]


def _worded(name: str, raw: object, error: msgspec.ValidationError) -> tuple[str, str]:
    """Return field and problem for a value that cannot be `name`."""
    if name == "mig":
        # YAML reads the words on, off, yes and no as true and false.
        shown = (
            {True: "true (in YAML also: on, yes)", False: "false (in YAML also: off, no)"}[raw]
            if isinstance(raw, bool)
            else repr(raw)
        )
        return name, f"is {shown}; write one of {', '.join(mode.value for mode in MigMode)}"
    problem, _, path = str(error).partition(" - at ")
    return name + path.strip("`").removeprefix("$"), problem


class _Reader:
    """Turns a document into a cluster, gathering faults pool by pool."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._faults: list[InvalidInputError] = []
        self._shapes: dict[str, NodeShape] = {}

    def cluster(self, document: dict[str, Any]) -> Cluster:
        source = str(self._path)
        for unknown in sorted(set(map(str, document)) - {"schemaVersion", "pools"}):
            self._fault("", unknown, "is unknown; a cluster file has schemaVersion and pools")
        raw_pools = document.get("pools")
        if not isinstance(raw_pools, list) or not raw_pools:
            raise InvalidInputError(source, "pools", "must be a list of at least one pool")
        drafts = [self._draft(at, raw) for at, raw in enumerate(raw_pools)]
        uses = Counter(draft.entry.name for draft in drafts if "name" not in draft.bad)
        for name in sorted(name for name in uses if uses[name] > 1):
            self._fault(f"pool {name}", "name", "is used more than once; pool names must differ")
        if sum(draft.entry.count for draft in drafts if "count" not in draft.bad) > MAX_NODES:
            self._fault("", "pools", f"have more than {MAX_NODES} nodes in all")
            drafts = []
        pools = tuple(pool for draft in drafts if (pool := self._pool(draft)) is not None)
        if self._faults:
            raise InvalidInputsError(source, tuple(self._faults))
        return Cluster(source=source, pools=pools)

    def _fault(self, where: str, field: str, problem: str) -> None:
        self._faults.append(InvalidInputError(f"{self._path} {where}".rstrip(), field, problem))

    def _draft(self, at: int, raw: object) -> _Draft:
        """Read a pool field by field: its author learns every fault at once, not one a run."""
        where = f"pools[{at}]"
        if not isinstance(raw, dict):
            self._fault(where, "", "must be a mapping with name, count, cpu and memory")
            return _Draft(where, STAND_IN, frozenset(_FIELDS))
        for unknown in sorted(set(map(str, raw)) - _FIELDS.keys()):
            self._fault(where, "", f"has the unknown field {unknown!r}; known are {', '.join(_FIELDS)}")
        values: dict[str, Any] = {}
        bad: set[str] = set()
        for name, info in _FIELDS.items():
            if name in raw:
                try:
                    values[info.name] = msgspec.convert(raw[name], info.type)
                except msgspec.ValidationError as error:
                    bad.add(name)
                    self._fault(where, *_worded(name, raw[name], error))
            elif info.required:
                bad.add(name)
                self._fault(where, name, "is missing")
        if "name" not in bad:
            where = f"pool {values['name']}"
        return _Draft(where, msgspec.structs.replace(STAND_IN, **values), frozenset(bad))

    def _pool(self, draft: _Draft) -> NodePool | None:
        before = len(self._faults)
        entry, where = draft.entry, f"{self._path} {draft.where}"
        cpu = self._tried(lambda: cpu_milli(entry.cpu, where, "cpu"))
        memory = self._tried(lambda: memory_mib(entry.memory, where, "memory"))
        shape = None if "machine" in draft.bad else self._machine_shape(entry.machine, draft.where)
        for field, problem in _faults_of(entry, shape):
            self._fault(draft.where, field, problem)
        if draft.bad or cpu is None or memory is None or shape is None or len(self._faults) > before:
            return None
        return _node_pool(entry, shape, cpu, memory)

    def _machine_shape(self, name: str, where: str) -> NodeShape | None:
        try:
            return self._shape(name)
        except InvalidInputError as error:
            for fault in error.faults if isinstance(error, InvalidInputsError) else (error,):
                self._fault(where, "machine", str(fault))
            return None

    def _tried(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except InvalidInputError as error:
            self._faults.append(error)
        return None

    def _shape(self, name: str) -> NodeShape:
        if name not in self._shapes:
            self._shapes[name] = shape_of(self._machine(name)) if name else NodeShape("cpu-only", (), flat_quality(0))
        return self._shapes[name]

    def _machine(self, name: str) -> Machine:
        if "/" not in name and not name.endswith((".yaml", ".yml")):
            return shipped_machine(name)
        path = self._path.parent / name
        content = read_bytes(path, max_bytes=MAX_YAML_BYTES)
        return parse_machine(content.decode("utf-8", errors="replace"), str(path))


def _faults_of(entry: PoolEntry, shape: NodeShape | None) -> Iterator[tuple[str, str]]:
    if entry.name.endswith("\n"):
        # The `$` of a pattern also matches before a final line break.
        yield "name", f"{entry.name!r} ends with a line break; remove it"
    if not math.isfinite(entry.price_per_hour):
        yield "pricePerHour", f"{entry.price_per_hour} is not a finite number"
    uses = Counter(broken.node for broken in entry.unhealthy)
    for number in sorted(number for number in uses if uses[number] > 1):
        yield "unhealthy", f"names node {number} more than once; list its GPUs together"
    for broken in entry.unhealthy:
        if broken.node >= entry.count:
            yield "unhealthy", f"names node {broken.node}; the pool has nodes 0 to {entry.count - 1}"
        if shape is not None and max(broken.gpus) >= len(shape.gpus):
            yield "unhealthy", f"names GPU {max(broken.gpus)}; a node of the pool has {len(shape.gpus)} GPUs"
    if shape is not None and entry.mig is not MigMode.DISABLED and not any(gpu.mig for gpu in shape.gpus):
        products = ", ".join(sorted({gpu.product for gpu in shape.gpus})) or "no GPU"
        yield "mig", f"is {entry.mig}, but {products} cannot be partitioned here; write disabled"


def _node_pool(entry: PoolEntry, shape: NodeShape, cpu: int, memory: int) -> NodePool:
    broken = {each.node: frozenset(each.gpus) for each in entry.unhealthy}
    nodes = tuple(
        Node(
            name=NodeName(f"{entry.name}-{number:04d}"),
            shape=shape,
            cpu_milli=cpu,
            memory_mib=memory,
            mig_mode=entry.mig,
            unhealthy=broken.get(number, frozenset()),
        )
        for number in range(entry.count)
    )
    return NodePool(name=entry.name, machine=entry.machine, nodes=nodes, price_per_hour=entry.price_per_hour)
