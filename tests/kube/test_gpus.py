"""What is published of a machine says all that the planner knows of it: links, models, MIG; and what breaks is seen."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from dra_driver.publish import resource_slices
from dra_driver.simulated import simulated_gpus
from kube.gpulinks import PCIE_GENERATION
from kube.gpus import GpuLayout, read_layout
from kube.objects import ResourceSlice
from kube.pools import Pools
from packing.dra.model import GpuPart, PartKind, Pool
from packing.shapes import shape_of
from tests.kube.builders import DRIVER, Json, decoded, device, slice_of
from topology.catalog import machine, machine_names
from topology.machine import PCIE_GBYTE_S
from topology.modes import MigMode, Sharing

machines = pytest.mark.parametrize("name", machine_names())
GENERATIONS_APART = {"aws-p4d-24xlarge": 3, "gb300-nvl72-node": 6, "summit-ac922": 4}
"""Machines whose PCIe is not what their GPUs' architecture is built for."""


def published(name: str, mode: MigMode = MigMode.DYNAMIC, sharing: tuple[Sharing, ...] = tuple(Sharing)) -> list[Json]:
    return resource_slices(simulated_gpus(machine(name), "node-1", mig_mode=mode, sharing=sharing))


def pool_of(slices: list[Json]) -> Pool:
    pools = Pools(DRIVER)
    pools.replace(decoded(each, ResourceSlice) for each in slices)
    pools.refresh()
    (state,) = pools.states.values()
    assert state.pool is not None, state.fault
    return state.pool


def layout_of(slices: list[Json]) -> GpuLayout:
    return read_layout(pool_of(slices).shape)


def without(slices: list[Json], gone: Any) -> list[Json]:
    """Return slices without the devices for which `gone` is true of the name."""
    copy: list[Json] = msgspec.json.decode(msgspec.json.encode(slices))
    for each in copy:
        if "devices" in each["spec"]:
            each["spec"]["devices"] = [d for d in each["spec"]["devices"] if not gone(d["name"])]
    return copy


def changed(slices: list[Json], name: str, **attributes: Json) -> list[Json]:
    copy: list[Json] = msgspec.json.decode(msgspec.json.encode(slices))
    for each in copy:
        for found in each["spec"].get("devices", ()):
            if found["name"] == name:
                found["attributes"] |= attributes
    return copy


@machines
@pytest.mark.parametrize("mode", [MigMode.DISABLED, MigMode.DYNAMIC])
def test_links_come_back_as_the_planner_has_them(name: str, mode: MigMode) -> None:
    """Set quality to the megabyte that `nvlinkMBps` is rounded to; NVLink reach and the order of ties exactly.

    PCIe rates are those of the architecture's generation; NVLink never depends on them.
    """
    ours, theirs = layout_of(published(name, mode)).shape.links, shape_of(machine(name)).links
    assert ours.gpu_count == theirs.gpu_count
    assert np.array_equal(ours.nvlink, theirs.nvlink)
    scale = np.ones(len(theirs.quality_mbps))
    facts = machine(name)
    if name in GENERATIONS_APART:
        assert facts.pcie.generation == GENERATIONS_APART[name]
        rate = PCIE_GBYTE_S[PCIE_GENERATION[facts.gpu.architecture]] / PCIE_GBYTE_S[facts.pcie.generation]
        by_pcie = ours.quality_mbps != theirs.quality_mbps
        scale[by_pcie & (theirs.nvlink == 0)] = rate
    most_links = max((max(row) for row in facts.nvlink.matrix), default=0) * ours.gpu_count
    assert np.all(np.abs(ours.quality_mbps - theirs.quality_mbps * scale) <= max(1, most_links))
    for size in range(1, ours.gpu_count + 1):
        of_size = [mask for mask in range(1 << ours.gpu_count) if mask.bit_count() == size]
        assert ranks(ours.locality[of_size]) == ranks(theirs.locality[of_size])


def ranks(values: Any) -> list[int]:
    """Return the order of values, equal ones alike."""
    return [int(rank) for rank in np.unique(values, return_inverse=True)[1]]


