"""Faults, events, lost GPUs, old drivers, virtual machines: what the driver must live with, on demand."""

import os
import resource
import threading
import time
from contextlib import ExitStack
from ctypes import byref, c_uint
from pathlib import Path

import pynvml
import pytest

from tests.twin.nvmlcalls import code, compute_instances, create, gpu, gpu_instances
from twin import Twin
from twin.drivers import LACKS_R470

XID, RECOVERY = pynvml.nvmlEventTypeXidCriticalError, pynvml.nvmlEventTypeGpuRecoveryAction


def watch(*indices: int, types: int = XID | RECOVERY):
    events = pynvml.nvmlEventSetCreate()
    for index in indices:
        pynvml.nvmlDeviceRegisterEvents(gpu(index), types, events)
    return events


def test_a_fault_hits_the_nth_call_and_no_other(h100):
    h100.fault("nvmlDeviceGetMemoryInfo", code=pynvml.NVML_ERROR_UNKNOWN, nth=2, times=2)
    answers = [code(pynvml.nvmlDeviceGetMemoryInfo, gpu()) for _ in range(4)]
    assert answers == [0, 999, 999, 0]


def test_a_fault_of_one_gpu_spares_the_others(h100):
    h100.fault("nvmlDeviceGetUUID", code=pynvml.NVML_ERROR_GPU_IS_LOST, times=-1, gpu=3)
    assert [code(pynvml.nvmlDeviceGetUUID, gpu(at)) for at in (2, 3, 3, 4)] == [0, 15, 15, 0]


@pytest.mark.parametrize("after", [False, True])
def test_a_create_that_fails_has_no_effect_or_a_hidden_one(h100, after):
    pynvml.nvmlDeviceSetMigMode(gpu(), 1)
    h100.fault("nvmlDeviceCreateGpuInstanceWithPlacement", code=pynvml.NVML_ERROR_UNKNOWN, after=after)
    assert code(create, gpu(), 19, 3, 1) == pynvml.NVML_ERROR_UNKNOWN
    assert len(h100.state.gpus[0].instances) == after


def test_a_hang_ends_when_it_is_cleared(h100):
    h100.fault("nvmlDeviceGetName", hang=True)
    thread = threading.Thread(target=pynvml.nvmlDeviceGetName, args=(gpu(),))
    thread.start()
    while h100.state.faults[0].times:
        time.sleep(0.001)
    assert thread.is_alive()
    h100.clear_faults()
    thread.join(10)
    assert not thread.is_alive()


def test_a_delay_is_waited(h100):
    h100.fault("nvmlDeviceGetName", delay_s=0.05)
    began = time.monotonic()
    pynvml.nvmlDeviceGetName(gpu())
    assert time.monotonic() - began >= 0.05


