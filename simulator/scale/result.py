"""`scale.json`: every size, how its figures grow, and the gates. Times differ from run to run; digests do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from simulator.quality.lines import Mean
from simulator.quality.verdict import Verdict, threshold
from simulator.result import write_text
from simulator.scale.steady import ScaleRun, growth_exponent

SCHEMA_NAME = "dovetail.scale/v1"
FILE_NAME = "scale.json"
GATES_MS = {10_000: (5.0, 0.3), 100_000: (50.0, 3.0)}
"""By nodes: gate and target for the 99th percentile of `place()`."""
MOST_BYTES_PER_GPU = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """value ~ nodes^exponent, by least squares over the sizes that were run."""

    figure: str
    exponent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What was run and what it says. Incomplete if it was stopped early."""

    dovetail: str
    runs: tuple[ScaleRun, ...]
    growth: tuple[Growth, ...]
    gates: tuple[Verdict, ...]
    complete: bool = True
    schema: str = SCHEMA_NAME


def scale_of(runs: Sequence[ScaleRun], version: str, *, complete: bool = True) -> Scale:
    """Return the result of `runs`."""
    return Scale(dovetail=version, runs=tuple(runs), growth=_growth(runs), gates=tuple(_gates(runs)), complete=complete)


def write_scale(scale: Scale, folder: Path) -> Path:
    """Write `folder`/scale.json, whole or not at all, and return its path."""
    fields: dict[str, Any] = msgspec.to_builtins(scale)
    return write_text(folder / FILE_NAME, json.dumps(fields, indent=1, sort_keys=True) + "\n")


def _growth(runs: Sequence[ScaleRun]) -> tuple[Growth, ...]:
    figures = {
        "place p50, processor": [(run.nodes, run.place.cpu_p50_us) for run in runs],
        "place p99, processor": [(run.nodes, run.place.cpu_p99_us) for run in runs],
        "apply p50, processor": [(run.nodes, run.apply.cpu_p50_us) for run in runs if run.apply],
        "release p50, processor": [(run.nodes, run.release.cpu_p50_us) for run in runs if run.release],
        "first decision of a class p50, processor": [(run.nodes, run.first.cpu_p50_us) for run in runs],
    }
    fits = {name: growth_exponent(*zip(*told, strict=True)) for name, told in figures.items() if told}
    return tuple(Growth(figure=name, exponent=found) for name, found in fits.items() if found is not None)


def _gates(runs: Sequence[ScaleRun]) -> list[Verdict]:
    found = []
    for run in runs:
        cell = f"{run.nodes:,} nodes"
        if run.nodes in GATES_MS:
            gate, target = GATES_MS[run.nodes]
            timed = (("clock on the wall", run.place.p99_us), ("processor time", run.place.cpu_p99_us))
            for clock, spent_us in timed:
                name = f"place p99 at most, ms ({clock})"
                found.append(threshold(name, cell, _plain(spent_us / 1000), gate, target, most=True, digits=3))
        if run.resident_bytes_per_gpu is not None and run.nodes in GATES_MS:
            value = _plain(run.resident_bytes_per_gpu)
            name = "bytes of memory per GPU at most"
            found.append(threshold(name, cell, value, MOST_BYTES_PER_GPU, MOST_BYTES_PER_GPU, most=True, digits=0))
    return found


def _plain(value: float) -> Mean:
    return Mean(mean=value, error=0.0)
