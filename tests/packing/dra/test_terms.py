"""Terms of a score add up to the score of the decision, whatever is in use and whichever policy decides."""

from __future__ import annotations

import random

import pytest

from packing.dra.allocate import Allocator
from packing.dra.ledger import Ledger
from packing.dra.model import ClaimUid, DeviceId, Given
from packing.dra.terms import PRICES, REST, SCORE, terms_of
from packing.kernels.arrays import GIGA
from packing.mix import DemandMix
from packing.model import Demand, WholeRequest
from packing.policy import make_policy
from tests.packing.dra.builders import GPU_DRIVER, GPUS, Machine, ask, exactly, inventory_of

MIX = DemandMix.from_demands([(Demand(cpu_milli=8000, requests=(WholeRequest(count=n),)), 1) for n in (1, 2, 4)])


@pytest.mark.parametrize("policy", ["dovetail", "fgd", "first-fit"])
@pytest.mark.parametrize("seed", range(10))
def test_terms_add_up_to_the_score_of_the_decision(policy: str, seed: int) -> None:
    draw = random.Random(seed)
    names = [f"node-{at}" for at in range(4)]
    ledger = Ledger(inventory_of(*(Machine(name, "a100-8-pcie-nvlink-pairs", cpu_milli=64_000) for name in names)))
    for at in range(12):
        device = DeviceId(GPU_DRIVER, f"{draw.choice(names)}/{GPU_DRIVER}", f"gpu-{draw.randrange(8)}")
        ledger.add_claim(ClaimUid(str(at)), [Given("gpu", device)])
    asked = ask(exactly(GPUS, 2), cpu_milli=8000)
    made = make_policy(policy, MIX, ledger.inventory.fabric)
    outcome = Allocator(ledger, made).allocate(asked)
    assert outcome.allocation is not None
    terms = terms_of(ledger, made, asked, outcome.allocation)
    unit = GIGA if policy == "dovetail" else 1
    assert sum(terms.values()) == pytest.approx(outcome.score / unit, abs=1e-8)
    assert terms.keys() == ({*PRICES, REST} if policy == "dovetail" else {SCORE})
    if policy == "dovetail":
        assert terms["links"] > 0
        assert terms["order of nodes"] <= 0
