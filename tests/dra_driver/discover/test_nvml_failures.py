"""Every call of discovery fails with every code: a typed error, or what is still true."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from dra_driver.discover import Discovered, discover
from dra_driver.errors import RetryableError
from dra_driver.inventory import Gpu
from dra_driver.nvml.api import NvmlError
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.publish import resource_slices
from dra_driver.roots import Roots
from tests.dra_driver.twins import NODE, machine_below
from topology.catalog import machine
from topology.facts import Machine
from topology.mig import placements
from twin import Twin
from twin.codes import Code

IDENTITY = ("index", "minor", "uuid", "product", "memory_bytes", "pci_address")
NOT_LOADED = (Code.DRIVER_NOT_LOADED, Code.UNINITIALIZED)
OF_ALL = ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex")
UNSEEN = ("nvmlDeviceGetUUID", *OF_ALL)
"""Who has never told its UUID is known from the PCI bus alone."""
CODES = sorted({*Code} - {Code.SUCCESS})


def two_of(name: str) -> Machine:
    """The first two GPUs of a machine: what holds of two holds of eight, and is asked much more quickly."""
    known = machine(name)
    return replace(
        known,
        gpu=replace(known.gpu, count=2),
        devices=known.devices[:2],
        nvlink=replace(known.nvlink, matrix=tuple(row[:2] for row in known.nvlink.matrix[:2])),
        pcie=replace(known.pcie, levels=tuple(row[:2] for row in known.pcie.levels[:2])),
        nics=(),
    )


@pytest.fixture
def partitioned(tmp_path: Path) -> Iterator[tuple[Twin, PynvmlNvml, list[str]]]:
    """Two GPUs, one with a MIG device, and the functions that discovery asks of them."""
    with machine_below(tmp_path, two_of("hgx-h100-8"), mig_enabled=True) as (twin, nvml, library):
        uuid = twin.gpu(0).uuid
        nvml.create_compute_instance(uuid, nvml.create_gpu_instance(uuid, 9, 4))
        before = library.calls.copy()
        nvml.close()
        look(PynvmlNvml(), tmp_path)
        asked = {name.removesuffix("V").partition("_v")[0] for name in library.calls - before}
        yield twin, nvml, sorted(asked)


def look(nvml: PynvmlNvml, folder: Path) -> Discovered:
    return discover(nvml, Roots(sys=folder / "sys"), NODE)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
@pytest.mark.parametrize("times", [1, -1], ids=["once", "always"])
def test_any_call_may_fail_with_any_code(
    code: Code, times: int, partitioned: tuple[Twin, PynvmlNvml, list[str]], tmp_path: Path
) -> None:
    twin, nvml, asked = partitioned
    whole = {gpu.uuid: gpu for gpu in look(nvml, tmp_path).node.gpus}
    assert len(asked) > 30
    for function in asked:
        twin.fault(function, code=code, times=times)
        fresh = PynvmlNvml()
        try:
            found = look(fresh, tmp_path)
        except (RetryableError, NvmlError) as error:
            failure = error
        else:
            failure = None
            for gpu in found.node.gpus:
                assert_true(gpu, whole[gpu.uuid], f"{function} {code.name}")
            if function not in UNSEEN:
                assert len(found.node.gpus) == 2 or found.notes, f"{function}: no word of what is missing"
            resource_slices(found.node)
        finally:
            twin.clear_faults()
            fresh.close()
        if code in NOT_LOADED and function != "nvmlShutdown":
            expected = RetryableError if times < 0 or function == "nvmlInitWithFlags" else None
            assert type(failure) is (expected or type(None)), f"{function}: {failure!r}"


def assert_true(gpu: Gpu, known: Gpu, where: str) -> None:
    """What is told is right; more may be unknown."""
    assert [getattr(gpu, field) for field in IDENTITY] == [getattr(known, field) for field in IDENTITY], where
    assert gpu.nvlinks in ((), known.nvlinks), where
    assert set(gpu.instances) <= {*known.instances, *bare(known)}, where
    assert set(placed(gpu)) <= set(placed(known)), where


def placed(gpu: Gpu) -> list[tuple[str, int]]:
    return [(profile.name, start) for profile, start in placements(gpu.mig)] if gpu.mig else []


def bare(known: Gpu) -> list[object]:
    return [dataclasses.replace(its, compute_instance=None, uuid="") for its in known.instances]


def test_one_gpu_that_is_lost_hides_no_other(partitioned: tuple[Twin, PynvmlNvml, list[str]], tmp_path: Path) -> None:
    twin, _, asked = partitioned
    for function in asked:
        if not function.startswith("nvmlDevice") or function in OF_ALL:
            continue
        twin.fault(function, code=Code.GPU_IS_LOST, times=-1, gpu=0)
        fresh = PynvmlNvml()
        try:
            found = look(fresh, tmp_path)
        finally:
            twin.clear_faults()
            fresh.close()
        told = [gpu.uuid for gpu in found.node.gpus]
        assert twin.gpu(1).uuid in told, function
        assert twin.gpu(0).uuid in told or found.notes or function in UNSEEN, f"{function}: no word of what is missing"