def test_every_process_is_told_every_xid_once(h100):
    events, child = watch(0, 1), Twin.open(h100.folder)
    child.xid(1, 48, recovery_action=1)
    child.xid(2, 79)
    told = [pynvml.nvmlEventSetWait_v2(events, 1000) for _ in range(2)]
    assert [(one.eventType, one.eventData) for one in told] == [(XID, 48), (RECOVERY, 1)]
    assert pynvml.nvmlDeviceGetIndex(told[0].device) == 1
    assert told[0].gpuInstanceId == told[0].computeInstanceId == 0xFFFFFFFF
    assert code(pynvml.nvmlEventSetWait_v2, events, 0) == pynvml.NVML_ERROR_TIMEOUT, "GPU 2 is not watched"
    (value,) = pynvml.nvmlDeviceGetFieldValues(gpu(1), [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    assert (value.nvmlReturn, value.value.uiVal) == (0, 1)


def test_a_waiter_is_woken_by_an_xid_of_another_thread(h100):
    events, told = watch(0), []
    thread = threading.Thread(target=lambda: told.append(pynvml.nvmlEventSetWait_v2(events, 20_000)))
    thread.start()
    h100.xid(0, 63, mig_device=(2, 0))
    thread.join(10)
    assert [(one.eventData, one.gpuInstanceId, one.computeInstanceId) for one in told] == [(63, 2, 0)]


def test_events_from_before_registration_are_not_told(h100):
    h100.xid(0, 48)
    assert code(pynvml.nvmlEventSetWait_v2, watch(0), 0) == pynvml.NVML_ERROR_TIMEOUT


def test_a_lost_gpu_answers_nothing_and_comes_back_empty(h100):
    handle, events = gpu(3), watch(3)
    pynvml.nvmlDeviceSetMigMode(handle, 1)
    create(handle, 19, 0, 1)
    h100.lose(3)
    assert pynvml.nvmlEventSetWait_v2(events, 1000).eventData == 79
    assert code(pynvml.nvmlEventSetWait_v2, events, 1000) == pynvml.NVML_ERROR_GPU_IS_LOST
    for call in (pynvml.nvmlDeviceGetUUID, pynvml.nvmlDeviceGetMigMode, pynvml.nvmlDeviceGetMemoryInfo):
        assert code(call, handle) == pynvml.NVML_ERROR_GPU_IS_LOST
    assert code(pynvml.nvmlDeviceGetHandleByIndex, 3) == pynvml.NVML_ERROR_GPU_IS_LOST
    assert pynvml.nvmlDeviceGetCount() == 8
    h100.recover(3)
    assert pynvml.nvmlDeviceGetMigMode(handle) == [0, 0]


def test_an_old_driver_lacks_functions(tmp_path):
    twin = Twin.create(tmp_path / "t", "dgx-a100-40", driver_version="470.256.02", lacks=LACKS_R470)
    with twin.install():
        pynvml.nvmlInit()
        newer = code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, gpu(), 0)
        assert newer == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
        assert pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu(), 0, version=1).id == 19
        (value,) = pynvml.nvmlDeviceGetFieldValues(gpu(), [230])
        assert value.nvmlReturn == pynvml.NVML_ERROR_INVALID_ARGUMENT
        assert pynvml.nvmlDeviceGetSupportedEventTypes(gpu()) & (XID | RECOVERY) == XID
        assert code(watch, 0) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_struct_versions_and_sizes_are_checked(h100):
    wrong = pynvml.nvmlMemory_v2 + 1
    assert code(pynvml.nvmlDeviceGetMemoryInfo, gpu(), wrong) == pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH
    info = pynvml.c_nvmlGpuFabricInfo_v3_t()
    info.version = pynvml.nvmlGpuFabricInfo_v2
    refused = code(pynvml.nvmlDeviceGetGpuFabricInfoV, gpu(), byref(info))
    assert refused == pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH


def test_a_vgpu_guest_cannot_be_changed(tmp_path):
    twin = Twin.create(tmp_path / "t", "hgx-h100-8", vgpu_guest=True, mig_enabled=True)
    with twin.install():
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetVirtualizationMode(gpu()) == pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU
        assert code(pynvml.nvmlDeviceGetMigMode, gpu()) == pynvml.NVML_ERROR_NOT_SUPPORTED
        assert code(pynvml.nvmlDeviceSetComputeMode, gpu(), 3) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_where_gpus_cannot_be_reset_ampere_never_leaves_pending(tmp_path):
    twin = Twin.create(tmp_path / "t", "azure-nc96ads-a100-v4", reset_supported=False)
    with twin.install():
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == pynvml.NVML_ERROR_NOT_SUPPORTED
        assert pynvml.nvmlDeviceGetMigMode(gpu()) == [0, 1]


def test_a_reboot_keeps_only_what_the_board_keeps(a100, tmp_path):
    a100.write_tree(tmp_path / "host")
    boot_id = tmp_path / "host/proc/sys/kernel/random/boot_id"
    before = boot_id.read_text()
    pynvml.nvmlDeviceSetMigMode(gpu(), 1)
    a100.process(1, os.getpid())
    a100.reboot()
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [1, 1], "Ampere keeps the mode, and a boot makes it real"
    assert a100.state.gpus[1].processes == []
    assert boot_id.read_text() != before


