"""`quality.html`: gates, tables and figures of a `Quality` in one page that needs no network and no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2

from simulator.quality.lines import Difference, Line, Mean, seeds_text
from simulator.quality.registry import SUITES
from simulator.quality.result import Quality
from simulator.quality.runs import Figure
from simulator.quality.suite import OURS, Suite
from simulator.quality.verdict import NO, NOISE, YES, Verdict
from simulator.report.palette import look
from simulator.report.svg import Drawing

FILE_NAME = "quality.html"
_HERE = Path(__file__).parent
_STYLE = _HERE.parent / "report" / "page.css"


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
    sections = [_section(SUITES[name], list(lines)) for name, lines in by_suite]
    return environment.get_template("page.html.j2").render(
        quality=quality,
        style=_STYLE.read_text(encoding="utf-8"),
        headline=headline(quality.gates),
        gates=[(gate, gate_text(gate)) for gate in quality.gates],
        sections=sections,
        methods=dict.fromkeys((SUITES[name].letter, SUITES[name].method) for name in quality.suites),
        ours=OURS,
        seeds=_seeds(quality.lines),
    )


def headline(gates: Sequence[Verdict]) -> str:
    """Return how many gates are reached: those of the default policy, then those of its other settings."""
    if not gates:
        return "No gate of these suites was put to the test"
    policies = sorted({gate.policy for gate in gates}, key=lambda policy: policy != OURS)
    return "; ".join(_reached(policy, [gate for gate in gates if gate.policy == policy]) for policy in policies)


def _reached(policy: str, gates: Sequence[Verdict]) -> str:
    counts = Counter(gate.gate_reached for gate in gates)
    noise = f", {counts[NOISE]} within noise" if counts[NOISE] else ""
    return f"{policy} reaches {counts[YES]} of {len(gates)} gates and misses {counts[NO]}{noise}"


def gate_text(gate: Verdict) -> str:
    """Return a measured value with its standard error, in the digits of its gate."""
    return f"{gate.measured:.{gate.digits}f} ± {gate.error:.{gate.digits}f}"


def value_text(figure: Figure, value: Mean | None) -> str:
    """Return a mean in the digits of its figure; a dash where a policy has none."""
    return f"{value.mean:.{figure.digits}f}" if value else "-"


def versus_text(figure: Figure, found: Difference) -> str:
    """Return a paired difference in words."""
    return f"{figure.head} {found.mean:+.{figure.digits}f} ± {found.error:.{figure.digits}f} against {found.peer}"


def _seeds(lines: Sequence[Line]) -> str:
    """Return which runs each suite had."""
    seeds = {line.suite: seeds_text(line.seeds) for line in reversed(lines)}
    return "; ".join(f"{suite} {seeds[suite]}" for suite in sorted(seeds))


def _section(suite: Suite, lines: Sequence[Line]) -> Section:
    cells = [list(cell) for _, cell in groupby(lines, key=lambda line: line.cell)]
    return Section(suite.title, tuple(suite.draw(cells)), tuple(_cell(suite, cell) for cell in cells))


def _cell(suite: Suite, lines: Sequence[Line]) -> Cell:
    _, scenario, load = lines[0].cell
    shown = {figure.key: figure for figure in suite.figures if any(figure.key in line.figures for line in lines)}
    return Cell(
        title=f"{scenario}, load {load}" if load else scenario,
        heads=tuple(figure.head for figure in shown.values()),
        rows=tuple(
            (
                line,
                look(line.policy, "").css,
                tuple(value_text(figure, line.figures.get(name)) for name, figure in shown.items()),
            )
            for line in lines
        ),
        versus=tuple(versus_text(shown[found.figure], found) for line in lines for found in line.versus),
    )
