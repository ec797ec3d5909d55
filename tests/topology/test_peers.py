"""What other allocators compute on a DGX-1, from their tests: the facts agree, and our sets are never slower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from packing.linktable import build_link_table
from topology import catalog
from topology.quality import set_quality
from topology.rates import nvlink_counts
from topology.rings import pair_sum

DATA = Path(__file__).parents[1] / "topology" / "data" / "topology"
GOLDEN: dict[str, Any] = yaml.safe_load((DATA / "allocator-golden.yaml").read_text())
CASES = [case for part in ("best_effort", "best_effort_all_free") for case in GOLDEN[part]["cases"]]


def _mask(gpus: list[int]) -> int:
    return sum(1 << gpu for gpu in gpus)


@pytest.mark.parametrize(("machine", "file"), [("dgx1-v100", "dgx1v"), ("dgx1-p100", "dgx1p")])
def test_pair_sums_of_our_facts_are_those_of_go_gpuallocator(machine: str, file: str) -> None:
    found = catalog.machine(machine)
    points = GOLDEN["pair_score"]
    levels = np.array([[0 if level == "X" else points[level] for level in row] for row in found.pcie.levels])
    scores = pair_sum(levels + points["per_nvlink"] * nvlink_counts(found))
    for entry in yaml.safe_load((DATA / f"{file}-subset-classes.yaml").read_text())["classes"]:
        assert scores[_mask(entry["representative"])] in entry["gpuallocator_scores"]


@pytest.mark.parametrize("case", [c for c in CASES if not c["required"]], ids=lambda c: f"{c['available']}-{c['size']}")
def test_our_fastest_set_is_never_slower_than_the_golden_one(case: dict[str, Any]) -> None:
    quality = set_quality(catalog.machine(GOLDEN["best_effort"]["shape"]))
    chosen = build_link_table(quality).best_quality[case["size"], _mask(case["available"])]
    assert quality.quality_mbps[chosen] >= quality.quality_mbps[_mask(case["result"])]


@pytest.mark.parametrize("machine", ["dgx1-p100", "dgx1-v100"])
@pytest.mark.parametrize("size", ["2", "4"])
def test_the_static_sets_of_a_dgx1_are_ideal(machine: str, size: str) -> None:
    quality = set_quality(catalog.machine(machine))
    ideal = build_link_table(quality).ideal[int(size)]
    assert {int(quality.quality_mbps[_mask(gpus)]) for gpus in GOLDEN["static_dgx"][machine][size]} == {int(ideal)}
