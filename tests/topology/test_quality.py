"""Set quality Q, NVLink reach and locality: real machines, laws, and a brute-force reference."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import catalog
from topology.cycles import disjoint_cycles
from topology.facts import LinkKind, NvlinkFacts, PcieFacts
from topology.machine import Machine
from topology.quality import flat_quality, set_quality
from topology.rings import least_pair, pair_sum, sizes, widest_ring

PCIE = {"PIX": 1.0, "PXB": 0.95, "PHB": 0.85, "NODE": 0.75, "SYS": 0.5}
RATE = {3: 12, 4: 24, 5: 48, 6: 96}
DATA = Path(__file__).parent / "data" / "topology"


def _mask(gpus: Iterable[int]) -> int:
    return sum(1 << gpu for gpu in gpus)


def _gbps(machine: str, *gpus: int) -> float:
    return float(set_quality(catalog.machine(machine)).quality_mbps[_mask(gpus)]) / 1000


def _ring(weights: Any, gpus: tuple[int, ...]) -> float:
    """Return the weakest edge of the best ring over all orders."""
    first, *others = gpus
    orders = ((first, *order) for order in permutations(others))
    return max(min(weights(a, b) for a, b in zip(o, (*o[1:], o[0]), strict=True)) for o in orders)


def _nvlink(machine: Machine, i: int, j: int) -> float:
    return machine.nvlink.matrix[i][j] * machine.nvlink.gbyte_s_per_link_per_direction


def _pcie(machine: Machine, i: int, j: int) -> float:
    return RATE[machine.pcie.generation] * PCIE[machine.pcie.levels[i][j]]


def slow_quality(machine: Machine, gpus: tuple[int, ...]) -> float:
    """Return Q in GB/s by the words of its definition."""
    nvlink = machine.nvlink
    if len(gpus) < 2:
        return 0
    if nvlink.kind is LinkKind.NVSWITCH:
        return min(_nvlink(machine, i, j) for i, j in combinations(gpus, 2))
    if len(gpus) == 2:
        return _nvlink(machine, *gpus) or _pcie(machine, *gpus)
    rings = disjoint_cycles(tuple(tuple(nvlink.matrix[i][j] for j in gpus) for i in gpus)) if len(gpus) <= 8 else 0
    if rings:
        return 2 * nvlink.gbyte_s_per_link_per_direction * rings
    return _ring(lambda i, j: _nvlink(machine, i, j) or _pcie(machine, i, j), gpus)


@pytest.mark.parametrize("name", [n for n in catalog.machine_names() if catalog.machine(n).gpu_count <= 8])
def test_quality_follows_its_definition_on_every_set_of_every_machine(name: str) -> None:
    machine = catalog.machine(name)
    n = machine.gpu_count
    quality = set_quality(machine).quality_mbps
    for k in range(min(n, 7) + 1):
        for gpus in combinations(range(n), k):
            assert quality[_mask(gpus)] == round(1000 * slow_quality(machine, gpus)), gpus


@pytest.mark.parametrize("name", catalog.machine_names())
def test_nvlink_flag_means_that_nvlink_alone_joins_the_set(name: str) -> None:
    machine = catalog.machine(name)
    found = set_quality(machine)
    matrix = machine.nvlink.matrix
    for k in range(min(5, machine.gpu_count) + 1):
        for gpus in combinations(range(machine.gpu_count), k):
            if machine.nvlink.kind is LinkKind.NVSWITCH:
                expected = k >= 2
            else:
                expected = k >= 2 and _ring(lambda i, j: matrix[i][j], gpus) > 0
            assert found.nvlink[_mask(gpus)] == expected


def test_dgx1v_line_rates_of_the_derived_classes() -> None:
    found = set_quality(catalog.machine("dgx1-v100"))
    for entry in yaml.safe_load((DATA / "dgx1v-subset-classes.yaml").read_text())["classes"]:
        mask = _mask(entry["representative"])
        if entry["ring_line_rate_gbyte_s"]:
            assert found.quality_mbps[mask] == 1000 * entry["ring_line_rate_gbyte_s"]
        assert found.nvlink[mask] == (entry["ring_line_rate_gbyte_s"] > 0)


def test_dgx1v_order_of_pairs_and_fours() -> None:
    assert _gbps("dgx1-v100", 0, 3) == _gbps("dgx1-v100", 0, 4) > _gbps("dgx1-v100", 0, 1) > _gbps("dgx1-v100", 0, 5)
    fours = {gpus: _gbps("dgx1-v100", *gpus) for gpus in combinations(range(8), 4)}
    best = max(fours.values())
    assert {gpus for gpus, gbps in fours.items() if gbps == best} == {(0, 1, 2, 3), (4, 5, 6, 7)}
    assert fours[0, 2, 5, 7] == min(fours.values())
    # A sum over pairs orders these two the other way: the second has no NVLink ring at all.
    assert fours[0, 3, 4, 7] > fours[0, 2, 3, 4]


def test_bridged_pairs_fall_to_pcie_with_a_third_gpu() -> None:
    name = "a100-8-pcie-nvlink-pairs"
    best = {gpus for gpus in combinations(range(8), 2) if _gbps(name, *gpus) == 300}
    assert best == {(0, 1), (2, 3), (4, 5), (6, 7)}
    # Measured: 208 GB/s for the pair, 20 with a third GPU.
    assert max(_gbps(name, *gpus) for k in (3, 4) for gpus in combinations(range(8), k)) <= 24


@pytest.mark.parametrize("name", [n for n in catalog.machine_names() if catalog.machine(n).nvlink.nvswitch_count])
def test_all_sets_of_a_switched_machine_tie(name: str) -> None:
    found = set_quality(catalog.machine(name))
    assert len(np.unique(found.quality_mbps[sizes(found.gpu_count) >= 2])) == 1


def test_nvlink_wins_over_pcie_and_numa() -> None:
    assert _gbps("azure-nc96ads-a100-v4", 0, 1) > _gbps("azure-nc96ads-a100-v4", 1, 2)
    assert _gbps("rtx8000-4-nvlink-pairs", 0, 3) == _gbps("rtx8000-4-nvlink-pairs", 1, 2) > 10
    assert _gbps("rtx8000-4-nvlink-pairs", 0, 1) < 10
    assert _gbps("degraded-4gpu-nv12-nv10", 0, 1) > _gbps("degraded-4gpu-nv12-nv10", 2, 3) > 200
    assert _gbps("mixed-a100-sxm-pcie", 0, 1) > _gbps("mixed-a100-sxm-pcie", 2, 3)


def test_on_switched_machines_locality_prefers_a_shared_pcie_switch_then_aligned_blocks() -> None:
    azure = set_quality(catalog.machine("azure-nd96-a100-v4")).locality
    pairs = sorted(combinations(range(8), 2), key=lambda gpus: -azure[_mask(gpus)])
    assert set(pairs[:4]) == {(0, 1), (2, 3), (4, 5), (6, 7)}
    h100 = set_quality(catalog.machine("hgx-h100-8")).locality
    assert h100[_mask([2, 3])] > h100[_mask([1, 2])] > h100[_mask([3, 4])]
    assert h100[_mask(range(4))] > h100[_mask([0, 1, 2, 4])]


def test_locality_counts_pcie_before_numa_before_network() -> None:
    l40s = set_quality(catalog.machine("l40s-8-pcie")).locality
    assert l40s[_mask([0, 1])] > l40s[_mask([0, 4])]
    dgx1 = set_quality(catalog.machine("dgx1-v100")).locality
    assert dgx1[_mask([0, 1])] > dgx1[_mask([0, 2])] > dgx1[_mask([0, 4])]


@st.composite
def _machines(draw: st.DrawFn, most: int = 6, kinds: tuple[str, ...] = ("direct", "bridge")) -> Machine:
    n = draw(st.integers(2, most))
    links = [[0] * n for _ in range(n)]
    levels = [["X"] * n for _ in range(n)]
    for i, j in combinations(range(n), 2):
        links[i][j] = links[j][i] = draw(st.integers(0, 3))
        levels[i][j] = levels[j][i] = draw(st.sampled_from(sorted(PCIE)))
    base = catalog.machine("dgx1-v100")
    nvlink = NvlinkFacts(
        kind=LinkKind(draw(st.sampled_from(kinds))),
        links_per_gpu=99,
        gbyte_s_per_link_per_direction=draw(st.sampled_from([14.0625, 20, 25, 50])),
        matrix=tuple(map(tuple, links)),
    )
    pcie = PcieFacts(generation=draw(st.sampled_from([3, 4])), levels=tuple(map(tuple, levels)))
    return msgspec.structs.replace(base, devices=base.devices[:n], nvlink=nvlink, pcie=pcie, nics=())


def _permuted(machine: Machine, order: list[int]) -> Machine:
    nvlink = tuple(tuple(machine.nvlink.matrix[i][j] for j in order) for i in order)
    levels = tuple(tuple(machine.pcie.levels[i][j] for j in order) for i in order)
    devices = tuple(msgspec.structs.replace(machine.devices[i], index=at) for at, i in enumerate(order))
    return msgspec.structs.replace(
        machine,
        devices=devices,
        nvlink=msgspec.structs.replace(machine.nvlink, matrix=nvlink),
        pcie=msgspec.structs.replace(machine.pcie, levels=levels),
    )


@settings(deadline=None, max_examples=60)
@given(_machines(), st.data())
def test_renumbering_gpus_changes_no_quality(machine: Machine, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(machine.gpu_count)))
    one, other = set_quality(machine), set_quality(_permuted(machine, list(order)))
    for mask in range(1 << machine.gpu_count):
        gpus = [at for at, i in enumerate(order) if mask >> i & 1]
        assert other.quality_mbps[_mask(gpus)] == one.quality_mbps[mask]
        assert other.nvlink[_mask(gpus)] == one.nvlink[mask]
        assert other.locality[_mask(gpus)] == one.locality[mask]


@settings(deadline=None, max_examples=60)
@given(_machines(), st.data())
def test_a_further_link_never_lowers_quality(machine: Machine, data: st.DataObject) -> None:
    i, j = data.draw(st.sampled_from(list(combinations(range(machine.gpu_count), 2))))
    matrix = [list(row) for row in machine.nvlink.matrix]
    matrix[i][j] += 1
    matrix[j][i] += 1
    nvlink = msgspec.structs.replace(machine.nvlink, matrix=tuple(map(tuple, matrix)))
    more = set_quality(msgspec.structs.replace(machine, nvlink=nvlink))
    assert (more.quality_mbps >= set_quality(machine).quality_mbps).all()
    assert (more.nvlink >= set_quality(machine).nvlink).all()


@settings(deadline=None, max_examples=40)
@given(_machines())
def test_irregular_machines_against_the_definition(machine: Machine) -> None:
    quality = set_quality(machine).quality_mbps
    for k in range(machine.gpu_count + 1):
        for gpus in combinations(range(machine.gpu_count), k):
            # Where PCIe beats the NVLink rings, which no machine we know has, quality is that of PCIe.
            slow = slow_quality(machine, gpus)
            if k >= 2:
                slow = max(slow, _ring(lambda i, j: max(_nvlink(machine, i, j), _pcie(machine, i, j)), gpus))
            assert quality[_mask(gpus)] == round(1000 * slow)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6).flatmap(lambda n: st.lists(st.integers(0, 4), min_size=n * n, max_size=n * n)))
def test_set_folds_against_plain_loops(values: list[int]) -> None:
    n = int(len(values) ** 0.5)
    matrix = np.array(values, dtype=np.int64).reshape(n, n)
    matrix = np.triu(matrix, 1) + np.triu(matrix, 1).T
    for mask in range(1 << n):
        gpus = [i for i in range(n) if mask >> i & 1]
        inner = [int(matrix[i, j]) for i, j in combinations(gpus, 2)]
        assert sizes(n)[mask] == len(gpus)
        assert least_pair(matrix)[mask] == min(inner, default=0)
        assert pair_sum(matrix)[mask] == sum(inner)
        ring = _ring(lambda i, j: int(matrix[i, j]), tuple(gpus)) if len(gpus) >= 3 else 0
        assert widest_ring(matrix)[mask] == ring


def test_a_switched_machine_with_a_dead_port_falls_back_to_pcie() -> None:
    machine = catalog.machine("hgx-h100-8")
    matrix = tuple(
        tuple(0 if 7 in (i, j) else links for j, links in enumerate(row)) for i, row in enumerate(machine.nvlink.matrix)
    )
    broken = set_quality(
        msgspec.structs.replace(machine, nvlink=msgspec.structs.replace(machine.nvlink, matrix=matrix))
    )
    assert broken.quality_mbps[0b0000_1111] == 450_000
    assert broken.quality_mbps[0b1100_0000] == 36_000
    assert broken.quality_mbps[255] == 36_000
    assert broken.nvlink[0b0111_1111] == 1
    assert broken.nvlink[255] == 0


def test_sixteen_gpus_without_switches_use_a_single_ring() -> None:
    n = 16
    base = catalog.machine("dgx2-v100")
    matrix = tuple(tuple(2 if abs(i - j) in (1, n - 1) else 0 for j in range(n)) for i in range(n))
    nvlink = msgspec.structs.replace(base.nvlink, kind=LinkKind.DIRECT, matrix=matrix)
    found = set_quality(msgspec.structs.replace(base, nvlink=nvlink))
    assert found.quality_mbps[-1] == 50_000
    assert found.nvlink[-1] == 1
    assert found.nvlink[(1 << 15) - 1] == 0
    assert found.quality_mbps[(1 << 15) - 1] == 6_000


def test_flat_quality_knows_no_difference() -> None:
    found = flat_quality(4)
    assert found.gpu_count == 4
    assert not found.quality_mbps.any()
    assert not found.nvlink.any()
    assert not found.locality.any()


def test_arrays_are_read_only_and_shared() -> None:
    found = set_quality(catalog.machine("dgx1-v100"))
    assert found is set_quality(catalog.machine("dgx1-v100"))
    assert found.quality_mbps.dtype == found.locality.dtype == np.int64
    assert found.nvlink.dtype == np.uint8
    for array in (found.quality_mbps, found.nvlink, found.locality):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
