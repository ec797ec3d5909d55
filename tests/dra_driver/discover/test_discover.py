"""Discovery of whole nodes: nothing before the driver is there, nothing changed, one bad GPU never hides the others."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pynvml
import pytest

from dra_driver.discover import discover
from dra_driver.errors import RetryableError
from dra_driver.inventory import MigInstance
from dra_driver.nvml.api import NvmlError
from dra_driver.policy import MigPolicy
from dra_driver.publish import resource_slices
from dra_driver.roots import Roots
from tests.dra_driver.discover.test_sysfs import GPU as GPU_PATH
from tests.dra_driver.discover.test_sysfs import put
from tests.dra_driver.twins import NODE, machine_below
from topology.modes import MigMode, Sharing
from twin.codes import Code
from twin.tree.sysfs import write_sys

A100, H100 = "dgx-a100-40", "hgx-h100-8"
CHANGES = ("Set", "Create", "Destroy", "Reset", "Clear", "Modify", "Freeze")


def test_discovery_changes_nothing(tmp_path: Path) -> None:
    """It only asks: no call that sets, creates or destroys, and the machine is afterwards what it was."""
    with machine_below(tmp_path, H100, mig_enabled=True) as (twin, nvml, library):
        nvml.create_gpu_instance(twin.gpu(0).uuid, 19, 2)
        before, asked = twin.state, Counter(library.calls)
        discover(nvml, Roots(sys=tmp_path), NODE)
        assert twin.state == before
        assert not [call for call in library.calls - asked if any(verb in call for verb in CHANGES)]


def test_t17_mig_devices_that_somebody_else_made_are_found_and_never_fatal(tmp_path: Path) -> None:
    """They sent NVIDIA's driver into a crash loop (dra-driver-nvidia-gpu #149); one has no compute instance yet."""
    with machine_below(tmp_path, A100, mig_enabled=True) as (twin, nvml, _):
        uuid = twin.gpu(2).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid) if nvml.gpus() else None
        bare = nvml.create_gpu_instance(uuid, 19, 6)
        split = nvml.create_gpu_instance(uuid, 9, 0)
        for _ in range(2):
            pynvml.nvmlGpuInstanceCreateComputeInstance(pynvml.nvmlDeviceGetGpuInstanceById(handle, split), 0)
        whole = nvml.create_gpu_instance(uuid, 14, 4)
        device = nvml.create_compute_instance(uuid, whole)
        node = discover(nvml, Roots(sys=tmp_path), NODE).node
    assert [len(gpu.instances) for gpu in node.gpus] == [0, 0, 4, 0, 0, 0, 0, 0]
    one, other, filled, empty = node.gpus[2].instances
    assert (one.profile, one.start, one.size, one.fills, other.fills) == ("3g.20gb", 0, 4, False, False)
    assert one.uuid != other.uuid
    assert filled == MigInstance(
        profile="2g.10gb",
        profile_id=14,
        start=4,
        size=2,
        gpu_instance=whole,
        compute_instance=device.id,
        uuid=device.uuid,
    )
    assert empty == MigInstance(profile="1g.5gb", profile_id=19, start=6, size=1, gpu_instance=bare)
    resource_slices(node)


def test_partitions_that_come_and_go_while_we_look_are_no_fault(tmp_path: Path) -> None:
    """Claims are prepared and end in other threads; what is told is something that was there."""
    with machine_below(tmp_path, H100) as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        looked = threading.Event()

        def churn() -> int:
            rounds = 0
            while not looked.is_set() or rounds < 3:
                nvml.set_mig_mode(uuid, enabled=True)
                number = nvml.create_gpu_instance(uuid, 19, rounds % 7)
                device = nvml.create_compute_instance(uuid, number)
                nvml.destroy_compute_instance(uuid, number, device.id)
                nvml.destroy_gpu_instance(uuid, number)
                nvml.set_mig_mode(uuid, enabled=False)
                rounds += 1
            return rounds

        with ThreadPoolExecutor(1) as pool:
            others = pool.submit(churn)
            try:
                for _ in range(20):
                    gpu = discover(nvml, Roots(sys=tmp_path), NODE).node.gpus[0]
                    assert {its.profile for its in gpu.instances} <= {"1g.10gb"}
                    assert len(gpu.nvlinks) == 8
            finally:
                looked.set()
            assert others.result() >= 3


