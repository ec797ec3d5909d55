"""Suite L: links of multi-GPU jobs under churn, on four clusters (`linkclusters`), against `linkpeers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simulator.quality import linkclusters
from simulator.quality.churn import Allocator, churn
from simulator.quality.lines import Line, best, grouped
from simulator.quality.linkpeers import LINK_PEERS
from simulator.quality.runs import Case, Figure, Run, cell_text
from simulator.quality.suite import OURS, Suite
from simulator.quality.verdict import Verdict, at_least, compared, mean_figure, threshold

if TYPE_CHECKING:
    from simulator.report.svg import Drawing

PACKING_PEER = "most-used"
"""The peer that packs best; accepted work is compared with it."""
PEER_SLACK_PCT = 1.0
"""A peer that accepts less than most-used by more than this is no rival: quality bought with refusals."""
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
DROPPED_PER_ARRIVAL = linkclusters.DROPPED / linkclusters.ARRIVALS


def run(case: Case) -> dict[str, float]:
    """Return the figures of one run."""
    cluster = linkclusters.link_cluster(case.scenario)
    count = case.arrivals or linkclusters.ARRIVALS
    arrivals = linkclusters.link_arrivals(cluster, case.load, case.seed, count)
    spots = churn(link_allocator(cluster, case.policy, case.seed), arrivals)
    return linkclusters.judge_links(cluster, arrivals, spots, round(count * DROPPED_PER_ARRIVAL))


def link_allocator(cluster: linkclusters.LinkCluster, policy: str, seed: int) -> Allocator:
    """Return a peer by its name, else a policy of the product."""
    if policy in LINK_PEERS:
        return LINK_PEERS[policy](cluster, seed)
    from simulator.quality.ourlinks import OurLinks

    return OurLinks(cluster, policy, seed)


def rivals(main: Figure, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Return the best peer that does not buy its links with refusals, and the one that packs best."""
    peers = [line for line in lines if line.policy != OURS]
    packed = next((line.figures["accepted_pct"].mean for line in peers if line.policy == PACKING_PEER), None)
    if packed is not None:
        peers = [line for line in peers if line.figures["accepted_pct"].mean >= packed - PEER_SLACK_PCT]
    return [(main.key, best(main, peers)), ("accepted_pct", PACKING_PEER)]


def gates(runs: Sequence[Run]) -> list[Verdict]:
    """Return the gates: ideal % against thresholds, accepted work against the peer that packs best."""
    cells = grouped(runs)
    found = []
    for (cluster, load), (gate, target) in IDEAL.items():
        cell = ("L", cluster, load)
        if ours := cells.get(cell, {}).get(OURS):
            ideal = mean_figure("ideal_pct", ours)
            found.append(threshold("ideal % at least", cell_text(cell), ideal, gate, target))
    for cluster, load in ACCEPTED_CELLS:
        cell = ("L", cluster, load)
        by_policy = cells.get(cell, {})
        if value := compared("accepted_pct", by_policy.get(OURS, ()), by_policy.get(PACKING_PEER, ())):
            gate_text = f"accepted % less {PACKING_PEER}'s at least"
            found.append(at_least(gate_text, cell_text(cell), value, ACCEPTED_AT_LEAST_PCT[cluster]))
    return found


def draw(cells: Sequence[Sequence[Line]]) -> list[Drawing]:
    """Return a drawing per cell: links against work accepted."""
    from simulator.quality.figures import trade

    return [trade(lines) for lines in cells]


LINKS = Suite(
    name="L",
    title="L: links of multi-GPU jobs",
    method="Poisson arrivals of jobs of 1, 2, 4 and 8 GPUs, exponential lifetimes, tried once and dropped. A set is "
    "ideal where its all-rings quality equals that of the best set of its size on any empty machine of the cluster "
    "with the same product.",
    scenarios=tuple(linkclusters.CLUSTERS),
    loads=linkclusters.LOADS,
    policies=(*LINK_PEERS, OURS),
    seeds=range(20),
    figures=(
        Figure(key="ideal_pct", head="ideal %"),
        Figure(key="ratio_pct", head="quality %"),
        Figure(key="worst_pct", head="worst 5 %"),
        Figure(key="accepted_pct", head="accepted %"),
    ),
    run=run,
    rivals=rivals,
    gates=gates,
    draw=draw,
)
