"""The runs of the suites: what each is, and running one. A case is all a run depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packing.policy import DEFAULT_POLICY
from simulator.quality import linkclusters, migcluster
from simulator.quality.arrivals import filling_requests, partition_arrivals, request_list
from simulator.quality.churn import Allocator, churn, fill
from simulator.quality.linkpeers import LINK_PEERS
from simulator.quality.migcluster import COMPUTE, GPUS, MIXES, SLICES_PER_GPU
from simulator.quality.migpeers import MIG_PEERS, SPREADING

SUITES = ("L", "M1", "M2", "M3")
OURS = DEFAULT_POLICY
SEEDS = {"L": 20, "M1": 20, "M2": 6, "M3": 20}
"""Runs per cell in the published protocol: numbered from 0."""
DIGITS = 6
"""Digits kept of a figure: more than means and differences show, few enough to compare files of two machines."""

LINK_DROPPED_PER_ARRIVAL = linkclusters.DROPPED / linkclusters.ARRIVALS
MIG_DROPPED_PER_ARRIVAL = migcluster.DYNAMIC_DROPPED / migcluster.DYNAMIC_ARRIVALS


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run. `scenario` is a cluster (L) or a mix (M); `load` is 0 where nothing leaves.

    `seed` is the number of the run; the suite says which seed of the generator it stands for. `arrivals` 0 is the full
    count of the protocol.
    """

    suite: str
    scenario: str
    load: float
    policy: str
    seed: int
    arrivals: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The figures of one case, by name (units end the name)."""

    case: Case
    figures: dict[str, float]


def plan(suites: Sequence[str], seeds: int = 0, *, first_seed: int = 0, arrivals: int = 0) -> tuple[Case, ...]:
    """Return all cases of `suites`, `seeds` runs per cell (0: as the protocol says), in the order of the tables."""
    return tuple(
        Case(suite=suite, scenario=scenario, load=load, policy=policy, seed=seed, arrivals=arrivals)
        for suite in suites
        for scenario in scenarios(suite)
        for load in loads(suite)
        for policy in policies(suite)
        for seed in range(first_seed, first_seed + (seeds or SEEDS[suite]))
    )


def scenarios(suite: str) -> tuple[str, ...]:
    """Return the clusters or mixes of a suite."""
    return tuple(linkclusters.CLUSTERS if suite == "L" else MIXES)


def loads(suite: str) -> tuple[float, ...]:
    """Return the offered loads of a suite."""
    return {"L": linkclusters.LOADS, "M2": migcluster.DYNAMIC_LOADS}.get(suite, (0.0,))


def policies(suite: str) -> tuple[str, ...]:
    """Return peers and ours, in the order of the tables."""
    if suite == "L":
        return (*LINK_PEERS, OURS)
    return (*(name for name in MIG_PEERS if suite != "M3" or name not in SPREADING), OURS)


def run_case(case: Case) -> Run:
    """Run one case. The same case gives the same figures on every machine."""
    figures = _RUNNERS[case.suite](case)
    return Run(case=case, figures={name: round(value, DIGITS) for name, value in figures.items()})


def link_allocator(cluster: linkclusters.LinkCluster, policy: str, seed: int) -> Allocator:
    """Return a peer by its name, else a policy of the product."""
    if policy in LINK_PEERS:
        return LINK_PEERS[policy](cluster, seed)
    from simulator.quality.ourlinks import OurLinks

    return OurLinks(cluster, policy, seed)


def mig_allocator(gpus: int, mix: str, policy: str, seed: int) -> Allocator:
    """Return a peer by its name, else a policy of the product."""
    if policy in MIG_PEERS:
        return MIG_PEERS[policy](gpus, MIXES[mix], seed)
    from simulator.quality.ourmig import OurPartitions

    return OurPartitions(gpus, MIXES[mix], policy, seed)


def _links(case: Case) -> dict[str, float]:
    cluster = linkclusters.link_cluster(case.scenario)
    count = case.arrivals or linkclusters.ARRIVALS
    arrivals = linkclusters.link_arrivals(cluster, case.load, case.seed, count)
    spots = churn(link_allocator(cluster, case.policy, case.seed), arrivals)
    return linkclusters.judge_links(cluster, arrivals, spots, round(count * LINK_DROPPED_PER_ARRIVAL))


def _static(case: Case) -> dict[str, float]:
    from simulator.quality.migoptimum import most_compute

    kinds = filling_requests(case.seed, compute=COMPUTE, shares=MIXES[case.scenario], slices=GPUS * SLICES_PER_GPU)
    spots = fill(mig_allocator(GPUS, case.scenario, case.policy, case.seed), kinds)
    optimum = 100 * most_compute(kinds, GPUS) / float(migcluster.compute_of(kinds).sum())
    return migcluster.judge_fill(kinds, spots) | {"optimum_pct": optimum}


def _dynamic(case: Case) -> dict[str, float]:
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
    return migcluster.judge_churn(arrivals, spots, round(count * MIG_DROPPED_PER_ARRIVAL))


def _opened(case: Case) -> dict[str, float]:
    from simulator.quality.migoptimum import fewest_gpus

    count = case.arrivals or migcluster.REQUESTS
    seed = migcluster.REQUESTS_SEED_BASE + case.seed
    kinds = request_list(seed, shares=MIXES[case.scenario], count=count)
    used = migcluster.gpus_used(fill(mig_allocator(count, case.scenario, case.policy, case.seed), kinds))
    optimum = fewest_gpus(kinds)
    return {"gpus_ratio": used / optimum, "gpus": float(used), "optimum_gpus": float(optimum)}


_RUNNERS: dict[str, Callable[[Case], dict[str, float]]] = {
    "L": _links,
    "M1": _static,
    "M2": _dynamic,
    "M3": _opened,
}
