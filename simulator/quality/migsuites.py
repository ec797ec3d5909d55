"""Suites M1 to M3: MIG partitions that fill GPUs, come and go, or open as few GPUs as they can (`migcluster`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.quality import migcluster
from simulator.quality.arrivals import filling_requests, partition_arrivals, request_list
from simulator.quality.churn import Allocator, churn, fill
from simulator.quality.lines import Line, best, grouped
from simulator.quality.migcluster import COMPUTE, GPUS, MIXES, SLICES_PER_GPU
from simulator.quality.migpeers import MIG_PEERS, SPREADING
from simulator.quality.runs import DIGITS, Case, Figure, Run, cell_text
from simulator.quality.suite import OURS, Suite
from simulator.quality.verdict import Verdict, at_least, compared, mean_figure, reached

if TYPE_CHECKING:
    from simulator.report.svg import Drawing

PACKING_PEER = "best-fit"
RIVALS = (PACKING_PEER, "fgd-mig")
"""Peers that compute is held against: the better of them in each cell."""
GPUS_SAVED_TARGET = 0.005
"""Suite M3: GPUs over the optimum, best-fit's less ours."""
DROPPED_PER_ARRIVAL = migcluster.DYNAMIC_DROPPED / migcluster.DYNAMIC_ARRIVALS

METHOD = (
    "100 A100 80GB in MIG mode, one per node; six profiles. M1 fills until all compute is asked for, M2 has requests "
    "come and go, M3 counts the GPUs that 500 requests open; optima are those of an integer program that knows all "
    "requests."
)


def mig_allocator(gpus: int, mix: str, policy: str, seed: int) -> Allocator:
    """Return a peer by its name, else a policy of the product."""
    if policy in MIG_PEERS:
        return MIG_PEERS[policy](gpus, MIXES[mix], seed)
    from simulator.quality.ourmig import OurPartitions

    return OurPartitions(gpus, MIXES[mix], policy, seed)


def run_static(case: Case) -> dict[str, float]:
    """Return the figures of one run of M1."""
    from simulator.quality.migoptimum import most_compute

    kinds = filling_requests(case.seed, compute=COMPUTE, shares=MIXES[case.scenario], slices=GPUS * SLICES_PER_GPU)
    spots = fill(mig_allocator(GPUS, case.scenario, case.policy, case.seed), kinds)
    optimum = 100 * most_compute(kinds, GPUS) / float(migcluster.compute_of(kinds).sum())
    return migcluster.judge_fill(kinds, spots) | {"optimum_pct": optimum}


def run_dynamic(case: Case) -> dict[str, float]:
    """Return the figures of one run of M2."""
    count = case.arrivals or migcluster.DYNAMIC_ARRIVALS
    arrivals = partition_arrivals(
        migcluster.DYNAMIC_SEED_BASE + case.seed,
        compute=COMPUTE,
        shares=MIXES[case.scenario],
        slices=GPUS * SLICES_PER_GPU,
        load=case.load,
        count=count,
    )
    spots = churn(mig_allocator(GPUS, case.scenario, case.policy, case.seed), arrivals)
    return migcluster.judge_churn(arrivals, spots, round(count * DROPPED_PER_ARRIVAL))


def run_opened(case: Case) -> dict[str, float]:
    """Return the figures of one run of M3."""
    from simulator.quality.migoptimum import fewest_gpus

    count = case.arrivals or migcluster.REQUESTS
    seed = migcluster.REQUESTS_SEED_BASE + case.seed
    kinds = request_list(seed, shares=MIXES[case.scenario], count=count)
    used = migcluster.gpus_used(fill(mig_allocator(count, case.scenario, case.policy, case.seed), kinds))
    optimum = fewest_gpus(kinds)
    return {"gpus_ratio": used / optimum, "gpus": float(used), "optimum_gpus": float(optimum)}


