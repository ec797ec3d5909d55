"""The link graph: islands, rates, who leaves it, NUMA and network cards."""

from __future__ import annotations

import pytest

from topology import catalog
from topology.errors import InvalidInputError
from topology.links import link_graph, link_matrix, numa_groups, nvlink_islands
from topology.nics import nearest_nics


@pytest.mark.parametrize(
    ("machine", "islands"),
    [
        ("summit-ac922", ((0, 1, 2), (3, 4, 5))),
        ("dgx1-v100", (tuple(range(8)),)),
        ("dgx2-v100", (tuple(range(16)),)),
        ("rtx8000-4-nvlink-pairs", ((0, 3), (1, 2))),
        ("mixed-a100-sxm-pcie", ((0, 1), (2,), (3,))),
        ("t4-4-pcie", ((0,), (1,), (2,), (3,))),
    ],
)
def test_islands_are_what_nvlink_joins(machine: str, islands: tuple[tuple[int, ...], ...]) -> None:
    assert nvlink_islands(link_graph(catalog.machine(machine))) == islands


def test_a_gpu_in_mig_mode_or_unhealthy_leaves_the_graph() -> None:
    machine = catalog.machine("summit-ac922")
    graph = link_graph(machine, without=frozenset({1, 4}))
    assert nvlink_islands(graph) == ((0, 2), (3, 5))
    matrix = link_matrix(graph, 6)
    assert not matrix[1].any()
    assert not matrix[:, 4].any()
    with pytest.raises(InvalidInputError, match="GPU 6"):
        link_graph(machine, without=frozenset({6}))


def test_switch_links_are_marked_as_shared() -> None:
    switched = link_graph(catalog.machine("hgx-h100-8"))
    assert switched.edges[0, 7, "nvlink"] == {"links": 18, "mbps": 450_000, "shared": True}
    wired = link_graph(catalog.machine("dgx1-v100"))
    assert wired.edges[0, 3, "nvlink"]["shared"] is False
    assert wired.edges[0, 3, "pcie"] == {"level": "PHB", "mbps": 10_200}
    assert not wired.has_edge(0, 5, "nvlink")


def test_the_matrix_holds_the_better_of_nvlink_and_pcie() -> None:
    matrix = link_matrix(link_graph(catalog.machine("dgx1-v100")), 8)
    assert (matrix == matrix.T).all()
    assert (matrix[0] == [0, 25_000, 25_000, 50_000, 50_000, 6_000, 6_000, 6_000]).all()


def test_numa_order_need_not_follow_the_index() -> None:
    assert numa_groups(catalog.machine("dgx-a100-40")) == {1: (2, 3), 3: (0, 1), 5: (6, 7), 7: (4, 5)}


def test_nearest_network_cards() -> None:
    assert nearest_nics(catalog.machine("dgx1-v100"), 2).names == ("mlx5_1",)
    assert nearest_nics(catalog.machine("dgx1-v100"), 2).level == "PIX"
    assert nearest_nics(catalog.machine("t4-4-pcie"), 0).names == ()
