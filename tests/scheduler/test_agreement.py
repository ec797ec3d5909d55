"""What is predicted of kube-scheduler's allocator is what it writes: random cases on a real control plane."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.testbed import Testbed
from tests.scheduler import agreement

SEED = 20261121
LEAST = 0.99


@pytest.mark.parametrize(
    ("nodes", "rounds"), [pytest.param(18, 5), pytest.param(32, 40, marks=pytest.mark.soak)], ids=["some", "many"]
)
def test_random_claims_get_the_devices_that_were_predicted(
    testbed: Testbed, tmp_path: Path, nodes: int, rounds: int
) -> None:
    tally = agreement.run(testbed, nodes=nodes, rounds=rounds, seed=SEED)
    agreement.write(tally, tmp_path / "differing.jsonl")
    assert tally.same >= LEAST * tally.allocated, tmp_path
    assert tally.allocated >= 0.5 * nodes * rounds, "the claims say too little"
