"""What the default policy must reach (gate) and is meant to reach (target) in each suite, and whether it does.

Gates of ideal % are plain thresholds on means. Where a gate compares with a peer on the same arrivals, a difference
less than two standard errors below the threshold is called noise, and is no miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.quality.cases import OURS, Run
from simulator.quality.tables import PACKING_PEER, Cell, Line, difference, tabulate

IDEAL: dict[tuple[str, float], tuple[float, float]] = {
    ("a", 0.85): (99.5, 99.92),
    ("a", 1.0): (99.0, 99.6),
    ("b", 0.85): (99.5, 99.92),
    ("b", 1.0): (99.0, 99.6),
    ("d", 1.0): (99.5, 99.85),
}
"""Cluster and load: gate and target of ideal %."""
ACCEPTED_AT_LEAST_PCT = {"a": -0.15, "b": -0.15, "c": 0.0, "d": -0.15}
"""Work accepted less that of most-used, in points of a percent."""
ACCEPTED_CELLS = (*IDEAL, ("c", 0.85), ("c", 1.0))
GPUS_TARGET = -0.005
"""Suite M3: GPUs over the optimum, ours minus best-fit's."""
MIG_RIVALS = {"M1": ("best-fit", "fgd-mig"), "M2": ("best-fit", "fgd-mig"), "M3": ("best-fit",)}
NOISE_ERRORS = 2.0

YES, NOISE, NO = "yes", "within noise", "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A gate in one cell. `measured` is a mean, or a difference with its standard error; target None: there is none."""

    gate: str
    cell: str
    measured: float
    error: float
    gate_at: float
    gate_reached: str
    target_at: float | None
    target_reached: str


def verdicts(runs: Sequence[Run]) -> tuple[Verdict, ...]:
    """Return every gate whose cells were run by ours and by the peers it names."""
    lines = {(line.cell, line.policy): line for line in tabulate(runs)}
    return (*_ideal(lines), *_accepted(runs), *_partitions(runs, lines))


def _ideal(lines: dict[tuple[Cell, str], Line]) -> list[Verdict]:
    found = []
    for (cluster, load), (gate, target) in IDEAL.items():
        line = lines.get((("L", cluster, load), OURS))
        if line is not None:
            ideal = line.figures["ideal_pct"]
            found.append(
                Verdict(
                    gate="ideal % at least",
                    cell=f"L {cluster} {load}",
                    measured=ideal.mean,
                    error=ideal.error,
                    gate_at=gate,
                    gate_reached=YES if ideal.mean >= gate else NO,
                    target_at=target,
                    target_reached=YES if ideal.mean >= target else NO,
                )
            )
    return found


def _accepted(runs: Sequence[Run]) -> list[Verdict]:
    found = []
    for cluster, load in ACCEPTED_CELLS:
        cell = ("L", cluster, load)
        compared = _compare(runs, cell, "accepted_pct", PACKING_PEER)
        if compared is not None:
            gate = f"accepted % less {PACKING_PEER}'s at least"
            found.append(_at_least(gate, cell, *compared, ACCEPTED_AT_LEAST_PCT[cluster], None))
    return found


def _partitions(runs: Sequence[Run], lines: dict[tuple[Cell, str], Line]) -> list[Verdict]:
    found = []
    for cell, policy in lines:
        if policy != OURS or cell[0] not in MIG_RIVALS:
            continue
        present = [peer for peer in MIG_RIVALS[cell[0]] if (cell, peer) in lines]
        if not present:
            continue
        if cell[0] == "M3":
            compared = _compare(runs, cell, "gpus_ratio", present[0])
            assert compared is not None
            # Fewer is better: turned round, so that one rule judges all.
            found.append(
                _at_least(
                    f"GPUs/optimum saved against {present[0]}, at least",
                    cell,
                    -compared[0],
                    compared[1],
                    0.0,
                    -GPUS_TARGET,
                )
            )
            continue
        figure = "served_pct" if cell[0] == "M1" else "accepted_pct"
        rival = max(present, key=lambda peer: lines[(cell, peer)].figures[figure].mean)
        compared = _compare(runs, cell, figure, rival)
        assert compared is not None
        found.append(_at_least(f"compute % less {rival}'s at least", cell, *compared, 0.0, None))
    return found


def _compare(runs: Sequence[Run], cell: Cell, figure: str, peer: str) -> tuple[float, float] | None:
    here = [run for run in runs if (run.case.suite, run.case.scenario, run.case.load) == cell]
    ours = [run for run in here if run.case.policy == OURS]
    theirs = [run for run in here if run.case.policy == peer]
    if not ours or not theirs:
        return None
    found = difference(figure, ours, theirs, peer)
    return found.mean, found.error


def _at_least(gate: str, cell: Cell, mean: float, error: float, at: float, target: float | None) -> Verdict:
    suite, scenario, load = cell
    return Verdict(
        gate=gate,
        cell=f"{suite} {scenario} {load}" if load else f"{suite} {scenario}",
        measured=mean,
        error=error,
        gate_at=at,
        gate_reached=_reached(mean, error, at),
        target_at=target,
        target_reached="" if target is None else _reached(mean, error, target),
    )


def _reached(mean: float, error: float, at: float) -> str:
    if mean >= at:
        return YES
    return NOISE if mean + NOISE_ERRORS * error >= at else NO