@machines
@pytest.mark.parametrize("mode", [MigMode.DISABLED, MigMode.DYNAMIC])
def test_models_and_mode_come_back(name: str, mode: MigMode) -> None:
    layout = layout_of(published(name, mode))
    expected = shape_of(machine(name))
    assert layout.shape.gpus == expected.gpus
    can_be_cut = any(gpu.mig is not None for gpu in expected.gpus)
    assert layout.mig_mode is (mode if can_be_cut else MigMode.DISABLED)
    assert (layout.absent, layout.faults) == (frozenset(), ())


@machines
def test_gpus_fixed_in_mig_mode_publish_parts_alone_and_keep_their_geometry(name: str) -> None:
    layout = layout_of(published(name, MigMode.ENABLED))
    expected = shape_of(machine(name))
    assert [gpu.mig for gpu in layout.shape.gpus] == [gpu.mig for gpu in expected.gpus]
    assert [gpu.product for gpu in layout.shape.gpus] == [gpu.product for gpu in expected.gpus]
    assert layout.absent == frozenset()
    if all(gpu.mig is not None for gpu in expected.gpus):
        assert layout.mig_mode is MigMode.ENABLED
        assert not layout.shape.links.nvlink.any(), "a GPU in MIG mode has left the NVLink graph"


def test_every_device_says_what_of_which_gpu_it_is() -> None:
    parts = {each.name: each.part for each in pool_of(published("hgx-h100-8")).shape.devices}
    assert None not in parts.values()
    assert parts["gpu-3"] == GpuPart(3, PartKind.WHOLE)
    assert parts["gpu-3-mig-3g40gb-9-4"] == GpuPart(3, PartKind.PARTITION, "3g.40gb", 4)
    assert parts["gpu-3-mps"] == GpuPart(3, PartKind.SHARE, sharing=Sharing.MPS)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"type": "gpu"},
        {"type": "gpu", "index": 16},
        {"type": "gpu", "index": -1},
        {"type": "gpu", "index": True},
        {"type": "tpu", "index": 0},
        {"type": "mig", "index": 0, "profile": "1g.5gb"},
        {"type": "mig", "index": 0, "placementStart": 0},
        {"type": "share", "index": 0, "sharing": "telepathy"},
    ],
)
def test_a_device_that_does_not_say_is_no_part_of_a_gpu(attributes: Json) -> None:
    slices = slice_of("a", [device("x", attributes)])
    pools = Pools(DRIVER)
    pools.put(slices)
    pools.refresh()
    (pool,) = pools.usable(lambda _: True)
    assert pool.shape.devices[0].part is None
    layout = read_layout(pool.shape)
    assert layout.shape.gpus == ()
    assert layout.faults == ("device x does not say what of which GPU it is",)


