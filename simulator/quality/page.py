"""`quality.html`: gates, tables and figures of a `Quality` in one page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2

from simulator.quality import figures
from simulator.quality.cases import OURS
from simulator.quality.gates import NO, YES, Verdict
from simulator.quality.result import Quality
from simulator.quality.tables import Difference, Line, Mean, seeds_text
from simulator.report.palette import look
from simulator.report.svg import Drawing

FILE_NAME = "quality.html"
_HERE = Path(__file__).parent
_STYLE = _HERE.parent / "report" / "page.css"

TITLES = {
    "L": "L: links of multi-GPU jobs",
    "M1": "M1: MIG, filling 100 GPUs",
    "M2": "M2: MIG, requests that come and go",
    "M3": "M3: MIG, GPUs for 500 requests",
}
HEADS = {
    "ideal_pct": "ideal %",
    "ratio_pct": "quality %",
    "worst_pct": "worst 5 %",
    "accepted_pct": "accepted %",
    "served_pct": "served %",
    "optimum_pct": "optimum %",
    "requests_pct": "requests %",
    "gpus_ratio": "GPUs / optimum",
    "gpus": "GPUs",
    "optimum_gpus": "optimum",
}
"""Titles of figures, by their names."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One table: a cluster or mix at a load, with its policies in the order of the suite."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Line, str, tuple[str, ...]], ...]
    versus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One suite."""

    title: str
    drawings: tuple[Drawing, ...]
    cells: tuple[Cell, ...]


def render_quality(quality: Quality) -> str:
    """Return the page of a result with at least one run. The same result gives the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    by_suite = groupby(quality.lines, key=lambda line: line.suite)
    return environment.get_template("page.html.j2").render(
        quality=quality,
        style=_STYLE.read_text(encoding="utf-8"),
        headline=headline(quality.gates),
        gates=[(gate, gate_text(gate)) for gate in quality.gates],
        sections=[_section(suite, list(lines)) for suite, lines in by_suite],
        ours=OURS,
        seeds=_seeds(quality.lines),
    )


def headline(gates: Sequence[Verdict]) -> str:
    """Return how many gates are reached, in one sentence."""
    if not gates:
        return "No gate of these suites was put to the test"
    reached, missed = (sum(gate.gate_reached == word for gate in gates) for word in (YES, NO))
    return f"{OURS} reaches {reached} of {len(gates)} gates and misses {missed}; the others are within noise"


def gate_text(gate: Verdict) -> str:
    """Return a measured value with its standard error, in the digits of its gate."""
    digits = 4 if gate.cell.startswith("M3") else 2
    return f"{gate.measured:.{digits}f} ± {gate.error:.{digits}f}"


def value_text(name: str, value: Mean) -> str:
    """Return a mean in the digits of its figure."""
    return f"{value.mean:.4f}" if name == "gpus_ratio" else f"{value.mean:.2f}"


def versus_text(found: Difference) -> str:
    """Return a paired difference in words."""
    digits = 4 if found.figure == "gpus_ratio" else 2
    return f"{HEADS[found.figure]} {found.mean:+.{digits}f} ± {found.error:.{digits}f} against {found.peer}"


def _seeds(lines: Sequence[Line]) -> str:
    """Return which runs each suite had."""
    seeds = {line.suite: seeds_text(line.seeds) for line in reversed(lines)}
    return "; ".join(f"{suite} {seeds[suite]}" for suite in sorted(seeds))


def _section(suite: str, lines: Sequence[Line]) -> Section:
    cells = [list(cell) for _, cell in groupby(lines, key=lambda line: line.cell)]
    draw = figures.trade if suite == "L" else figures.bars
    return Section(TITLES[suite], tuple(draw(cell) for cell in cells), tuple(_cell(cell) for cell in cells))


def _cell(lines: Sequence[Line]) -> Cell:
    _, scenario, load = lines[0].cell
    names = tuple(lines[0].figures)
    return Cell(
        title=f"{scenario}, load {load}" if load else scenario,
        heads=tuple(HEADS[name] for name in names),
        rows=tuple(
            (line, look(line.policy, "").css, tuple(value_text(name, line.figures[name]) for name in names))
            for line in lines
        ),
        versus=tuple(versus_text(found) for line in lines for found in line.versus),
    )
