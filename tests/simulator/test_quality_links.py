"""Suite L: how peers choose sets, how sets are judged, and that every allocator plays by the same rules."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from simulator.quality.arrivals import Arrivals
from simulator.quality.churn import Allocator, Spot, churn
from simulator.quality.linkclusters import LinkCluster, judge_links, link_arrivals, link_cluster
from simulator.quality.linksets import best_of_partition, best_pair_sum, lowest_indices, pair_scores, pair_sums
from simulator.quality.linksuite import LINKS, link_allocator
from simulator.quality.suite import OURS
from topology.catalog import machine

ALL = 0xFF


def mask(*gpus: int) -> int:
    return sum(1 << gpu for gpu in gpus)


class Checked:
    """An allocator whose every answer is checked: the GPUs are free, of one node, and as many as asked for."""

    def __init__(self, inner: Allocator, cluster: LinkCluster) -> None:
        self.inner = inner
        self.free = [(1 << item.gpu_count) - 1 for item in cluster.machines]
        self.held: dict[int, Spot] = {}

    def take(self, job: int, kind: int) -> Spot | None:
        spot = self.inner.take(job, kind)
        if spot is None:
            assert all(free.bit_count() < kind for free in self.free), "no job that fits is refused"
            return None
        node, gpus = spot
        assert gpus.bit_count() == kind
        assert gpus & ~self.free[node] == 0
        self.free[node] &= ~gpus
        self.held[job] = spot
        return spot

    def release(self, job: int) -> None:
        node, gpus = self.held.pop(job)
        self.free[node] |= gpus
        self.inner.release(job)


@pytest.mark.parametrize("policy", LINKS.policies)
@pytest.mark.parametrize("name", ["a", "d"])
def test_every_allocator_takes_what_is_free_and_refuses_only_what_does_not_fit(policy: str, name: str) -> None:
    cluster = link_cluster(name)
    arrivals = link_arrivals(cluster, 1.3, 4, 700)
    spots = churn(Checked(link_allocator(cluster, policy, 4), cluster), arrivals)
    figures = judge_links(cluster, arrivals, spots, 100)
    assert all(0 <= value <= 100 for value in figures.values())
    assert figures["worst_pct"] <= figures["ratio_pct"]


def test_pair_scores_are_those_of_go_gpuallocator() -> None:
    score = pair_scores(machine("dgx1-v100"))
    # Volta's cube mesh: 0-3 two links inside a socket, 0-1 one link, 0-5 none and across sockets.
    assert (score[0, 3], score[0, 1], score[0, 5]) == (230, 150, 10)
    sums = pair_sums(score)
    assert all(
        sums[mask(*gpus)] == sum(score[i, j] for i, j in combinations(gpus, 2)) for gpus in [(0, 3, 4), (1, 2, 5, 7)]
    )


def test_set_choosers_on_a_known_machine() -> None:
    item = machine("dgx1-v100")
    assert lowest_indices(item)(0b11110110, 3) == mask(1, 2, 4)
    # Two links and one PCIe switch: the best pair, and it comes before {6, 7}.
    assert best_pair_sum(item)(ALL, 2) == mask(2, 3)
    assert best_pair_sum(item)(mask(0, 1, 5), 2) == mask(1, 5)
    assert best_of_partition(item)(mask(0, 3, 5, 6), 2) in (mask(0, 3), mask(5, 6))


@pytest.mark.parametrize("free", [mask(0, 1, 2, 3, 5, 6), mask(0, 2, 3, 4, 7), ALL])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_best_partition_is_that_of_a_full_search(free: int, k: int) -> None:
    sums = pair_sums(pair_scores(machine("dgx1-v100")))
    gpus = [gpu for gpu in range(8) if free >> gpu & 1]

    def totals(left: tuple[int, ...], padding: int) -> list[tuple[int, tuple[int, ...]]]:
        if not left:
            return [(0, ())]
        found = []
        for size in {k, k - padding}:
            for part in combinations(left, size):
                if left[0] in part:
                    rest = tuple(gpu for gpu in left if gpu not in part)
                    for total, sets in totals(rest, padding if size == k else 0):
                        if size == k or padding:
                            found.append((total + sums[mask(*part)], (mask(*part), *sets)))
        return found

    every = totals(tuple(gpus), -len(gpus) % k)
    best = max(total for total, _ in every)
    chosen = best_of_partition(machine("dgx1-v100"))(free, k)
    assert chosen.bit_count() == k
    assert any(chosen in sets for total, sets in every if total == best)


def test_a_set_is_judged_by_the_best_machine_with_its_product() -> None:
    # Cluster d has A100-SXM4-40GB on NVSwitch (p4d) and on four bridged GPUs (Polaris): one product, one ideal.
    cluster = link_cluster("d")
    kinds = [item.id for item in cluster.machines]
    polaris, p4d = (cluster.ratio[kinds.index(kind)] for kind in ("polaris-a100-4gpu", "aws-p4d-24xlarge"))
    assert p4d[mask(0, 1)] == 1.0
    assert polaris[mask(0, 1)] < 1.0
    alone = link_cluster("a").ratio[0]
    assert alone[mask(0, 3)] == 1.0
    assert alone[mask(0, 5)] < alone[mask(0, 1)] < 1.0


def test_figures_of_a_run_written_out() -> None:
    cluster = link_cluster("a")
    arrivals = Arrivals(time=np.arange(4.0), kind=np.array([2, 2, 1, 4]), life=np.array([1.0, 2.0, 3.0, 4.0]))
    figures = judge_links(cluster, arrivals, [(0, mask(0, 3)), (1, mask(0, 1)), None, (2, mask(0, 1, 2, 3))], 0)
    assert figures["ideal_pct"] == pytest.approx(200 / 3)
    assert figures["accepted_pct"] == pytest.approx(100 * (2 + 4 + 16) / (2 + 4 + 3 + 16))
    assert figures["ratio_pct"] == pytest.approx(100 * (1 + 0.5 + 1) / 3)
    assert figures["worst_pct"] == pytest.approx(50.0)


def test_nobody_waits_and_a_departure_makes_room_for_the_arrival_of_the_same_instant() -> None:
    cluster = link_cluster("a")
    full = Arrivals(
        time=np.array([*[0.0] * 50, 0.5, 1.0]), kind=np.full(52, 8), life=np.array([*[2.0] * 49, 1.0, 1.0, 1.0])
    )
    spots = churn(link_allocator(cluster, "first-fit", 0), full)
    assert spots[50] is None
    assert spots[51] == (49, ALL)


def test_a_dragged_out_product_policy_leaves_no_trace() -> None:
    cluster = link_cluster("a")
    ours = link_allocator(cluster, OURS, 0)
    first = ours.take(0, 4)
    ours.release(0)
    assert ours.take(1, 4) == first