class TestWhatBreaks:
    def test_a_missing_gpu_is_unhealthy_and_its_peers_keep_their_links(self) -> None:
        slices = published("dgx1-v100", sharing=())
        layout = layout_of(without(slices, lambda name: name == "gpu-2"))
        assert layout.absent == {2}
        others = [mask for mask in range(256) if not mask >> 2 & 1]
        expected = shape_of(machine("dgx1-v100")).links
        assert np.array_equal(layout.shape.links.quality_mbps[others], expected.quality_mbps[others])

    def test_the_last_gpu_missing_is_known_by_its_peers(self) -> None:
        layout = layout_of(without(published("dgx1-v100", sharing=()), lambda name: name == "gpu-7"))
        assert len(layout.shape.gpus) == 8
        assert layout.absent == {7}

    def test_a_gpu_without_its_whole_device_is_no_gpu_for_the_core(self) -> None:
        layout = layout_of(without(published("l4-8-pcie"), lambda name: name == "gpu-1"))
        assert layout.absent == {1}

    @pytest.mark.parametrize(("effect", "unhealthy"), [("NoSchedule", {0}), ("NoExecute", {0}), ("None", set())])
    def test_a_tainted_gpu_is_unhealthy_where_the_taint_keeps_pods_off(self, effect: str, unhealthy: set[int]) -> None:
        slices = published("l4-8-pcie")
        for each in slices:
            for found in each["spec"].get("devices", ()):
                if found["name"] == "gpu-0":
                    found["taints"] = [{"key": "gpu.dovetail.dev/xid", "effect": effect}]
        pool = pool_of(slices)
        assert read_layout(pool.shape).unhealthy(pool) == unhealthy

    def test_placements_that_are_not_nvidias_are_told_and_not_used(self) -> None:
        slices = without(published("dgx-a100-80"), lambda name: name.startswith("gpu-5-mig-1g") and name.endswith("-6"))
        layout = layout_of(slices)
        assert [gpu.mig is None for gpu in layout.shape.gpus] == [index == 5 for index in range(8)]
        assert layout.faults == ("GPU 5 publishes other MIG placements than are known of NVIDIA A100-SXM4-80GB",)

    def test_a_product_without_a_known_geometry(self) -> None:
        strange = {"string": "NVIDIA A999"}
        slices = published("dgx-a100-80")
        for name in [d["name"] for each in slices for d in each["spec"].get("devices", ())]:
            slices = changed(slices, name, productName=strange) if name.startswith("gpu-0") else slices
        layout = layout_of(slices)
        assert layout.shape.gpus[0].mig is None
        assert layout.faults == ("GPU 0 publishes other MIG placements than are known of NVIDIA A999",)

    def test_modes_that_differ(self) -> None:
        """One GPU with MIG off beside seven that switch is one that cannot be cut; fixed beside switching is told."""
        slices = published("dgx-a100-80")
        off = layout_of(without(slices, lambda name: name.startswith("gpu-0-mig")))
        assert off.mig_mode is MigMode.DYNAMIC
        assert [gpu.mig is None for gpu in off.shape.gpus] == [index == 0 for index in range(8)]
        fixed = layout_of(without(slices, lambda name: name in {"gpu-0", "gpu-0-mps", "gpu-0-time-slicing"}))
        assert fixed.faults == (
            "some GPUs are fixed in MIG mode and others switch; the quick way knows one mode a node",
        )


class TestT28AsymmetricLinks:
    """HAMi#2306 panicked on a link matrix that was not symmetric. Here the smaller count is used, and it is told."""

    SLICES = published("dgx1-v100", sharing=())

    def test_the_fewer_links_count(self) -> None:
        slices = changed(self.SLICES, "gpu-0", nvlinkPeers={"string": "0,1,1,0,2,0,0,0"})
        layout = layout_of(slices)
        assert layout.faults == ("GPUs 0 and 3 publish 0 and 2 NVLinks between them; 0 count",)
        assert not layout.shape.links.nvlink[0b1001]
        assert layout.shape.links.nvlink[0b0011]

    @pytest.mark.parametrize("peers", ["", "nonsense", "1", "1,2,3,0,5,6,7,8,9,10,11,12,13,14,15,16,17", "-1,9999,²,"])
    def test_whatever_is_published_nothing_fails(self, peers: str) -> None:
        layout = layout_of(changed(self.SLICES, "gpu-0", nvlinkPeers={"string": peers}))
        assert 8 <= len(layout.shape.gpus) <= 16
        assert not layout.shape.links.nvlink[0b1001]

    @pytest.mark.parametrize("levels", ["", "x", "9999", "0" * 30, "00000000"])
    def test_distances_that_are_none_are_far(self, levels: str) -> None:
        layout = layout_of(changed(published("l4-8-pcie", sharing=()), "gpu-0", pcieLevels={"string": levels}))
        assert len(layout.shape.gpus) in (8, 16)

    def test_links_of_different_speed_are_as_fast_as_the_slowest(self) -> None:
        layout = layout_of(changed(self.SLICES, "gpu-0", nvlinkMBps={"int": 1000}))
        assert layout.faults == ("GPUs publish NVLinks of 1000, 25000 MB/s; the slowest counts",)


def test_nodes_alike_share_their_tables_though_their_pools_differ() -> None:
    """A newer driver on one node makes another pool shape, and no other machine."""
    one = published("dgx-a100-80")
    two = changed(one, "gpu-0", driverVersion={"version": "999.0.0"})
    assert pool_of(one).shape is not pool_of(two).shape
    assert layout_of(one).shape is layout_of(two).shape
