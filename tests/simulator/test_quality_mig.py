"""Suites M1 to M3: the tables of the peers, the optimum, and that every allocator plays by the same rules."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from simulator.quality.arrivals import filling_requests, request_list
from simulator.quality.churn import Spot, churn, fill
from simulator.quality.migcluster import (
    COMPUTE,
    MIXES,
    PROFILES,
    compute_of,
    geometry,
    gpus_used,
    judge_churn,
    judge_fill,
    slots,
)
from simulator.quality.migoptimum import fewest_gpus, maximal_counts, most_compute
from simulator.quality.migpeers import unusable_slices
from simulator.quality.migsuites import DYNAMIC, OPENED, STATIC, mig_allocator
from simulator.quality.suite import OURS
from topology.mig import legal, occupation, place

KIND = {name: at for at, name in enumerate(PROFILES)}


def check_legal(kinds: list[int], spots: list[Spot | None]) -> None:
    """Replay with the rules of `topology.mig`, which keep no tables; what fitted nowhere was rightly refused."""
    empty = occupation(geometry(), [])
    state: dict[int, object] = {}
    for kind, spot in zip(kinds, spots, strict=True):
        if spot is not None:
            gpu, start = spot
            state[gpu] = place(geometry(), state.get(gpu, empty), geometry().profile(PROFILES[kind]), start)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", STATIC.policies)
@pytest.mark.parametrize("mix", MIXES)
def test_every_allocator_places_legally_and_none_beats_the_optimum(policy: str, mix: str) -> None:
    kinds = filling_requests(9, compute=COMPUTE, shares=MIXES[mix], slices=70)
    spots = fill(mig_allocator(10, mix, policy, 9), kinds)
    check_legal(kinds.tolist(), spots)
    served = judge_fill(kinds, spots)["served_pct"]
    assert served <= 100 * most_compute(kinds, 10) / compute_of(kinds).sum() + 1e-9


@pytest.mark.parametrize("policy", OPENED.policies)
def test_no_allocator_needs_fewer_gpus_than_the_optimum(policy: str) -> None:
    kinds = request_list(1, shares=MIXES["uniform"], count=40)
    spots = fill(mig_allocator(40, "uniform", policy, 1), kinds)
    check_legal(kinds.tolist(), spots)
    assert gpus_used(spots) >= fewest_gpus(kinds)


@pytest.mark.parametrize("policy", DYNAMIC.policies)
def test_slices_are_given_back(policy: str) -> None:
    allocator = mig_allocator(2, "bimodal", policy, 3)
    for job in range(40):
        assert allocator.take(job, KIND["7g.80gb"]) is not None
        assert allocator.take(100 + job, KIND["3g.40gb"]) is not None
        allocator.release(job)
        allocator.release(100 + job)


def test_there_are_38_maximal_profile_counts() -> None:
    counts = maximal_counts()
    assert counts.shape == (38, 6)
    assert (0, 0, 0, 0, 0, 1) in {tuple(row) for row in counts.tolist()}
    assert max(row[0] for row in counts.tolist()) == 7


def test_the_optimum_is_that_of_trying_everything() -> None:
    kinds = np.array([KIND["4g.40gb"], KIND["3g.40gb"], KIND["3g.40gb"], KIND["1g.10gb"], KIND["2g.20gb"]])
    best = 0
    for where in product((-1, 0, 1), repeat=len(kinds)):
        load = [[int(k) for k, g in zip(kinds, where, strict=True) if g == gpu] for gpu in (0, 1)]
        if all(fits(tuple(one)) for one in load):
            best = max(best, sum(COMPUTE[k] for one in load for k in one))
    assert most_compute(kinds, 2) == best
    assert fewest_gpus(kinds) == 2


def fits(kinds: tuple[int, ...], mask: int = 0) -> bool:
    if not kinds:
        return True
    starts = slots().free_starts(mask, kinds[0])
    return any(fits(kinds[1:], slots().after(mask, kinds[0], start)) for start in starts)


def test_tables_of_the_six_profiles_agree_with_the_geometry() -> None:
    for kind, name in enumerate(PROFILES):
        profile = geometry().profile(name)
        taken = slots().after(0, KIND["2g.20gb"], 2)
        free = [s for s in profile.starts if legal(geometry(), occupation(geometry(), [("2g.20gb", 2)]), profile, s)]
        assert slots().free_starts(taken, kind) == sorted(free)
        assert slots().fits[kind, taken] == len(free)


def test_unusable_slices_written_out() -> None:
    shares = (0.5, 0.0, 0.0, 0.0, 0.0, 0.5)
    score = unusable_slices(shares)
    # Empty: seven 1g use 7 of 8 slices, one 7g uses all. With slice 0 taken: six 1g use 6 of 7, 7g none.
    assert score[0] == pytest.approx(0.5 * 1 + 0.5 * 0)
    assert score[1] == pytest.approx(0.5 * 1 + 0.5 * 7)


def test_judges_count_compute() -> None:
    kinds = np.array([KIND["7g.80gb"], KIND["1g.10gb"], KIND["2g.20gb"]])
    assert judge_fill(kinds, [(0, 0), None, (1, 0)])["served_pct"] == pytest.approx(90.0)


def test_policies_of_the_product_know_the_mix_only() -> None:
    """A history of the same shares in another order gives the same placements."""
    from simulator.quality.ourmig import OurPartitions

    kinds = filling_requests(2, compute=COMPUTE, shares=MIXES["small"], slices=70)
    assert fill(OurPartitions(10, MIXES["small"]), kinds) == fill(
        OurPartitions(10, list(MIXES["small"]), OURS, 5), kinds
    )


def test_churn_of_a_small_cluster_accepts_less_at_higher_load() -> None:
    from simulator.quality.arrivals import partition_arrivals

    accepted = []
    for load in (0.5, 2.0):
        arrivals = partition_arrivals(1, compute=COMPUTE, shares=MIXES["big"], slices=70, load=load, count=800)
        spots = churn(mig_allocator(10, "big", "best-fit", 1), arrivals)
        accepted.append(judge_churn(arrivals, spots, 100)["accepted_pct"])
    assert accepted[0] > accepted[1]
