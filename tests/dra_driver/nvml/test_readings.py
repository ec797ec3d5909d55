"""What NVML tells of the GPUs of each machine in the catalog arrives as values, unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from dra_driver.nvml.api import GpuLostError, NotFoundError, NotPermittedError, RecoveryAction
from dra_driver.nvml.reading import CORES_PER_MULTIPROCESSOR
from tests.dra_driver.twins import machine_below
from topology.catalog import machine, machine_names
from topology.facts import LinkKind
from twin.codes import Code


def test_versions_are_those_of_the_driver(tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie", driver_version="570.172.08", cuda_version="12.8") as (_, nvml, _):
        system = nvml.system()
    assert (system.driver_version, system.cuda_driver_version) == ("570.172.08", "12.8")
    assert system.nvml_version


@pytest.mark.parametrize("name", machine_names())
def test_links_that_npus_and_switches_end_are_told_from_those_of_peers(name: str, tmp_path: Path) -> None:
    known = machine(name)
    with machine_below(tmp_path, name) as (twin, nvml, _):
        gpus = nvml.gpus()
        addresses = {gpu.index: gpu.pci_address for gpu in gpus}
        for gpu in gpus:
            row = known.nvlink.matrix[gpu.index]
            remotes = [link.remote for link in gpu.links]
            if known.nvlink.kind is LinkKind.NVSWITCH:
                assert remotes == ["switch"] * max(row)
            else:
                for peer, count in enumerate(row):
                    ends = [link.remote_pci_address for link in gpu.links if link.remote == "gpu"]
                    assert ends.count(addresses[peer]) == count
                assert remotes.count("npu") == known.nvlink.links_to_cpu_per_gpu
            assert {link.mbps for link in gpu.links} <= {twin.facts.nvlink_mbps}


def test_every_architecture_in_the_catalog_has_a_known_number_of_cores_per_multiprocessor() -> None:
    capabilities = {tuple(map(int, machine(name).gpu.compute_capability.split("."))) for name in machine_names()}
    assert capabilities <= set(CORES_PER_MULTIPROCESSOR)


def test_recovery_actions_come_by_field_230(tmp_path: Path) -> None:
    with machine_below(tmp_path, "hgx-h100-8") as (twin, nvml, _):
        uuid = twin.gpu(3).uuid
        assert nvml.recovery_action(uuid) is RecoveryAction.NONE
        twin.recovery_action(3, 4)
        assert nvml.recovery_action(uuid) is RecoveryAction.DRAIN_AND_RESET
        twin.recovery_action(3, 99)
        assert nvml.recovery_action(uuid) is RecoveryAction.SYSTEM_REBOOT, "an action of a newer driver is no less"


def test_processes_are_those_of_all_kinds_once(tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie") as (twin, nvml, _):
        for pid, kind in ((30, "compute"), (20, "graphics"), (10, "mps"), (30, "graphics")):
            twin.process(1, pid, kind=kind)
        assert list(nvml.processes(twin.gpu(1).uuid)) == [10, 20, 30]
        assert list(nvml.processes(twin.gpu(0).uuid)) == []


def test_a_lost_gpu_is_left_out_and_named_and_comes_back(tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx-a100-40") as (twin, nvml, _):
        assert [gpu.index for gpu in nvml.gpus()] == list(range(8))
        twin.lose(2)
        gone = twin.gpu(2).uuid
        assert [gpu.index for gpu in nvml.gpus()] == [0, 1, 3, 4, 5, 6, 7]
        assert list(nvml.lost()) == [gone]
        with pytest.raises(GpuLostError):
            nvml.processes(gone)
        twin.recover(2)
        assert [gpu.index for gpu in nvml.gpus()] == list(range(8))
        assert not nvml.lost()
        assert not nvml.processes(gone)


def test_a_gpu_lost_while_all_are_read_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx-a100-40") as (twin, nvml, _):
        twin.fault("nvmlDeviceGetTopologyCommonAncestor", code=Code.GPU_IS_LOST, nth=20)
        assert [gpu.index for gpu in nvml.gpus()] == list(range(8))


def test_gpus_are_found_by_uuid_while_another_is_lost(tmp_path: Path) -> None:
    """NVML ends its search for a UUID at any lost GPU (nvml.h); the others are well, and must not be called lost."""
    with machine_below(tmp_path, "hgx-h100-8") as (twin, nvml, _):
        nvml.gpus()
        twin.lose(5)
        nvml.close()
        assert list(nvml.lost()) == [twin.gpu(5).uuid]
        assert not nvml.processes(twin.gpu(2).uuid)
        with pytest.raises(GpuLostError):
            nvml.processes(twin.gpu(5).uuid)


def test_a_gpu_that_fails_otherwise_is_not_the_word_on_those_that_are_lost(tmp_path: Path) -> None:
    with machine_below(tmp_path, "hgx-h100-8") as (twin, nvml, _):
        nvml.gpus()
        twin.lose(5)
        twin.fault("nvmlDeviceGetMemoryInfo", code=Code.UNKNOWN, times=-1, gpu=1)
        assert list(nvml.lost()) == [twin.gpu(5).uuid]


def test_rows_are_by_index_also_where_a_gpu_is_missing(tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx1-v100") as (twin, nvml, _):
        whole = {gpu.index: gpu for gpu in nvml.gpus()}
        twin.lose(3)
        for gpu in nvml.gpus():
            expected = ["" if peer == 3 else level for peer, level in enumerate(whole[gpu.index].pcie_levels)]
            assert list(gpu.pcie_levels) == expected
            assert gpu.nvlink_peers[3] is None


def test_an_unknown_uuid_is_not_found(tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie") as (_, nvml, _), pytest.raises(NotFoundError, match="HandleByUUID"):
        nvml.compute_mode("GPU-00000000-0000-0000-0000-000000000000")


def test_what_takes_root_says_so(tmp_path: Path) -> None:
    with machine_below(tmp_path, "hgx-h100-8") as (twin, nvml, _):
        with twin.change() as state:
            state.behaviour.privileged = False
        with pytest.raises(NotPermittedError, match="it takes root"):
            nvml.gpu_instance_profiles(twin.gpu(0).uuid)


def test_handles_are_looked_up_once(tmp_path: Path) -> None:
    """Looking one up takes seconds on a busy node (dra-driver-nvidia-gpu #378)."""
    with machine_below(tmp_path, "hgx-h100-8") as (twin, nvml, library):
        nvml.gpus()
        for _ in range(5):
            for facts in twin.facts.gpus:
                nvml.mig_mode(facts.uuid)
                nvml.processes(facts.uuid)
        assert library.calls["nvmlDeviceGetHandleByUUID"] == 0
        assert library.calls["nvmlDeviceGetHandleByIndex_v2"] == 8
        assert library.calls["nvmlInitWithFlags"] == 1