@pytest.mark.parametrize(
    "call", ["nvmlGpuInstanceGetInfo", "nvmlDeviceGetGpuInstanceById", "nvmlComputeInstanceGetInfo"]
)
@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.INVALID_ARGUMENT])
def test_a_partition_that_goes_between_two_questions_is_gone(call: str, code: Code, tmp_path: Path) -> None:
    with machine_below(tmp_path, A100, mig_enabled=True) as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        nvml.create_compute_instance(uuid, nvml.create_gpu_instance(uuid, 9, 4))
        twin.fault(call, code=code)
        (gpu, *_) = discover(nvml, Roots(sys=tmp_path), NODE).node.gpus
    assert [its.uuid for its in gpu.instances] == ([""] if call == "nvmlComputeInstanceGetInfo" else [])


def test_a_gpu_on_the_bus_that_nvml_does_not_tell_is_noted(tmp_path: Path) -> None:
    """Given to a virtual machine, or lost before we came."""
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        write_sys(tmp_path, twin.facts, "580.105.08")
        put(tmp_path / "sys", GPU_PATH, vendor="0x10de", **{"class": "0x030200"})
        found = discover(nvml, Roots(sys=tmp_path / "sys"), NODE)
    assert len(found.node.gpus) == 4
    assert [note for note in found.notes if "0000:53:00.0" in note] == list(found.notes)
    assert len(found.notes) == 1


@pytest.mark.parametrize("policy", MigPolicy)
@pytest.mark.parametrize("name", [A100, H100, "l40s-4-pcie"])
@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("existing", [False, True])
def test_t15_n1092_every_mix_of_mig_and_policy_can_be_published(
    policy: MigPolicy, name: str, on: bool, existing: bool, tmp_path: Path
) -> None:
    """MIG-capable or not, on or off, partitioned or not: static, dynamic and no MIG each went another's way there."""
    with machine_below(tmp_path, name, mig_enabled=on) as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        partitioned = existing and on and bool(nvml.gpu_instance_profiles(uuid))
        if partitioned:
            nvml.create_compute_instance(uuid, nvml.create_gpu_instance(uuid, 9, 4))
        found = discover(nvml, Roots(sys=tmp_path), NODE, policy)
    for slice_ in resource_slices(found.node):
        for counters in slice_["spec"].get("sharedCounters", ()):
            assert counters["counters"], "a counter set without counters is refused by the API server (#1092)"
    first = next((gpu for gpu in found.node.gpus if gpu.uuid == uuid), None)
    if partitioned:
        assert first is not None
        assert len(first.instances) == 1
        assert first.mig_mode is not MigMode.DISABLED
    if first is not None:
        assert (first.mig is None) == (name == "l40s-4-pcie")
        assert first.mig is not None or first.mig_mode is MigMode.DISABLED


def test_a_policy_that_makes_no_parts_shows_those_that_exist_and_no_more(tmp_path: Path) -> None:
    with machine_below(tmp_path, A100, mig_enabled=True) as (twin, nvml, _):
        uuid = twin.gpu(3).uuid
        nvml.create_compute_instance(uuid, nvml.create_gpu_instance(uuid, 9, 4))
        found = discover(nvml, Roots(sys=tmp_path), NODE, MigPolicy.DISABLED)
    (gpu,) = found.node.gpus
    assert gpu.mig is not None
    assert [(profile.name, profile.starts) for profile in gpu.mig.profiles] == [("3g.20gb", (4,))]
    assert gpu.mig.memory_slices == 8
    assert len([note for note in found.notes if "MIG policy is to make none; it is not published" in note]) == 7


