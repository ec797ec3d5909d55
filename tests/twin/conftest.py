from collections.abc import Iterator
from pathlib import Path

import pytest

from twin import Twin


@pytest.fixture
def h100(tmp_path: Path) -> Iterator[Twin]:
    """An HGX H100 under pynvml, initialized."""
    yield from installed(Twin.create(tmp_path / "twin", "hgx-h100-8"))


@pytest.fixture
def a100(tmp_path: Path) -> Iterator[Twin]:
    """A DGX A100 under pynvml, initialized."""
    yield from installed(Twin.create(tmp_path / "twin", "dgx-a100-40"))


def installed(twin: Twin) -> Iterator[Twin]:
    import pynvml

    with twin.install():
        pynvml.nvmlInit()
        yield twin
