"""The state machine of docs/reservations.md, against random interleavings; and that it finds seeded mistakes (I7)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.scheduler.modelworld import World, WorldWithSlack

RUN = settings(max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("world", [World, WorldWithSlack])
def test_t01_no_device_is_given_twice_nothing_is_held_for_ever_and_every_pod_ends(world: type[World]) -> None:
    run_state_machine_as_test(world, settings=RUN)
