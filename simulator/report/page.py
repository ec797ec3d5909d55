"""The page: verdict, tables and figures of a `Result` in one HTML text that needs no network and no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from simulator.objective import Objective
from simulator.report import figures, verdict
from simulator.report.palette import look
from simulator.report.svg import Drawing
from simulator.result import FailedDemand, Result, RunResult
from simulator.summary import BASELINE, Row, headline, rival, summarise, unmeasured

FAILURES_SHOWN = 12

MatrixRows = tuple[tuple[str, tuple[tuple[float | None, bool], ...]], ...]
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class TableRow:
    """A line of a policy table; `bar` is the unallocated share relative to the worst policy, in percent."""

    row: Row
    colour: str
    sample: str
    bar: float
    best: bool
    spread: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A kind of pod that found no place: mean count per run, under the chosen policy and the one it is held against."""

    demand: str
    chosen: float
    other: float | None
    reasons: str


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says about one pod list."""

    title: str
    anchor: str
    table: tuple[TableRow, ...]
    curves: tuple[Drawing, ...]
    pools: tuple[Drawing, ...]
    failures: tuple[Failure, ...]
    failures_left: int


@dataclass(frozen=True, slots=True)
class Check:
    """An objective and the rows that miss it."""

    text: str
    missed_by: tuple[str, ...]


def render_report(result: Result, objectives: Sequence[Objective] = ()) -> str:
    """Return the report of `result`, which has at least one run. The same result gives the same bytes."""
    rows = summarise(result)
    chosen = headline(rows)
    other = rival(rows, chosen) if chosen else None
    names = (chosen.policy if chosen else rows[0].policy, other.policy if other else "")
    variants = dict.fromkeys(run.variant for run in result.runs)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        result=result,
        inputs=result.inputs,
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        verdict=verdict.verdict(chosen, other, result.inputs),
        unmeasured=unmeasured(rows),
        facts=verdict.facts(chosen, other, result.inputs),
        subject=verdict.subject(rows, result.inputs),
        checks=tuple(_check(objective, rows) for objective in objectives),
        overall=_table(rows, rows[0].variant) if len(variants) > 1 else (),
        matrix=_matrix(rows, list(variants)),
        sections=tuple(_section(result, rows, variant, names) for variant in variants),
        chosen=names[0],
        other=names[1],
        baseline=BASELINE,
        command=command(result),
    )


def command(result: Result) -> str:
    """Return the command line that makes the same result again, beside the same files."""
    inputs = result.inputs
    words = ["dovetail simulate", f"--nodes {inputs.cluster.file}", *(f"--pods {pods.file}" for pods in inputs.pods)]
    words += [f"--arrivals {inputs.arrivals.file}"] if inputs.arrivals else []
    words += ["--skip-bad"] if any(pods.rejected for pods in inputs.pods) else []
    words += [f"--policy {','.join(inputs.policies)}", f"--seeds {','.join(map(str, inputs.seeds))}"]
    return " ".join(words)


def _check(objective: Objective, rows: Sequence[Row]) -> Check:
    def who(row: Row) -> str:
        return f"{row.policy} on {row.variant}" + (" (not measured)" if objective.miss(row) == "not measured" else "")

    return Check(str(objective), tuple(who(row) for row in objective.misses(rows)))


def _section(result: Result, rows: Sequence[Row], variant: str, names: tuple[str, str]) -> Section:
    runs = [run for run in result.runs if run.variant == variant]
    failures = _failures(runs, *names)
    detailed = [run for run in runs if run.pools and run.policy in names]
    detailed.sort(key=lambda run: names.index(run.policy))
    return Section(
        title=variant,
        anchor=f"pods-{variant}",
        table=_table(rows, variant),
        curves=tuple(
            draw(variant, runs, names[0])
            for draw in (figures.allocation, figures.seeds, figures.fragmentation, figures.idle_ratio)
        ),
        pools=tuple(figures.occupancy(variant, run) for run in detailed),
        failures=failures[:FAILURES_SHOWN],
        failures_left=max(len(failures) - FAILURES_SHOWN, 0),
    )


def _table(rows: Sequence[Row], variant: str) -> tuple[TableRow, ...]:
    """Return the policies of a pod list, best first; those that were never put to the test last."""
    mine = sorted(
        (row for row in rows if row.variant == variant),
        key=lambda row: (row.at_100 is None, row.at_100.mean if row.at_100 else 0.0),
    )
    worst = max((row.at_100.mean for row in mine if row.at_100), default=0.0)
    return tuple(
        TableRow(
            row=row,
            colour=look(row.policy, "").css,
            sample=look(row.policy, "").css_sample,
            bar=round(100 * row.at_100.mean / worst, 1) if row.at_100 and worst else 0.0,
            best=index == 0 and row.at_100 is not None,
            spread=verdict.spread(row),
        )
        for index, row in enumerate(mine)
    )


def _matrix(rows: Sequence[Row], variants: Sequence[str]) -> MatrixRows:
    """Return, per pod list, what each policy leaves unallocated and whether that is the least; empty for one list."""
    if len(variants) < 2:
        return ()
    lines = []
    for variant in variants:
        means = [row.at_100.mean if row.at_100 else None for row in rows if row.variant == variant]
        least = min((mean for mean in means if mean is not None), default=None)
        lines.append((variant, tuple((mean, mean is not None and mean == least) for mean in means)))
    return tuple(lines)


def _failures(runs: Sequence[RunResult], chosen: str, other: str) -> tuple[Failure, ...]:
    """Return who found no place under the chosen policy, most frequent first."""
    ours = [run for run in runs if run.policy == chosen]
    theirs = [run for run in runs if run.policy == other]
    counts, other_counts = _count(ours), _count(theirs)
    reasons = {failed.demand: _reasons(failed) for run in reversed(ours) for failed in run.failed_by}
    return tuple(
        Failure(
            demand=demand,
            chosen=count / len(ours),
            other=other_counts[demand] / len(theirs) if theirs else None,
            reasons=reasons[demand],
        )
        for demand, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _count(runs: Sequence[RunResult]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for run in runs:
        for failed in run.failed_by:
            counts[failed.demand] += failed.count
    return counts


def _reasons(failed: FailedDemand) -> str:
    return "; ".join(f"{reason.nodes:,}: {reason.text}" for reason in failed.reasons)
