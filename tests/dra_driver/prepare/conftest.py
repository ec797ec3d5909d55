"""Nodes to prepare claims on, in memory where there is such a folder: kills and failures do not ask for a disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dra_driver.prepare.sites import A100, Site, site
from topology.modes import MigMode

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def quick_root() -> Iterator[Path]:
    """A folder that costs no waiting for a disk."""
    root = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    yield root
    shutil.rmtree(root)


@pytest.fixture
def quick(quick_root: Path) -> Iterator[Path]:
    """Such a folder of a test's own."""
    folder = Path(tempfile.mkdtemp(dir=quick_root))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def host(quick: Path) -> Iterator[Site]:
    """Eight H100 whose MIG the driver switches."""
    with site(quick) as made:
        yield made


@pytest.fixture
def divided(quick: Path) -> Iterator[Site]:
    """Eight A100 whose MIG is on for good."""
    with site(quick, A100, MigMode.ENABLED) as made:
        yield made
