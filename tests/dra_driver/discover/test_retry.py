"""Discovery at start waits for the driver: longer each time, to a bound, saying why once, ending when told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from dra_driver.discover import Discovered, discover, discover_when_loaded
from dra_driver.errors import RetryableError
from dra_driver.inventory import NodeGpus
from dra_driver.roots import Roots
from tests.dra_driver.twins import NODE, machine_below
from twin.codes import Code

FOUND = Discovered(NodeGpus(node=NODE, gpus=()))


def attempts(*causes: str) -> Callable[[], Discovered]:
    left = list(causes)

    def attempt() -> Discovered:
        if left:
            raise RetryableError(left.pop(0))
        return FOUND

    return attempt


def test_waits_double_up_to_half_a_minute() -> None:
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    assert discover_when_loaded(attempts(*["no driver"] * 7), wait) is FOUND
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_the_end_of_the_program_ends_the_waiting() -> None:
    assert discover_when_loaded(attempts("no driver"), lambda seconds: True) is None


def test_a_cause_is_logged_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        discover_when_loaded(attempts("no library", "no library", "no driver"), lambda seconds: False)
    assert [record.getMessage() for record in caplog.records] == [
        "discovery waits: no library",
        "discovery waits: no driver",
    ]


def test_n1008_a_driver_that_comes_after_us_is_found_and_nothing_is_published_before(tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        twin.fault("nvmlInitWithFlags", code=Code.DRIVER_NOT_LOADED, times=3)
        waits: list[float] = []

        def wait(seconds: float) -> bool:
            waits.append(seconds)
            return False

        found = discover_when_loaded(lambda: discover(nvml, Roots(sys=tmp_path), NODE), wait)
    assert found is not None
    assert len(found.node.gpus) == 4
    assert waits == [1, 2, 4]
