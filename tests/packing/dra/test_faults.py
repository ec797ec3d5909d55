"""A selector that fails ends the decision, however often it is asked for, and is told of the one who asks."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from packing.dra.ledger import Ledger
from packing.dra.model import Pool, SelectorError, SubRequest
from tests.packing.dra.builders import GPUS, Machine, allocator_of, ask, exactly, first_available, inventory_of


@dataclass(frozen=True)
class Failing:
    """A selection whose expression fails on every device."""

    whose: str = "claim a"
    by_shape: bool = True

    def mask(self, pool: Pool) -> int:
        raise SelectorError(f"{self.whose}: failed in pool {pool.name}")


def allocator():
    return allocator_of(Ledger(inventory_of(Machine("a", "dgx1-v100"))))


def test_a_selector_fails_at_every_try() -> None:
    """Found in review: from the third try on the ask read as proven to fit nowhere."""
    ours, asked = allocator(), ask(exactly(Failing()), signature="fails")
    for _ in range(4):
        with pytest.raises(SelectorError):
            ours.allocate(asked)


def test_no_later_alternative_is_taken_for_one_whose_selector_fails() -> None:
    """Found in review: the second try allocated the next alternative, though a pod with such a selector is aborted."""
    bad, good = SubRequest(name="gpu/bad", selection=Failing()), SubRequest(name="gpu/good", selection=GPUS)
    ours, asked = allocator(), ask(first_available("gpu", bad=bad, good=good), signature="fails")
    for _ in range(4):
        with pytest.raises(SelectorError):
            ours.allocate(asked)


@pytest.mark.parametrize("by_shape", [True, False])
@pytest.mark.parametrize("question", ["allocate", "predict", "sharing"])
def test_a_failing_selector_is_told_of_the_claim_that_asks_now(question: str, by_shape: bool) -> None:
    """Found in review: asks of one signature share what is known, and the first one's claim was named to the others."""
    ours = allocator()
    for whose in ("claim a", "claim b", "claim c"):
        asked = ask(exactly(Failing(whose, by_shape)), signature="fails")
        with pytest.raises(SelectorError, match=f"^{whose}: failed in pool a/"):
            getattr(ours, question)(asked)
