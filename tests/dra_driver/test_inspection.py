"""What is remembered between two looks for the GPUs: those that are gone, what is ours, what MIG hides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dra_driver.discover import discover
from dra_driver.inspection import Inspection
from dra_driver.nvml.api import NvmlError
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.prepare.model import ClaimRef, DeviceIntent, Made, MigTarget, Phase, Record
from dra_driver.publish import resource_slices
from dra_driver.roots import Roots
from tests.dra_driver.twins import NODE, machine_below
from twin import Twin
from twin.codes import Code

NO_FABRIC = ("nvmlDeviceGetGpuFabricInfoV",)


@contextmanager
def inspected(
    folder: Path, records: Sequence[Record] = (), **options: Any
) -> Iterator[tuple[Twin, PynvmlNvml, Inspection]]:
    with machine_below(folder, "hgx-h100-8", **options) as (twin, nvml, _):
        yield twin, nvml, Inspection(nvml, lambda: discover(nvml, Roots(sys=folder), NODE), lambda: records)


def hide_ends(twin: Twin) -> None:
    """As virtual machines do: what is at the far end of a link is not told."""
    for function in ("nvmlDeviceGetNvLinkRemotePciInfo", "nvmlDeviceGetNvLinkRemoteDeviceType"):
        twin.fault(function, code=Code.NOT_SUPPORTED, times=-1)


def deny_links(twin: Twin) -> None:
    """All links of the first GPU are down."""
    for link in range(18):
        twin.link(0, link, up=False)


@pytest.mark.parametrize("hide", [hide_ends, deny_links])
def test_links_that_mig_hides_stay_as_they_were_seen(hide: Any, tmp_path: Path) -> None:
    """Without a fabric to ask, NVML denies peers while MIG is on: each partition would rewrite the slices."""
    with inspected(tmp_path, lacks=NO_FABRIC) as (twin, nvml, inspection):
        if hide is hide_ends:
            hide(twin)
        before = inspection.look()
        assert before.gpus[1].nvlinks[0] == 18
        nvml.set_mig_mode(twin.gpu(0).uuid, enabled=True)
        if hide is deny_links:
            hide(twin)
        assert resource_slices(inspection.look()) == resource_slices(before)


def test_links_that_fail_while_nothing_is_partitioned_are_gone(tmp_path: Path) -> None:
    with inspected(tmp_path) as (twin, _, inspection):
        inspection.look()
        deny_links(twin)
        assert not any(inspection.look().gpus[0].nvlinks)


def test_a_link_that_fails_elsewhere_while_a_gpu_is_partitioned_is_gone(tmp_path: Path) -> None:
    with inspected(tmp_path) as (twin, nvml, inspection):
        inspection.look()
        nvml.set_mig_mode(twin.gpu(0).uuid, enabled=True)
        twin.link(3, 0, up=False)
        rows = [gpu.nvlinks for gpu in inspection.look().gpus]
    assert (rows[3][4], rows[4][3], rows[4][5]) == (17, 17, 18)


def test_a_lost_gpu_stays_until_it_is_back(tmp_path: Path) -> None:
    with inspected(tmp_path) as (twin, _, inspection):
        before = inspection.look()
        twin.lose(2)
        assert [gpu.uuid for gpu in inspection.look().gpus] == [gpu.uuid for gpu in before.gpus]
        twin.recover(2)
        assert inspection.look() == before


@pytest.mark.parametrize("function", ["nvmlDeviceGetName", "nvmlDeviceGetGpuInstances"])
def test_a_gpu_that_cannot_be_read_stays_as_it_was(function: str, tmp_path: Path) -> None:
    with inspected(tmp_path, mig_enabled=True) as (twin, _, inspection):
        before = inspection.look()
        twin.fault(function, code=Code.UNKNOWN, times=-1, gpu=2)
        after = inspection.look()
    assert after.gpus[2] == before.gpus[2]
    assert [gpu.uuid for gpu in after.gpus] == [gpu.uuid for gpu in before.gpus]


def test_where_no_gpu_can_be_read_the_last_ones_stay(tmp_path: Path) -> None:
    with inspected(tmp_path) as (twin, _, inspection):
        before = inspection.look()
        twin.fault("nvmlDeviceGetName", code=Code.UNKNOWN, times=-1)
        with pytest.raises(NvmlError):
            inspection.look()
        assert inspection.node() is before


def test_mig_devices_of_claims_are_not_there_and_those_of_others_are(tmp_path: Path) -> None:
    records: list[Record] = []
    with inspected(tmp_path, records, mig_enabled=True) as (twin, nvml, inspection):
        uuid = twin.gpu(0).uuid
        records.append(record(uuid))
        for start in (0, 6):
            nvml.create_compute_instance(uuid, nvml.create_gpu_instance(uuid, 19, start))
        assert [each.start for each in inspection.look().gpus[0].instances] == [6]


def record(uuid: str) -> Record:
    target = MigTarget(profile="1g.10gb", profile_id=19, start=0, size=1)
    intent = DeviceIntent(request="r", pool="p", device="d", gpu_uuid=uuid, minor=0, mig=target)
    claim = ClaimRef(namespace="n", name="c", uid="u")
    return Record(claim=claim, boot_id="b", phase=Phase.COMPLETED, devices=(intent,), made=(Made(),))