def test_without_root_a_gpu_is_published_whole_and_one_with_mig_on_not_at_all(tmp_path: Path) -> None:
    for on in (False, True):
        with machine_below(tmp_path / str(on), H100, mig_enabled=on) as (twin, nvml, _):
            with twin.change() as state:
                state.behaviour.privileged = False
            found = discover(nvml, Roots(sys=tmp_path), NODE)
        assert len(found.node.gpus) == (0 if on else 8)
        assert all(gpu.mig is None and gpu.mig_mode is MigMode.DISABLED for gpu in found.node.gpus)
        assert all("root" in note for note in found.notes)
        assert len(found.notes) >= 8


def test_mig_is_never_switched_on_a_gpu_of_unknown_capability(tmp_path: Path) -> None:
    """It may be an Ampere, where it takes a reset (dra-driver-nvidia-gpu #883)."""
    lacks = ["nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetArchitecture"]
    for on in (False, True):
        with machine_below(tmp_path / str(on), A100, mig_enabled=on, lacks=lacks) as (_, nvml, _):
            node = discover(nvml, Roots(sys=tmp_path), NODE).node
        assert {gpu.mig_mode for gpu in node.gpus} == {MigMode.ENABLED if on else MigMode.DISABLED}


def test_a_guest_of_vgpu_offers_whole_gpus_only(tmp_path: Path) -> None:
    with machine_below(tmp_path, A100, vgpu_guest=True) as (_, nvml, _):
        node = discover(nvml, Roots(sys=tmp_path), NODE).node
    assert [(gpu.mig, gpu.mig_mode, gpu.sharing) for gpu in node.gpus] == [(None, MigMode.DISABLED, ())] * 8


def test_a_lost_gpu_is_noted_and_the_others_are_published(tmp_path: Path) -> None:
    with machine_below(tmp_path, A100) as (twin, nvml, _):
        nvml.gpus()
        twin.lose(5)
        found = discover(nvml, Roots(sys=tmp_path), NODE)
    assert [gpu.index for gpu in found.node.gpus] == [0, 1, 2, 3, 4, 6, 7]
    assert [note for note in found.notes if twin.gpu(5).uuid in note]
    for gpu in found.node.gpus:
        assert gpu.nvlinks[5] == 0
        assert gpu.pcie_levels[5] == "SYS"
    resource_slices(found.node)


def test_a_gpu_lost_while_its_partitions_are_read_is_noted(tmp_path: Path) -> None:
    with machine_below(tmp_path, A100) as (twin, nvml, _):
        twin.fault("nvmlDeviceGetGpuInstanceProfileInfo", code=Code.GPU_IS_LOST, gpu=1)
        found = discover(nvml, Roots(sys=tmp_path), NODE)
    assert [gpu.index for gpu in found.node.gpus] == [0, 2, 3, 4, 5, 6, 7]
    assert "GPU 1" in found.notes[0]


def test_a_gpu_without_memory_of_its_own_is_noted(tmp_path: Path) -> None:
    """Integrated GPUs share the host's; NVML says NOT_SUPPORTED."""
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        twin.fault("nvmlDeviceGetMemoryInfo", code=Code.NOT_SUPPORTED, times=-1, gpu=0)
        found = discover(nvml, Roots(sys=tmp_path), NODE)
    assert [gpu.index for gpu in found.node.gpus] == [1, 2, 3]
    assert "no memory" in found.notes[0]


