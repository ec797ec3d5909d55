"""Links between GPUs from the ends of links: wires counted, switches inferred and confirmed, nothing invented."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra_driver.discover.nvlinks import GpuLinks, gpu_links, usable_mbps
from dra_driver.nvml.api import GpuReading, MigReading
from tests.dra_driver.discover.readings import COMPLETED, address, reading, to_gpu, to_nowhere, to_switch
from topology.facts import FabricFacts


def rows(readings: Sequence[GpuReading]) -> list[tuple[int, ...]]:
    links, _ = gpu_links(readings)
    return [links[one.index].row for one in readings]


def peers(count: int, own: int, status: bool | None = True) -> tuple[bool | None, ...]:
    return tuple(None if peer == own else status for peer in range(count))


def test_wires_are_counted_pair_by_pair() -> None:
    found, notes = gpu_links(
        [
            reading(0, links=(*to_gpu(1, 2), *to_gpu(2))),
            reading(1, links=tuple(to_gpu(0, 2))),
            reading(2, links=tuple(to_gpu(0))),
        ]
    )
    assert [found[index].row for index in range(3)] == [(0, 2, 1), (2, 0, 0), (1, 0, 0)]
    assert [found[index].count for index in range(3)] == [3, 2, 1]
    assert not any(found[index].switched for index in range(3))
    assert notes == ()


def test_t28_ends_that_differ_get_the_fewer_links_and_a_note() -> None:
    """go-gpuallocator panics there, HAMi did (HAMi #2306)."""
    found, notes = gpu_links([reading(0, links=tuple(to_gpu(1, 12))), reading(1, links=tuple(to_gpu(0, 10)))])
    assert [found[index].row for index in range(2)] == [(0, 10), (10, 0)]
    assert len(notes) == 1
    assert "12 NVLinks to GPU 1, which has 10 back" in notes[0]


def test_t28_an_end_that_is_told_by_one_side_only_is_no_link() -> None:
    found, notes = gpu_links([reading(0, links=tuple(to_gpu(1, 4))), reading(1)])
    assert [found[index] for index in range(2)] == [GpuLinks(), GpuLinks()]
    assert len(notes) == 1


def test_links_into_switches_are_shared_by_all_peers() -> None:
    gpus = [reading(at, links=tuple(to_switch(12)), nvlink_peers=peers(4, at)) for at in range(4)]
    found, _ = gpu_links(gpus)
    assert found[2] == GpuLinks(count=12, mbps=25_000, row=(12, 12, 0, 12), switched=True)


def test_a_gpu_with_fewer_links_into_the_switches_is_the_measure_for_its_pairs() -> None:
    gpus = [reading(at, links=tuple(to_switch(10 if at == 1 else 12)), nvlink_peers=peers(3, at)) for at in range(3)]
    assert rows(gpus) == [(0, 10, 12), (10, 0, 10), (12, 10, 0)]


def test_switches_join_nothing_where_nvml_denies_it() -> None:
    """An A100 board without fabric manager: links are active, peers are not to be reached."""
    gpus = [reading(at, links=tuple(to_switch(12)), nvlink_peers=peers(2, at, status=False)) for at in range(2)]
    assert rows(gpus) == [(), ()]


@pytest.mark.parametrize(
    ("fabric", "joined"),
    [
        (FabricFacts(), True),
        (COMPLETED, True),
        (FabricFacts(state="in-progress"), False),
        (FabricFacts(state="not-started"), False),
        (FabricFacts(state="completed", status="Unknown Error"), False),
    ],
)
def test_switches_join_only_once_the_fabric_is_in_order(fabric: FabricFacts, joined: bool) -> None:
    gpus = [reading(at, links=tuple(to_switch(18)), nvlink_peers=peers(2, at), fabric=fabric) for at in range(2)]
    assert rows(gpus) == ([(0, 18), (18, 0)] if joined else [(), ()])


def test_gpus_of_different_cliques_are_not_joined_by_switches() -> None:
    """Partitions of one board, both in order."""
    other = msgspec.structs.replace(COMPLETED, clique_id=1)
    gpus = [reading(at, links=tuple(to_switch(18)), fabric=(COMPLETED, other)[at // 2]) for at in range(4)]
    assert rows(gpus) == [(0, 18, 0, 0), (18, 0, 0, 0), (0, 0, 0, 18), (0, 0, 18, 0)]


def test_unreadable_ends_join_only_those_that_nvml_calls_peers() -> None:
    """In a virtual machine bridged cards hide their far ends; a switch must not be invented for all four."""
    bridged = {0: 1, 1: 0, 2: 3, 3: 2}
    gpus = [
        reading(at, links=tuple(to_nowhere(12)), nvlink_peers=tuple(bridged[at] == peer for peer in range(4)))
        for at in range(4)
    ]
    found, _ = gpu_links(gpus)
    assert [found[at].row for at in range(4)] == [(0, 12, 0, 0), (12, 0, 0, 0), (0, 0, 0, 12), (0, 0, 12, 0)]
    assert not any(found[at].switched for at in range(4))


def test_unreadable_ends_that_join_all_are_those_of_switches() -> None:
    gpus = [reading(at, links=tuple(to_nowhere(12)), nvlink_peers=peers(4, at)) for at in range(4)]
    found, _ = gpu_links(gpus)
    assert all(found[at].switched and found[at].count == 12 for at in range(4))


def test_unreadable_ends_join_nothing_where_nvml_says_nothing() -> None:
    gpus = [reading(at, links=tuple(to_nowhere(12)), nvlink_peers=peers(2, at, status=None)) for at in range(2)]
    assert rows(gpus) == [(), ()]


def test_an_end_at_the_gpu_itself_is_unreadable() -> None:
    gpus = [reading(at, links=tuple(to_nowhere(4, "gpu", address(at))), nvlink_peers=(True, True)) for at in range(2)]
    assert rows(gpus) == [(0, 4), (4, 0)]


def test_an_end_at_a_gpu_that_is_not_here_is_no_link() -> None:
    """One that is lost, or that a virtual machine was not given."""
    gpus = [reading(at, links=tuple(to_gpu(7, 4)), nvlink_peers=(True, True)) for at in range(2)]
    assert rows(gpus) == [(), ()]


def test_without_kinds_of_ends_gpus_are_known_by_address_and_switches_by_what_is_confirmed() -> None:
    """nvmlDeviceGetNvLinkRemoteDeviceType is younger than NVLink."""
    wired = [reading(at, links=tuple(to_nowhere(2, "unknown", address(1 - at)))) for at in range(2)]
    assert rows(wired) == [(0, 2), (2, 0)]
    switched = [
        reading(at, links=tuple(to_nowhere(12, "unknown", "0000:c1:00.0")), nvlink_peers=peers(3, at))
        for at in range(3)
    ]
    assert rows(switched) == [(0, 12, 12), (12, 0, 12), (12, 12, 0)]


def test_links_to_a_processor_are_none_between_gpus() -> None:
    found, _ = gpu_links(
        [reading(0, links=(*to_gpu(1, 2), *to_nowhere(2, "npu"))), reading(1, links=tuple(to_gpu(0, 2)))]
    )
    assert (found[0].count, found[0].row) == (2, (0, 2))


def test_links_stay_while_mig_is_switched_on_for_a_claim() -> None:
    """NVML denies peers while MIG is on; what is published of the other GPUs must not change with each partition."""
    on = MigReading(enabled=True, pending=True)
    gpus = [
        reading(0, links=tuple(to_switch(18)), nvlink_peers=(None, False, False), mig=on, fabric=COMPLETED),
        reading(1, links=tuple(to_switch(18)), nvlink_peers=(False, None, True), fabric=COMPLETED),
        reading(2, links=tuple(to_switch(18)), nvlink_peers=(False, True, None), fabric=COMPLETED),
    ]
    assert rows(gpus) == [(0, 18, 18), (18, 0, 18), (18, 18, 0)]


def test_unreadable_ends_of_a_registered_board_stay_too_while_mig_is_on() -> None:
    """A virtual machine with a whole HGX board: only boards with switches register with a fabric."""
    on = MigReading(enabled=True, pending=True)
    gpus = [
        reading(at, links=tuple(to_nowhere(18)), nvlink_peers=(False, False), mig=on if at else None, fabric=COMPLETED)
        for at in range(2)
    ]
    assert rows(gpus) == [(0, 18), (18, 0)]


def test_a_missing_index_has_no_links() -> None:
    gpus = [reading(0, links=tuple(to_switch(6)), nvlink_peers=(None, None, True))]
    gpus.append(reading(2, links=tuple(to_switch(6)), nvlink_peers=(True, None, None)))
    assert rows(gpus) == [(0, 0, 6), (6, 0, 0)]


@pytest.mark.parametrize(
    ("line", "usable"),
    [
        (25_781, 25_000),
        (26_562, 25_000),
        (53_125, 50_000),
        (14_062, 14_062),
        (20_625, 20_000),
        (20_000, 20_000),
        (0, 0),
    ],
)
def test_a_line_rate_is_told_as_what_it_carries(line: int, usable: int) -> None:
    assert usable_mbps(line) == usable


ENDS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 3)), max_size=12)


@given(ends=ENDS, switches=st.lists(st.integers(0, 4), min_size=5, max_size=5), said=st.data())
def test_rows_are_symmetric_and_nothing_joins_a_gpu_to_itself(
    ends: list[tuple[int, int, int]], switches: list[int], said: st.DataObject
) -> None:
    """Whatever the ends say; and a row never has more than the links there are, but through switches."""
    gpus = []
    for at in range(5):
        wires = [link for one, other, count in ends if one == at for link in to_gpu(other, count)]
        status = tuple(said.draw(st.sampled_from([True, False, None])) for _ in range(5))
        gpus.append(reading(at, links=(*wires, *to_switch(switches[at])), nvlink_peers=status))
    found, _ = gpu_links(gpus)
    full = [found[at].row or (0,) * 5 for at in range(5)]
    for one in range(5):
        assert full[one][one] == 0
        for other in range(5):
            assert full[one][other] == full[other][one]
            assert full[one][other] <= max(found[one].count, 0)
        if not found[one].switched:
            assert sum(full[one]) <= found[one].count


@given(order=st.permutations(range(6)))
def test_numbering_the_gpus_anew_only_renames_them(order: list[int]) -> None:
    """The hybrid cube of a DGX-1 on six GPUs, renumbered."""
    wires = {(0, 1): 1, (0, 2): 1, (0, 3): 2, (1, 2): 2, (1, 3): 1, (2, 3): 1, (0, 4): 2, (1, 5): 2, (4, 5): 1}
    both = wires | {(other, one): count for (one, other), count in wires.items()}
    new = {old: at for at, old in enumerate(order)}
    gpus = [
        reading(
            new[old],
            links=tuple(
                link for (one, other), count in both.items() if one == old for link in to_gpu(new[other], count)
            ),
        )
        for old in sorted(order, key=lambda old: new[old])
    ]
    for at, row in enumerate(rows(gpus)):
        assert list(row) == [both.get((order[at], order[peer]), 0) for peer in range(6)]
