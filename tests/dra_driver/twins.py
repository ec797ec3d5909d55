"""NVML on a twin, for tests: the binding as it runs on a real node, with a machine of the catalog below pynvml."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dra_driver.nvml.binding import PynvmlNvml
from twin import Twin
from twin.nvml.library import Library

NODE = "node-1"


@contextmanager
def machine_below(folder: Path, machine: Any, **options: Any) -> Iterator[tuple[Twin, PynvmlNvml, Library]]:
    """A twin of `machine` (id or Machine), the binding on it, and the library whose calls are counted."""
    twin = Twin.create(folder / "twin", machine, node=NODE, **options)
    with twin.install() as library:
        nvml = PynvmlNvml()
        try:
            yield twin, nvml, library
        finally:
            nvml.close()
