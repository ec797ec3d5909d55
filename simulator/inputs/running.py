"""Running work: which claim holds which devices of which node, as CSV or JSON.

A row is one request; rows of one claim are the requests of one pod, and their CPU and memory add up. Columns: `claim`,
`node`, `kind` (whole, partition, share or cpu), `gpus` (indices, as in `0-3` or `0 2`), `profile` (as in `2g.20gb@0`),
`share_compute_milli`, `share_memory_mib`, `sharing`, `cpu_milli`, `memory_mib`; the first three are required.
JSON is `{"schema": "dovetail.running/v1", "claims": [...]}` with an object of these keys per row.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from packing.model import (
    MAX_GPUS_PER_NODE,
    WHOLE_MILLI,
    ClaimId,
    Demand,
    Devices,
    LinkWish,
    NodeName,
    PartitionRequest,
    Placement,
    Request,
    ShareRequest,
    Sharing,
    WholeRequest,
)
from simulator.inputs.rows import Faults, Row, Table, read_table
from simulator.inputs.source import MAX_INPUT_BYTES, read_bytes
from topology.errors import InvalidInputError, InvalidInputsError

SCHEMA = "dovetail.running/v1"
REQUIRED = ("claim", "node", "kind")
COLUMNS = (
    *REQUIRED,
    "gpus",
    "profile",
    "share_compute_milli",
    "share_memory_mib",
    "sharing",
    "cpu_milli",
    "memory_mib",
)
KINDS = ("whole", "partition", "share", "cpu")

Running = tuple[tuple[ClaimId, Demand, Placement], ...]
Part = tuple[Request, Devices]


def read_running(*paths: Path) -> Running:
    """Return the claims in `paths`, in order of their first row; whether their devices are free is not looked at.

    Raises InvalidInputsError with every bad row of all files, InvalidInputError for one file that is no such list.
    """
    pods: dict[str, _Pod] = {}
    faults: list[InvalidInputError] = []
    for path in paths:
        try:
            for claim, pod in _read_file(path).items():
                if claim in pods:
                    problem = f"{claim!r} is used before, in {pods[claim].where}; a claim is in one file"
                    faults.append(InvalidInputError(pod.where, "claim", problem))
                pods.setdefault(claim, pod)
        except InvalidInputsError as error:
            faults += error.faults
        except InvalidInputError as error:
            faults.append(error)
    if faults:
        if len(paths) == 1 and len(faults) == 1 and faults[0].obj == str(paths[0]):
            raise faults[0]
        raise InvalidInputsError(str(paths[0]) if len(paths) == 1 else "running work", tuple(faults))
    return tuple((ClaimId(claim), pod.demand(), pod.placement()) for claim, pod in pods.items())


def _read_file(path: Path) -> dict[str, _Pod]:
    table = _json_table(path) if path.suffix == ".json" else read_table(path, REQUIRED)
    if unknown := [name for name in table.columns if name not in COLUMNS]:
        problem = f"has unknown columns {', '.join(map(repr, unknown))}; known are {', '.join(COLUMNS)}"
        raise InvalidInputError(table.source, "header", problem)
    faults = Faults(table.source)
    pods: dict[str, _Pod] = {}
    for row in table.rows(faults):
        pod = pods.setdefault(row.text("claim"), _Pod(row.text("node"), row.where))
        pod.add(row)
        if row.faults:
            faults.add(row.faults)
    for claim, pod in pods.items():
        try:
            pod.demand()
        except InvalidInputError as error:
            # Each row was fine; what they add up to is not. The message names the first row of the claim.
            faults.add([InvalidInputError(pod.where, error.field, f"claim {claim!r} in all: {error.problem}")])
    faults.settle(skip_bad=False)
    return pods


def _json_table(path: Path) -> Table:
    """Read the JSON form as a table of texts, so that both forms are checked by the same code."""
    source = str(path)
    try:
        document = msgspec.json.decode(read_bytes(path, max_bytes=MAX_INPUT_BYTES))
    except msgspec.DecodeError as error:
        raise InvalidInputError(source, "", f"is not JSON: {error}") from error
    claims = document.get("claims") if isinstance(document, dict) else None
    if not isinstance(claims, list) or not all(isinstance(claim, dict) for claim in claims):
        raise InvalidInputError(source, "claims", f'must be a list of objects, beside "schema": "{SCHEMA}"')
    if document.get("schema") != SCHEMA:
        raise InvalidInputError(source, "schema", f"is {document.get('schema')!r}; write {SCHEMA!r}")
    keys = dict.fromkeys([*REQUIRED, *(str(key) for claim in claims for key in claim)])
    lines = tuple((at + 1, [_cell(claim.get(key)) for key in keys]) for at, claim in enumerate(claims))
    return Table(source, tuple(keys), lines)


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


class _Pod:
    """The rows of one claim; `where` is the first of them."""

    def __init__(self, node: str, where: str) -> None:
        self.where = where
        self._node = node
        self._cpu_milli = self._memory_mib = 0
        self._parts: list[Part] = []

    def add(self, row: Row) -> None:
        """Take in one row; what is wrong with it is left in `row.faults`."""
        for name in ("claim", "node"):
            if not row.text(name):
                row.fault(name, "is empty; write a name")
        if row.text("node") != self._node:
            row.fault("node", f"differs from {self._node!r} in an earlier row of this claim; a pod has one node")
        self._cpu_milli += row.integer("cpu_milli", default=0)
        self._memory_mib += row.integer("memory_mib", default=0)
        kind = row.choice("kind", KINDS)
        if kind == "cpu" or row.faults:
            return
        try:
            part = _part(row, kind)
        except InvalidInputError as error:
            # A bad cell was told already; the request only stumbles over what stands in for it.
            if not row.faults:
                row.faults.append(InvalidInputError(row.where, error.field, error.problem))
            return
        if not row.faults:
            self._parts.append(part)

    def demand(self) -> Demand:
        """Return what the pod asked for."""
        requests = tuple(request for request, _ in self._parts)
        return Demand(cpu_milli=self._cpu_milli, memory_mib=self._memory_mib, requests=requests)

    def placement(self) -> Placement:
        """Return where it runs."""
        return Placement(node=NodeName(self._node), devices=tuple(devices for _, devices in self._parts))


def _part(row: Row, kind: str) -> Part:
    gpus = _indices(row)
    if kind != "whole" and len(gpus) != 1:
        row.fault("gpus", f"names {len(gpus)} GPUs; a {kind} is on one")
    if kind == "whole":
        return WholeRequest(count=len(gpus) or 1, link=LinkWish.NONE), Devices(gpus=gpus)
    if kind == "partition":
        name, at, start = row.text("profile").partition("@")
        if not (name and at and re.fullmatch(r"[0-9]{1,2}", start)):
            row.fault("profile", "is not PROFILE@SLICE; write one such as 2g.20gb@0")
            return PartitionRequest(min_sms=1), Devices(gpus=gpus)
        return PartitionRequest(profile=name), Devices(gpus=gpus, profile=name, start=int(start))
    request = ShareRequest(
        compute_milli=row.integer("share_compute_milli", high=WHOLE_MILLI, default=0),
        memory_mib=row.integer("share_memory_mib", default=0),
        sharing=Sharing(row.choice("sharing", tuple(Sharing), default=Sharing.TIME_SLICING)),
    )
    return request, Devices(gpus=gpus)


def _indices(row: Row) -> tuple[int, ...]:
    """Return the GPU indices of a cell such as `0-3`, `0 2` or `0,2`."""
    found: list[int] = []
    for word in row.text("gpus").replace(",", " ").split():
        match = re.fullmatch(r"([0-9]{1,2})(?:-([0-9]{1,2}))?", word)
        if match is None or not int(match[1]) <= int(match[2] or match[1]) < MAX_GPUS_PER_NODE:
            row.fault("gpus", f"has {word!r}; write indices from 0 to {MAX_GPUS_PER_NODE - 1}, as in 0-3 or 0 2")
            return ()
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not found or len(set(found)) < len(found):
        row.fault("gpus", "must name GPUs, each once")
        return ()
    return tuple(sorted(found))
