"""The draws of the quality suites, pinned: order, seeds and scales are part of the published protocol."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.quality.arrivals import filling_requests, gang_arrivals, partition_arrivals, request_list
from simulator.quality.linkclusters import SHARES, SIZES, link_arrivals, link_cluster
from simulator.quality.migcluster import COMPUTE, MIXES


def test_suite_l_draws_gaps_then_sizes_then_lives() -> None:
    rng = np.random.default_rng(7)
    gaps, kinds, lives = rng.exponential(size=50), rng.choice([1, 2, 4, 8], 50, p=SHARES), rng.exponential(size=50)
    drawn = gang_arrivals(7, sizes=SIZES, shares=SHARES, gpus=400, load=0.85, count=50)
    rate = 0.85 * 400 / (1 * 0.45 + 2 * 0.25 + 4 * 0.2 + 8 * 0.1)
    assert drawn.time.tolist() == pytest.approx(np.cumsum(gaps / rate).tolist(), rel=1e-12)
    assert (drawn.kind == kinds).all()
    assert (drawn.life == lives).all()


def test_suites_of_their_first_seeds_are_these_numbers() -> None:
    gangs = link_arrivals(link_cluster("a"), 0.85, 0)
    assert gangs.time[:4].tolist() == pytest.approx([0.00509949, 0.01274647, 0.01289502, 0.01291204], abs=1e-8)
    assert gangs.kind[:5].tolist() == [2, 8, 4, 1, 1]
    assert gangs.life[:3].tolist() == pytest.approx([1.46627929, 0.30467607, 1.26306555], abs=1e-8)
    even = MIXES["uniform"]
    churned = partition_arrivals(100, compute=COMPUTE, shares=even, slices=700, load=1.0, count=30_000)
    assert churned.time[:3].tolist() == pytest.approx([0.00019275, 0.0010275, 0.00435886], abs=1e-8)
    assert churned.kind[:6].tolist() == [5, 3, 1, 0, 5, 3]
    assert churned.life[:3].tolist() == pytest.approx([2.26926529, 1.05693661, 2.45168857], abs=1e-8)
    assert filling_requests(0, compute=COMPUTE, shares=even, slices=700)[:8].tolist() == [3, 1, 0, 0, 4, 5, 3, 4]
    assert request_list(1000, shares=even, count=500)[:8].tolist() == [3, 3, 2, 1, 3, 1, 1, 4]


def test_dynamic_mig_draws_profiles_then_lives_then_gaps() -> None:
    rng = np.random.default_rng(100)
    kinds, lives, gaps = rng.choice(6, 40, p=MIXES["big"]), rng.exponential(size=40), rng.exponential(size=40)
    drawn = partition_arrivals(100, compute=COMPUTE, shares=MIXES["big"], slices=700, load=1.0, count=40)
    mean = float(np.dot(COMPUTE, MIXES["big"]))
    assert (drawn.kind == kinds).all()
    assert (drawn.life == lives).all()
    assert drawn.time.tolist() == pytest.approx(np.cumsum(gaps * mean / 700).tolist(), rel=1e-12)


def test_static_mig_keeps_the_requests_before_the_cluster_is_asked_for() -> None:
    kinds = np.random.default_rng(3).choice(6, 2000, p=MIXES["small"])
    asked = np.cumsum(np.array(COMPUTE)[kinds])
    kept = filling_requests(3, compute=COMPUTE, shares=MIXES["small"], slices=700)
    assert kept.tolist() == kinds[: np.searchsorted(asked, 700)].tolist()
    assert asked[len(kept) - 1] < 700 <= asked[len(kept)]


def test_a_list_of_requests_is_the_head_of_a_longer_one() -> None:
    short, long = (request_list(5, shares=MIXES["uniform"], count=count) for count in (20, 500))
    assert short.tolist() == long[:20].tolist()


@pytest.mark.parametrize("mix", MIXES)
def test_shares_of_a_mix_add_up_to_one(mix: str) -> None:
    assert sum(MIXES[mix]) == pytest.approx(1.0)
