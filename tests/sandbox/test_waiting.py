"""Waiting looks until the condition holds, and tells what it saw when it never does."""

from __future__ import annotations

import pytest

from sandbox.errors import WaitTimeoutError
from sandbox.waiting import SHOWN, NotYet, wait_for


def test_what_is_found_is_returned_even_if_it_is_false() -> None:
    looks = iter([NotYet("no"), NotYet("no"), 0])
    assert wait_for("nothing", lambda: next(looks), every_s=0) == 0


def test_the_account_has_each_change_once_and_what_else_may_explain_it() -> None:
    looks = iter(["Pending", "Pending", "Running", "Running", "Pending"])
    with pytest.raises(WaitTimeoutError) as fault:
        wait_for(
            "a pod", lambda: NotYet(next(looks, "Lost")), timeout_s=0.1, every_s=0.001, account=lambda: "events: none"
        )
    seen = [line.split("  ")[-1] for line in str(fault.value).splitlines()]
    assert seen == ["waited 0.1 s in vain for a pod; seen:", "Pending", "Running", "Pending", "Lost", "events: none"]


def test_a_long_history_is_cut_to_its_end() -> None:
    numbers = iter(range(10_000))
    with pytest.raises(WaitTimeoutError) as fault:
        wait_for("calm", lambda: NotYet(str(next(numbers))), timeout_s=0.1, every_s=0.001)
    lines = str(fault.value).splitlines()
    assert len(lines) == SHOWN + 2
    assert lines[1].endswith("changes before)")


def test_a_fault_while_looking_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_for("nothing", lambda: 1 // 0)