def rivals(main: Figure, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Return the best peer."""
    return [(main.key, best(main, (line for line in lines if line.policy != OURS)))]


def compute_gates(figure: str) -> Callable[[Sequence[Run]], list[Verdict]]:
    """Return the gates on compute: in each cell at least that of the better of the peers named.

    The target is the best of all peers of the cell, told as what it has more than the peer of the gate.
    """

    def mean(runs: Sequence[Run]) -> float:
        return mean_figure(figure, runs).mean

    def gates(runs: Sequence[Run]) -> list[Verdict]:
        found = []
        for cell, by_policy in grouped(runs).items():
            ours = by_policy.get(OURS, ())
            peers = [theirs for policy, theirs in by_policy.items() if policy != OURS]
            named = [by_policy[peer] for peer in RIVALS if peer in by_policy]
            if not named:
                continue
            rival, best_peer = max(named, key=mean), max(peers, key=mean)
            value, most = compared(figure, ours, rival), compared(figure, ours, best_peer)
            if value is None or most is None:
                continue
            gate = f"compute % less {rival[0].case.policy}'s at least (target: {best_peer[0].case.policy}'s)"
            ahead = round(value.mean - most.mean, DIGITS)
            verdict = at_least(gate, cell_text(cell), value, 0.0, ahead)
            # What is noise against the best peer, the pairs with that peer say.
            found.append(replace(verdict, target_reached=reached(most, 0.0)))
        return found

    return gates


def opened_gates(runs: Sequence[Run]) -> list[Verdict]:
    """Return the gates of M3: no more GPUs than best-fit opens, in each mix."""
    found = []
    for cell, by_policy in grouped(runs).items():
        value = compared("gpus_ratio", by_policy.get(PACKING_PEER, ()), by_policy.get(OURS, ()))
        if value is not None:
            gate = f"GPUs/optimum saved against {PACKING_PEER}, at least"
            found.append(at_least(gate, cell_text(cell), value, 0.0, GPUS_SAVED_TARGET, digits=4))
    return found


def bars_of(figure: Figure, axis: str) -> Callable[[Sequence[Sequence[Line]]], list[Drawing]]:
    """Return what draws a bar per policy for each cell."""

    def draw(cells: Sequence[Sequence[Line]]) -> list[Drawing]:
        from simulator.quality.figures import bars

        return [bars(lines, figure, axis, f"mix {lines[0].scenario}") for lines in cells]

    return draw


SERVED = Figure(key="served_pct", head="served %")
ACCEPTED = Figure(key="accepted_pct", head="accepted %")
RATIO = Figure(key="gpus_ratio", head="GPUs / optimum", digits=4, less_is_better=True)

STATIC = Suite(
    name="M1",
    title="M1: MIG, filling 100 GPUs",
    method=METHOD,
    scenarios=tuple(MIXES),
    policies=(*MIG_PEERS, OURS),
    seeds=range(20),
    figures=(SERVED, Figure(key="optimum_pct", head="optimum %")),
    run=run_static,
    rivals=rivals,
    gates=compute_gates(SERVED.key),
    draw=bars_of(SERVED, "compute served, % of asked"),
)
DYNAMIC = Suite(
    name="M2",
    title="M2: MIG, requests that come and go",
    method=METHOD,
    scenarios=tuple(MIXES),
    loads=migcluster.DYNAMIC_LOADS,
    policies=(*MIG_PEERS, OURS),
    seeds=range(6),
    figures=(ACCEPTED, Figure(key="requests_pct", head="requests %")),
    run=run_dynamic,
    rivals=rivals,
    gates=compute_gates(ACCEPTED.key),
    draw=bars_of(ACCEPTED, "compute accepted, % of offered"),
)
OPENED = Suite(
    name="M3",
    title="M3: MIG, GPUs for 500 requests",
    method=METHOD,
    scenarios=tuple(MIXES),
    policies=(*(name for name in MIG_PEERS if name not in SPREADING), OURS),
    seeds=range(20),
    figures=(RATIO, Figure(key="gpus", head="GPUs"), Figure(key="optimum_gpus", head="optimum")),
    run=run_opened,
    rivals=rivals,
    gates=opened_gates,
    draw=bars_of(RATIO, "GPUs opened over the optimum (less is better)"),
)
