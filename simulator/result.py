"""The result of a simulation, and the one way it becomes `result.json`.

A result holds nothing that differs between two runs of the same inputs (no time, no path, no machine), its keys are
sorted and its floats rounded where they are made: same inputs and seeds, same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from packing.model import Reason
from simulator.curves import BinValues, Curve
from topology.errors import InvalidInputError

SCHEMA_NAME = "dovetail.result/v1"
SCHEMA_PATH = Path(__file__).parent / "schemas" / "result-v1.schema.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse:
    """How a pool of like nodes filled up: allocated GPUs in percent of the pool's own, per bin of the curve."""

    pool: str
    nodes: int
    gpus: int
    allocated_pct: BinValues


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDemand:
    """`count` pods of one kind that found no place; `reasons` as they stood at the end of the run."""

    demand: str
    count: int
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPod:
    """Where an arrival went: `node` is empty and `gpus` without entries if it found no place."""

    pod: str
    node: str
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run: a pod list (`variant`) arrived in the order of a seed and was placed by a policy."""

    variant: str
    policy: str
    seed: int
    curve: Curve
    unallocated_pct_at_100: float | None
    unallocated_pct_at_130: float | None
    arrived: int
    placed: int
    failed: int
    failed_by: tuple[FailedDemand, ...] = ()
    pools: tuple[PoolUse, ...] = ()
    placements: tuple[PlacedPod, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file that was read: its name without folders, and the SHA-256 of its bytes."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFile:
    """A pod list that was read; `rejected` rows were left out because the user asked to skip bad rows."""

    variant: str
    file: str
    sha256: str
    pods: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a result was made from: enough to make it again and to know that it was."""

    dovetail: str
    protocol: str
    tie_rule: str
    cluster: InputFile
    nodes: int
    gpus: int
    pods: tuple[PodFile, ...]
    arrivals: InputFile | None
    policies: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All runs of one simulation, ordered by pod list, policy and seed. Incomplete if it was stopped early."""

    inputs: Inputs
    runs: tuple[RunResult, ...]
    complete: bool = True
    schema: str = SCHEMA_NAME


def input_file(path: Path) -> InputFile:
    """Return name and digest of `path`. Raises InvalidInputError if it cannot be read."""
    try:
        return InputFile(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        raise InvalidInputError(str(path), "", f"cannot be read: {error.strerror or error}") from error


def encode_result(result: Result) -> str:
    """Return the text of `result.json`: sorted keys, one run a line, a newline at the end."""
    runs = ",\n".join(_line(_without_nothing(run)) for run in result.runs)
    return (
        "{\n"
        f'"complete": {_line(result.complete)},\n'
        f'"inputs": {json.dumps(msgspec.to_builtins(result.inputs), indent=1, sort_keys=True)},\n'
        f'"runs": [\n{runs}\n],\n'
        f'"schema": {_line(result.schema)}\n'
        "}\n"
    )


def decode_result(text: str | bytes) -> Result:
    """Return the result written as `text`. Raises InvalidInputError if it is none."""
    try:
        result = msgspec.json.decode(text, type=Result)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidInputError("result.json", "", f"is not a result: {error}") from error
    if result.schema != SCHEMA_NAME:
        raise InvalidInputError("result.json", "schema", f"is {result.schema!r}; this version reads {SCHEMA_NAME!r}")
    return result


def write_result(result: Result, folder: Path) -> Path:
    """Write `folder`/result.json, whole or not at all, and return its path."""
    return write_text(folder / "result.json", encode_result(result))


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` in one step, so that a reader never sees half a file. Raises InvalidInputError."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        raise InvalidInputError(str(path), "", f"cannot be written: {error.strerror or error}") from error
    return path


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _without_nothing(run: RunResult) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(run)
    if run.placements is None:
        del fields["placements"]
    return fields