def test_cards_and_places_are_those_of_sysfs(tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx-a100-40") as (twin, nvml, _):
        write_sys(tmp_path, twin.facts, "580.105.08")
        gpu = discover(nvml, Roots(sys=tmp_path / "sys"), NODE).node.gpus[0]
    assert (gpu.nics, gpu.nic_level, gpu.numa_node) == (("mlx5_0", "mlx5_1"), "PXB", 3)
    assert gpu.pcie_root.startswith("pci0000:")


@pytest.mark.parametrize("sharing", [(), (Sharing.MPS,), tuple(Sharing)])
def test_shares_are_offered_as_the_operator_says(sharing: tuple[Sharing, ...], tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie") as (_, nvml, _):
        node = discover(nvml, Roots(sys=tmp_path), NODE, sharing=sharing).node
    assert {gpu.sharing for gpu in node.gpus} == {sharing}


def test_before_volta_mps_keeps_no_memory_apart_and_is_not_offered(tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx1-p100") as (_, nvml, _):
        node = discover(nvml, Roots(sys=tmp_path), NODE).node
    assert {gpu.sharing for gpu in node.gpus} == {(Sharing.TIME_SLICING,)}


@pytest.mark.parametrize("code", [Code.DRIVER_NOT_LOADED, Code.UNINITIALIZED])
def test_a_driver_that_is_not_loaded_is_worth_another_try(code: Code, tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        twin.fault("nvmlInitWithFlags", code=code, times=-1)
        with pytest.raises(RetryableError, match=f"node {NODE}: the GPUs cannot be asked: nvmlInitWithFlags"):
            discover(nvml, Roots(sys=tmp_path), NODE)


def test_n1008_a_driver_that_comes_after_us_is_found_and_nothing_is_told_before(tmp_path: Path) -> None:
    """The first failure was the last word (dra-driver-nvidia-gpu #1008, #1009)."""
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        twin.fault("nvmlInitWithFlags", code=Code.DRIVER_NOT_LOADED, times=3)
        for _ in range(3):
            with pytest.raises(RetryableError):
                discover(nvml, Roots(sys=tmp_path), NODE)
        assert len(discover(nvml, Roots(sys=tmp_path), NODE).node.gpus) == 4


def test_gpus_that_the_driver_does_not_know_yet_are_no_empty_node(tmp_path: Path) -> None:
    """An empty pool would stay empty for ever (dra-driver-nvidia-gpu #1008)."""
    put(tmp_path, GPU_PATH, vendor="0x10de", **{"class": "0x030200"})
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        twin.fault("nvmlDeviceGetCount", code=Code.SUCCESS, times=-1)
        with pytest.raises(RetryableError, match=r"knows no GPU, but 0000:53:00\.0 on the PCI bus"):
            discover(nvml, Roots(sys=tmp_path), NODE)


def test_a_node_without_gpus_is_an_empty_node(tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        twin.fault("nvmlDeviceGetCount", code=Code.SUCCESS, times=-1)
        assert discover(nvml, Roots(sys=tmp_path), NODE).node.gpus == ()


@pytest.mark.parametrize("function", ["nvmlDeviceGetName", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo"])
def test_what_nvml_refuses_of_all_gpus_is_told_as_it_is(function: str, tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        twin.fault(function, code=Code.UNKNOWN, times=-1)
        with pytest.raises(NvmlError, match=f"{function}(_v2)?: Unknown Error"):
            discover(nvml, Roots(sys=tmp_path), NODE)


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"])
def test_a_gpu_that_is_an_unknown_error_to_nvml_hides_no_other(function: str, tmp_path: Path) -> None:
    """So does NVML often tell one that had fallen off the bus before it was opened; seven others are well."""
    with machine_below(tmp_path, H100) as (twin, nvml, _):
        twin.fault(function, code=Code.UNKNOWN)
        found = discover(nvml, Roots(sys=tmp_path), NODE)
    assert [gpu.index for gpu in found.node.gpus] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("function", ["nvmlDeviceGetName", "nvmlDeviceGetGpuInstanceProfileInfo"])
def test_a_gpu_that_nvml_cannot_read_is_noted_and_hides_no_other(function: str, tmp_path: Path) -> None:
    with machine_below(tmp_path, H100) as (twin, nvml, _):
        twin.fault(function, code=Code.UNKNOWN, times=-1, gpu=3)
        found = discover(nvml, Roots(sys=tmp_path), NODE)
    assert [gpu.index for gpu in found.node.gpus] == [0, 1, 2, 4, 5, 6, 7]
    assert any(twin.gpu(3).uuid in note for note in found.notes)


def test_a_gpu_that_fails_once_is_read_again(tmp_path: Path) -> None:
    with machine_below(tmp_path, H100) as (twin, nvml, _):
        twin.fault("nvmlDeviceGetName", code=Code.UNKNOWN)
        found = discover(nvml, Roots(sys=tmp_path), NODE)
    assert len(found.node.gpus) == 8
    assert not found.notes
