"""How long the tables of one kind of machine take: set quality, link table, MIG table. Each result is asserted."""

from __future__ import annotations

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from packing.linktable import build_link_table
from packing.migtable import build_mig_table
from topology import catalog, cycles
from topology.facts import LinkKind
from topology.machine import Machine
from topology.quality import SetQuality, set_quality


def _fresh(machine: Machine) -> SetQuality:
    cycles.disjoint_cycles.cache_clear()
    return set_quality.__wrapped__(machine)


def _irregular_16() -> Machine:
    """Return sixteen GPUs joined by two DGX-1V meshes and single links between them; no such machine is known."""
    mesh = catalog.machine("dgx1-v100").nvlink.matrix
    base = catalog.machine("dgx2-v100")
    matrix = tuple(
        tuple(mesh[i % 8][j % 8] if i // 8 == j // 8 else int((i - j) % 8 == 0) for j in range(16)) for i in range(16)
    )
    nvlink = msgspec.structs.replace(base.nvlink, kind=LinkKind.DIRECT, links_per_gpu=7, matrix=matrix)
    return msgspec.structs.replace(base, nvlink=nvlink)


@pytest.mark.parametrize(
    ("name", "whole_mbps"), [("dgx1-v100", 150_000), ("l40s-8-pcie", 12_000), ("dgx2-v100", 150_000)]
)
def test_set_quality(benchmark: BenchmarkFixture, name: str, whole_mbps: int) -> None:
    found = benchmark(_fresh, catalog.machine(name))
    assert found.quality_mbps[-1] == whole_mbps


def test_set_quality_of_sixteen_irregular_gpus(benchmark: BenchmarkFixture) -> None:
    found = benchmark.pedantic(_fresh, args=(_irregular_16(),), rounds=2)
    assert found.quality_mbps[255] == 150_000


@pytest.mark.parametrize("name", ["hgx-a100-4gpu", "dgx1-v100", "hgx-h100-8", "dgx2-v100"])
def test_link_table(benchmark: BenchmarkFixture, name: str) -> None:
    quality = set_quality(catalog.machine(name))
    build_link_table(quality)
    table = benchmark(build_link_table, quality)
    fours = quality.gpu_count // 4
    assert table.count[2, -1] == fours


def test_mig_table(benchmark: BenchmarkFixture) -> None:
    table = benchmark(build_mig_table, catalog.mig_geometry("a100-40gb"))
    assert table.remaining[0, 0] == 7
