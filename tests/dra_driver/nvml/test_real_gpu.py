"""A real GPU, only read: what NVML tells of it is what the catalog knows of its product.

The same checks run on a twin, so that they are known to work where no GPU is. On a machine with one:
`python -m pytest -m gpu -s tests/dra_driver/nvml` prints what was found.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pynvml
import pytest

from dra_driver.discover import discover
from dra_driver.inventory import Gpu
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.publish import resource_slices
from dra_driver.roots import Roots
from tests.dra_driver.twins import NODE, machine_below
from topology.catalog import machine, machine_names, mig_for_product
from topology.facts import Machine
from topology.mig import MigGeometry

CHANGES = ("Set", "Create", "Destroy", "Reset", "Clear", "Modify", "Freeze", "Register")
MEMORY_TOLERANCE = 0.02
"""Sizes differ by driver: an A100-40 reads 40960 MiB now and 40537 with older ones."""


class ReadOnly:
    """libnvidia-ml without what changes anything: such a function is lacking, as in an old driver."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        if any(verb in name for verb in CHANGES):
            raise AttributeError(name)
        return getattr(self._library, name)


@contextmanager
def below_pynvml(library: Any) -> Iterator[None]:
    module: Any = pynvml
    before = module.nvmlLib, dict(module._nvmlGetFunctionPointer_cache)
    module.nvmlLib = ReadOnly(library)
    module._nvmlGetFunctionPointer_cache.clear()
    try:
        yield
    finally:
        module.nvmlLib = before[0]
        module._nvmlGetFunctionPointer_cache.clear()
        module._nvmlGetFunctionPointer_cache.update(before[1])


def check(roots: Roots) -> list[Gpu]:
    """Discover this machine through the library below pynvml, and compare each GPU with what is known of it."""
    nvml = PynvmlNvml()
    try:
        found = discover(nvml, roots, NODE)
        for gpu in found.node.gpus:
            nvml.processes(gpu.uuid)
            nvml.compute_mode(gpu.uuid)
            nvml.recovery_action(gpu.uuid)
    finally:
        nvml.close()
    print(json.dumps(msgspec.to_builtins(found), indent=1))  # noqa: T201 - for a person, with -s
    assert found.node.gpus
    assert found.node.driver_version
    assert resource_slices(found.node)
    for gpu in found.node.gpus:
        assert gpu.uuid.startswith("GPU-")
        assert gpu.pci_address
        assert gpu.architecture
        assert gpu.brand
        assert gpu.multiprocessors
        known = next((its for its in map(machine, machine_names()) if gpu.product in products(its)), None)
        if known is not None:
            compare(gpu, known)
        geometry = mig_for_product(gpu.product)
        if gpu.mig is not None and geometry is not None and geometry.placeable:
            compare_partitions(gpu.mig, geometry)
    return list(found.node.gpus)


def products(known: Machine) -> set[str]:
    return {known.product(index) for index in range(known.gpu_count)}


def compare(gpu: Gpu, known: Machine) -> None:
    assert gpu.architecture == known.gpu.architecture
    assert gpu.cuda_compute_capability == known.gpu.compute_capability
    assert gpu.memory_bytes / (1 << 20) == pytest.approx(known.gpu.memory_total_mib, rel=MEMORY_TOLERANCE)
    assert known.gpu.sm_count in (None, gpu.multiprocessors)


def compare_partitions(told: MigGeometry, known: MigGeometry) -> None:
    """Placements are what the planner packs by: where these differ, its answers are wrong."""
    here = {its.nvml_enum: (its.profile_id, its.starts, its.size, its.max_instances) for its in told.profiles}
    for its in known.profiles:
        if its.nvml_enum in here:
            assert here[its.nvml_enum] == (its.profile_id, its.starts, its.size, its.max_instances), its.name


@pytest.mark.gpu
def test_a_real_gpu_is_what_the_catalog_knows_of_its_product() -> None:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        pytest.skip(f"no NVIDIA driver on this machine ({error}); run `pytest -m gpu` as root on a GPU node")
    with below_pynvml(library):
        check(Roots())


@pytest.mark.parametrize("name", ["hgx-h200-8", "dgx-a100-40", "gb200-nvl72-node", "t4-4-pcie", "dgx1-v100"])
def test_the_same_checks_hold_on_a_twin_and_need_no_function_that_changes_anything(name: str, tmp_path: Path) -> None:
    with machine_below(tmp_path, name) as (twin, _, library), below_pynvml(library):
        before = twin.state
        assert len(check(Roots(sys=tmp_path / "sys"))) == machine(name).gpu_count
        assert twin.state == before


def test_a_difference_between_gpu_and_catalog_is_found(tmp_path: Path) -> None:
    """The checks can fail: an H200 that calls itself an A100."""
    wrong = msgspec.structs.replace(
        machine("hgx-h200-8"),
        gpu=msgspec.structs.replace(machine("hgx-h200-8").gpu, product_name="NVIDIA A100-SXM4-40GB"),
    )
    with machine_below(tmp_path, wrong) as (_, _, library), below_pynvml(library), pytest.raises(AssertionError):
        check(Roots(sys=tmp_path / "sys"))
