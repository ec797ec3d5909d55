"""Collections are rare while the picture grows, and as before afterwards, whatever happens."""

from __future__ import annotations

import gc

import pytest

from scheduler.collecting import STARTING, seldom


def test_thresholds_come_back_and_what_is_there_is_looked_at_no_more() -> None:
    before = gc.get_threshold()
    try:
        with seldom():
            assert gc.get_threshold() == STARTING
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_thresholds_come_back_after_a_fault() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="ended"), seldom():
        raise ValueError("ended")
    assert gc.get_threshold() == before
