"""Boxes of three kinds, each with a driver that runs as a process; one at a time, for a module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sandbox.controlplane import ControlPlane
from sandbox.objects import Manifest
from sandbox.pytest_plugin import had_or_skipped
from tests.driver_node.box import Bed, Box, box, claim, request, uses
from twin import Twin


def started(*arguments: Any, **options: Any) -> Iterator[Box]:
    """Start a box, or skip where this machine cannot have one."""
    with ExitStack() as ends:
        yield had_or_skipped(lambda: ends.enter_context(box(*arguments, **options)))


def halved(twin: Twin) -> None:
    """Switch MIG on for the upper half of the GPUs, as an operator of a DGX A100 does, who must reset them for it."""
    with twin.change() as state:
        for gpu in state.gpus[len(state.gpus) // 2 :]:
            gpu.mig_enabled = gpu.mig_pending = True


@pytest.fixture(scope="module")
def h100(control_plane: ControlPlane) -> Iterator[Box]:
    """An HGX H100: eight GPUs behind NVSwitches, MIG switched as claims ask."""
    yield from started(control_plane, "hgx-h100-8", "h100-1")


@pytest.fixture(scope="module")
def a100(control_plane: ControlPlane) -> Iterator[Box]:
    """A DGX A100 with 40 GB: MIG on for GPUs 4 to 7, as found."""
    yield from started(control_plane, "dgx-a100-40", "a100-1", prepare=halved)


@pytest.fixture(scope="module")
def pairs(control_plane: ControlPlane) -> Iterator[Box]:
    """Eight A100 PCIe cards, joined by NVLink bridges two by two."""
    yield from started(control_plane, "a100-8-pcie-nvlink-pairs", "pairs-1")


def bed_of(here: Box) -> Iterator[Bed]:
    """Give one test a namespace on a box."""
    bed = here.bed()
    yield bed
    bed.close()


def prepared(here: Box) -> set[str]:
    """Names of the claims that the journal has."""
    return {record["claim"]["name"] for record in here.records()}


def partition(here: Box, bed: Bed, name: str) -> Manifest:
    """Create a claim for a MIG device; return a pod that uses it, both called `name`."""
    bed.create(claim(bed.namespace, name, request("gpu", "mig")))
    return here.probing(bed.namespace, name, {"gpu": name}, uses("main"))