def test_ids_are_used_again_and_uuids_as_the_twin_is_told(tmp_path):
    for repeat in (False, True):
        twin = Twin.create(tmp_path / f"t{repeat}", "hgx-h100-8", mig_enabled=True, repeat_mig_uuids=repeat)
        with twin.install():
            pynvml.nvmlInit()
            seen = []
            for _ in range(2):
                instance = create(gpu(), 19, 0, 1)
                compute = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 0)
                info = pynvml.nvmlComputeInstanceGetInfo(compute)
                seen.append((info.id, pynvml.nvmlDeviceGetUUID(info.device)))
                pynvml.nvmlComputeInstanceDestroy(compute)
                pynvml.nvmlGpuInstanceDestroy(instance)
            assert seen[0][0] == seen[1][0]
            assert (seen[0][1] == seen[1][1]) == repeat


def test_process_lists_ask_for_room(h100):
    for pid in range(5):
        h100.process(0, pid + 1)
    count, array = c_uint(2), (pynvml.c_nvmlProcessInfo_v2_t * 2)()
    short = pynvml.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3(gpu(), byref(count), array)
    assert (short, count.value) == (pynvml.NVML_ERROR_INSUFFICIENT_SIZE, 5)
    assert [one.pid for one in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu())] == [1, 2, 3, 4, 5]


def test_no_gpu_is_found_by_uuid_while_any_is_lost(h100):
    name = pynvml.nvmlDeviceGetUUID(gpu(0))
    h100.lose(3)
    assert code(pynvml.nvmlDeviceGetHandleByUUID, name) == pynvml.NVML_ERROR_GPU_IS_LOST
    h100.recover(3)
    assert code(pynvml.nvmlDeviceGetHandleByUUID, name) == 0


def test_listing_instances_takes_privilege(h100):
    pynvml.nvmlDeviceSetMigMode(gpu(), 1)
    made = create(gpu(), 19, 0, 1)
    with h100.change() as state:
        state.behaviour.privileged = False
    for call in (
        lambda: gpu_instances(gpu(), 19),
        lambda: pynvml.nvmlDeviceGetGpuInstanceById(gpu(), 0),
        lambda: compute_instances(made, 0),
        lambda: pynvml.nvmlGpuInstanceGetComputeInstanceById(made, 0),
    ):
        assert code(call) == pynvml.NVML_ERROR_NO_PERMISSION


def test_event_sets_end_with_the_session(h100):
    events = watch(0)
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    assert code(pynvml.nvmlEventSetWait_v2, events, 0) == pynvml.NVML_ERROR_INVALID_ARGUMENT


def test_minors_are_those_of_the_device_nodes(tmp_path):
    twin = Twin.create(tmp_path / "t", "t4-4-pcie", minors=(5, 0, 2, 1))
    twin.write_tree(tmp_path / "host")
    with twin.install():
        pynvml.nvmlInit()
        assert [pynvml.nvmlDeviceGetMinorNumber(gpu(at)) for at in range(4)] == [5, 0, 2, 1]
    assert {path.name for path in (tmp_path / "host/dev").glob("nvidia[0-9]")} == {f"nvidia{at}" for at in (0, 1, 2, 5)}


def test_events_come_to_programs_with_many_open_files(h100):
    """select() refuses descriptors beyond 1023, and a driver's health monitoring then saw nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with Path(os.devnull).open() as nothing, ExitStack() as taken:
        for _ in range(1024):
            taken.callback(os.close, os.dup(nothing.fileno()))
        events = watch(3)
        h100.xid(3, 79)
        assert pynvml.nvmlEventSetWait_v2(events, 5000).eventData == 79
        with pytest.raises(pynvml.NVMLError_Timeout):
            pynvml.nvmlEventSetWait_v2(events, 20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
