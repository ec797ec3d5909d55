"""Suite P: the published fill benchmark (FGD, openb) on its 14 pod lists, with its recorded orders of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.fillrun import FillSpec, run_fill
from simulator.inputs.arrivals import available
from simulator.quality import openbdata
from simulator.quality.lines import Line, best, grouped, mean_of
from simulator.quality.runs import Case, Figure, Run
from simulator.quality.suite import OURS, OWN, Suite
from simulator.quality.verdict import Verdict, threshold

if TYPE_CHECKING:
    from simulator.report.svg import Drawing

BASELINE = "fgd"
PEERS = ("random", "dot-product", "gpu-clustering", "gpu-packing", "best-fit", BASELINE)
"""The six published policies."""
GROUPS: dict[str, tuple[str, ...]] = {
    "P1": ("default",),
    "P2": ("cpu050", "cpu100", "cpu200", "cpu250"),
    "P3": ("gpushare40", "gpushare60", "gpushare100"),
    "P4": ("gpuspec10", "gpuspec20", "gpuspec33"),
    "P5": ("multigpu20", "multigpu30", "multigpu50"),
}
LISTS = tuple(name for names in GROUPS.values() for name in names)
UNALLOCATED_AT_MOST = {
    "P1": (4.55, 3.70),
    "P2": (5.4, 4.2),
    "P3": (9.3, 8.3),
    "P4": (7.6, 4.3),
    "P5": (3.6, 2.8),
    "P6": (6.33, 4.60),
}
"""Gate and target of the mean over the lists of a group, P6 being all. The gates are what others reached."""

UNALLOCATED = Figure(key="unallocated_pct", head="unallocated %", less_is_better=True)


def files(case: Case) -> tuple[Path, ...]:
    """Return the files that a run reads: nodes, pods and, where its order was published, the orders of arrival."""
    orders = openbdata.file(openbdata.ARRIVALS)
    lists = (openbdata.file(openbdata.NODE_LIST), openbdata.pod_list(case.scenario))
    return (*lists, orders) if case.seed in _recorded(orders).get(case.scenario, ()) else lists


def run(case: Case, nodes: Path, pods: Path, arrivals: Path | None = None) -> dict[str, float]:
    """Return the figures of one run: `case.seed` is the seed of the published order, or one to draw an order from."""
    spec = FillSpec(nodes=nodes, pods=pods, arrivals=arrivals, policy=case.policy, seed=case.seed)
    result = run_fill(spec)
    assert result.unallocated_pct_at_100 is not None, "demand rises by small steps on this cluster"
    assert result.unallocated_pct_at_130 is not None
    return {
        UNALLOCATED.key: result.unallocated_pct_at_100,
        "unallocated_130_pct": result.unallocated_pct_at_130,
        "failed": float(result.failed),
    }


@cache
def _recorded(orders: Path) -> dict[str, tuple[int, ...]]:
    return available(orders)


def rivals(main: Figure, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Return the best published policy."""
    return [(main.key, best(main, (line for line in lines if line.policy not in OWN)))]


def gates(runs: Sequence[Run]) -> list[Verdict]:
    """Return the gates of the groups that were run whole, and how often ours left less than the baseline."""
    values = {
        policy: {(run.case.scenario, run.case.seed): run.figures[UNALLOCATED.key] for run in runs_of}
        for policy, runs_of in _by_policy(runs).items()
    }
    ours, theirs = values.get(OURS, {}), values.get(BASELINE, {})
    found = []
    for name, (gate, target) in UNALLOCATED_AT_MOST.items():
        lists = GROUPS.get(name, LISTS)
        seeds = sorted({seed for _, seed in ours})
        if not ours or any((scenario, seed) not in ours for scenario in lists for seed in seeds):
            continue
        # Averaged over the lists seed by seed, so that the error is one over seeds.
        mean = mean_of(mean_of(ours[scenario, seed] for scenario in lists).mean for seed in seeds)
        words = lists[0] if len(lists) == 1 else f"mean of {len(lists)} lists, {lists[0]} to {lists[-1]}"
        found.append(threshold("unallocated % at most", f"{name} {words}", mean, gate, target, most=True, digits=3))
    pairs = ours.keys() & theirs.keys()
    if pairs:
        wins = mean_of([float(sum(ours[pair] < theirs[pair] for pair in pairs))])
        gate_text = f"runs that leave less than {BASELINE}'s, at least"
        found.append(threshold(gate_text, f"P6 {len(pairs)} runs", wins, float(len(pairs)), digits=0))
    return found


def _by_policy(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for by_policy in grouped(runs).values():
        for policy, those in by_policy.items():
            found.setdefault(policy, []).extend(those)
    return found


def draw(cells: Sequence[Sequence[Line]]) -> list[Drawing]:
    """Return all lists in one drawing, a mark per policy."""
    from simulator.quality.figures import marks

    caption = "GPUs that nobody gets when demand has reached 100 % of the cluster, per pod list; less is better."
    return [marks(cells, UNALLOCATED, "unallocated at 100 % arrived, % of GPUs", caption)]


FILL = Suite(
    name="P",
    title="P: filling a cluster (FGD, openb)",
    method="Pods of a list arrive one by one in the recorded orders of the published runs (seeds 42 to 51), each is "
    "tried once and stays; what counts is the share of GPUs that nobody has when as much is asked for as there is. "
    "Among equal nodes the recorded order of that seed decides.",
    scenarios=LISTS,
    policies=(*PEERS, *OWN),
    seeds=range(42, 52),
    figures=(
        UNALLOCATED,
        Figure(key="unallocated_130_pct", head="at 130 % arrived", less_is_better=True),
        Figure(key="failed", head="pods refused", digits=1, less_is_better=True),
    ),
    run=run,
    rivals=rivals,
    gates=gates,
    draw=draw,
    files=files,
)
