"""The named tests of other drivers' bugs find them: each passes, and fails once its bug is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from dra_driver.discover import node, nvlinks
from dra_driver.inventory import MigInstance
from dra_driver.nvml import mig, reading
from dra_driver.nvml.api import DriverNotLoadedError, NotSupportedError
from dra_driver.nvml.session import ask, fault
from tests.dra_driver.discover import test_discover, test_nvlinks
from tests.dra_driver.nvml import test_migdevices, test_readings
from tests.dra_driver.twins import machine_below
from topology.mig import MigGeometry

Patch = pytest.MonkeyPatch


def partitions_have_one_device(patch: Patch) -> None:
    """Every GPU instance is taken to have a compute instance, as those that the driver makes (NVIDIA #149)."""

    def instances(geometry: Any, gpu_instances: Any, compute_instances: Any) -> tuple[MigInstance, ...]:
        return tuple(
            MigInstance(
                profile="",
                profile_id=one.profile_id,
                start=one.start,
                size=one.size,
                gpu_instance=one.id,
                uuid=compute_instances[one.id][0].uuid,
            )
            for one in gpu_instances
        )

    patch.setattr(node, "instances_of", instances)


def every_gpu_can_be_partitioned(patch: Patch) -> None:
    """A GPU without profiles gets a geometry without any (NVIDIA #1092)."""
    real = node.geometry_of

    def geometry(gpu: Any, profiles: Any) -> Any:
        empty = MigGeometry(id="empty", products=(gpu.product,), memory_slices=1, profiles=())
        return real(gpu, profiles) if profiles else (empty, ())

    patch.setattr(node, "geometry_of", geometry)


def no_gpus_is_an_answer(patch: Patch) -> None:
    """What NVML does not know yet is not there (NVIDIA #1008)."""
    patch.setattr(node, "nvidia_gpus", lambda sys: ())


def a_driver_not_loaded_ends_discovery(patch: Patch) -> None:
    """The first attempt is the last (NVIDIA #1008)."""
    patch.setattr(node, "DriverNotLoadedError", KeyError)


def one_end_speaks_for_both(patch: Patch) -> None:
    """Links are what the GPU with the lower index says (HAMi #2306)."""

    def joined(gpus: Any, ends: Any, one: int, other: int) -> int:
        links = ends[min(one, other)].direct
        return int(links.get(max(one, other), 0))

    patch.setattr(nvlinks, "_joined", joined)


def modes_may_be_pending(patch: Patch) -> None:
    """The mode is asked for, and what becomes of it is not looked at (NVIDIA #883)."""

    def set_mode(handle: Any, *, enabled: bool) -> None:
        if ask(pynvml.nvmlDeviceSetMigMode, handle, int(enabled)):
            raise fault("nvmlDeviceSetMigMode", pynvml.NVML_ERROR_RESET_REQUIRED)

    patch.setattr(mig, "set_mode", set_mode)


def half_made_instances_stay(patch: Patch) -> None:
    """A GPU instance whose information cannot be read is left behind (NVIDIA #1452)."""

    def create(handle: Any, profile: Any, start: int) -> int:
        placement = pynvml.byref(pynvml.c_nvmlGpuInstancePlacement_t(start, profile.size))
        made = ask(pynvml.nvmlDeviceCreateGpuInstanceWithPlacement, handle, profile.profile_id, placement)
        return int(ask(pynvml.nvmlGpuInstanceGetInfo, made).id)

    patch.setattr(mig, "create_gpu_instance", create)


def one_lost_gpu_is_all_lost(patch: Patch) -> None:
    """Each GPU that asks how far a lost one is counts as lost itself (NVIDIA: one GPU_IS_LOST marks all)."""
    patch.setattr(reading, "pcie_level", lambda one, other: ask(pynvml.nvmlDeviceGetTopologyCommonAncestor, one, other))


def last_profile_first(patch: Patch) -> None:
    """Compute instance profiles are tried from the last: 7_SLICE_NVL before 7_SLICE (NVIDIA #1480)."""
    patch.setattr(mig, "COMPUTE_PROFILES", tuple(reversed(range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT))))


def on_a100(proof: Callable[[Any], None]) -> Callable[[Path], None]:
    def proved(folder: Path) -> None:
        with machine_below(folder, test_migdevices.A100, mig_enabled=True) as (twin, nvml, _):
            proof((twin, nvml))

    return proved


def a_gpu_without_mig_is_published(folder: Path) -> None:
    test_discover.test_t15_n1092_every_mix_of_mig_and_policy_can_be_published(
        test_discover.MigPolicy.DYNAMIC, "l40s-4-pcie", False, False, folder
    )


def ends_that_differ(folder: Path) -> None:
    test_nvlinks.test_t28_ends_that_differ_get_the_fewer_links_and_a_note()


FAILS = (AssertionError, pytest.fail.Exception)
Fault = type[BaseException]
SEEDED: list[tuple[Callable[[Patch], None], Callable[[Path], None], Fault | tuple[Fault, ...]]] = [
    (
        partitions_have_one_device,
        test_discover.test_t17_mig_devices_that_somebody_else_made_are_found_and_never_fatal,
        IndexError,
    ),
    (every_gpu_can_be_partitioned, a_gpu_without_mig_is_published, FAILS),
    (no_gpus_is_an_answer, test_discover.test_gpus_that_the_driver_does_not_know_yet_are_no_empty_node, FAILS),
    (
        a_driver_not_loaded_ends_discovery,
        test_discover.test_n1008_a_driver_that_comes_after_us_is_found_and_nothing_is_told_before,
        DriverNotLoadedError,
    ),
    (one_end_speaks_for_both, ends_that_differ, FAILS),
    (modes_may_be_pending, test_migdevices.test_no_mode_is_left_pending_where_it_takes_a_reset, FAILS),
    (
        half_made_instances_stay,
        on_a100(test_migdevices.test_nothing_is_left_of_a_gpu_instance_whose_id_could_not_be_read),
        FAILS,
    ),
    (
        one_lost_gpu_is_all_lost,
        test_readings.test_a_gpu_lost_while_all_are_read_does_not_take_the_others_with_it,
        FAILS,
    ),
    (
        last_profile_first,
        on_a100(test_migdevices.test_n1480_the_revision_of_a_compute_profile_is_never_taken),
        NotSupportedError,
    ),
]


@pytest.mark.parametrize(("bug", "proof", "failure"), SEEDED, ids=lambda each: getattr(each, "__name__", ""))
def test_the_named_test_fails_with_its_bug(
    bug: Callable[[Patch], None],
    proof: Callable[[Path], None],
    failure: Fault | tuple[Fault, ...],
    monkeypatch: Patch,
    tmp_path: Path,
) -> None:
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    proof(tmp_path / "right")
    bug(monkeypatch)
    with pytest.raises(failure):
        proof(tmp_path / "wrong")
