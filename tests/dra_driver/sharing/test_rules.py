"""Which settings go with which device, and what a container gets to heed them."""

from dataclasses import replace

import pytest

from dra_driver.config.model import Interval, Settings, Strategy
from dra_driver.errors import PermanentError
from dra_driver.prepare.model import DeviceIntent, MigTarget, ShareTarget
from dra_driver.roots import Roots
from dra_driver.sharing.clients import edits_for
from dra_driver.sharing.mps import LONGEST_SOCKET, MAX_SOCKET_PATH, places
from dra_driver.sharing.rules import check, check_together
from dra_driver.simulated import simulated_gpus
from topology.catalog import machine
from topology.modes import Sharing

GPU = simulated_gpus(machine("hgx-h100-8"), "node-a").gpus[0]
OLD = replace(GPU, cuda_compute_capability="6.1")
GIB = 2**30
WHOLE = DeviceIntent(request="gpu", pool="p", device="gpu-0", gpu_uuid=GPU.uuid, minor=0)
MIG = replace(WHOLE, device="gpu-0-mig-1g10gb-19-0", mig=MigTarget(profile="1g.10gb", profile_id=19, start=0, size=1))


def share(sharing=Sharing.MPS, memory_bytes=10 * GIB, compute_milli=0):
    target = ShareTarget(sharing=sharing, share_id="s", memory_bytes=memory_bytes, compute_milli=compute_milli)
    return replace(WHOLE, device=f"gpu-0-{sharing}", share=target)


def having(intent, strategy, **settings):
    return replace(intent, settings=Settings(strategy=Strategy(strategy), **settings))


@pytest.mark.parametrize(
    ("intent", "strategy", "refused"),
    [
        (WHOLE, "default", ""),
        (WHOLE, "time-slicing", ""),
        (WHOLE, "mps", ""),
        (WHOLE, "exclusive", ""),
        (share(Sharing.MPS), "default", ""),
        (share(Sharing.MPS), "mps", ""),
        (share(Sharing.MPS), "time-slicing", "shared by mps; remove it, or select devices with sharing time-slicing"),
        (share(Sharing.MPS), "exclusive", "shared by mps"),
        (share(Sharing.TIME_SLICING), "default", ""),
        (share(Sharing.TIME_SLICING), "time-slicing", ""),
        (share(Sharing.TIME_SLICING), "mps", "shared by time-slicing"),
        (share(Sharing.TIME_SLICING), "exclusive", "shared by time-slicing"),
        (MIG, "default", ""),
        (MIG, "time-slicing", "a MIG device is a part"),
        (MIG, "mps", "a MIG device is a part"),
        (MIG, "exclusive", "a MIG device is a part"),
        (replace(MIG, admin=True), "mps", ""),
    ],
)
def test_the_table_of_devices_and_strategies(intent, strategy, refused):
    asked = having(intent, strategy)
    if not refused:
        check(asked, GPU)
        return
    with pytest.raises(PermanentError) as fault:
        check(asked, GPU)
    text = str(fault.value)
    assert refused in text
    assert text.startswith(f"device {intent.device} (request gpu): $.sharing.strategy: {strategy}: ")


def test_mps_before_volta_is_refused_and_time_slicing_is_not():
    check(having(WHOLE, "time-slicing"), OLD)
    with pytest.raises(PermanentError, match=r"before Volta \(this one has compute capability 6\.1\).*time slicing"):
        check(having(WHOLE, "mps"), OLD)


def test_two_devices_through_mps_in_one_request_are_refused_since_a_process_has_one_daemon():
    one, two = having(WHOLE, "mps"), having(replace(WHOLE, device="gpu-1", gpu_uuid="GPU-1"), "mps")
    with pytest.raises(PermanentError, match=r"gpu-0 and gpu-1 of request gpu.*one request for each device"):
        check_together((one, two))
    check_together((one, replace(two, request="other")))
    check_together((one, having(two, "default")))


@pytest.mark.parametrize(
    ("intent", "env"),
    [
        (share(), {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=10240M"}),
        (
            share(compute_milli=333),
            {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=10240M", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "33"},
        ),
        (
            share(memory_bytes=10 * GIB + 5, compute_milli=4),
            {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=10240M", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "1"},
        ),
        (
            having(share(compute_milli=500), "mps", active_thread_percentage=20, pinned_memory_bytes=GIB),
            {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=1024M", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "20"},
        ),
        (
            having(share(compute_milli=500), "mps", active_thread_percentage=80, pinned_memory_bytes=99 * GIB),
            {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=10240M", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"},
        ),
        (having(WHOLE, "mps"), {}),
        (having(WHOLE, "mps", active_thread_percentage=40), {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "40"}),
    ],
)
def test_limits_are_those_of_the_share_and_configuration_only_tightens_them(intent, env):
    edits = edits_for(intent, Roots())
    assert {each.name: each.value for each in edits.env} == {"CUDA_MPS_PIPE_DIRECTORY": "/tmp/nvidia-mps", **env}


@pytest.mark.parametrize(
    "intent",
    [
        WHOLE,
        MIG,
        having(WHOLE, "exclusive"),
        having(WHOLE, "time-slicing", interval=Interval.SHORT),
        share(Sharing.TIME_SLICING),
        replace(having(WHOLE, "mps"), admin=True),
    ],
)
def test_who_is_no_client_of_mps_gets_nothing(intent):
    edits = edits_for(intent, Roots())
    assert not edits.env
    assert not edits.mounts


def test_a_client_has_the_daemons_pipes_and_shared_memory():
    roots = Roots()
    where = places(roots, GPU.uuid)
    mounts = {each.container_path: (each.host_path, each.writable) for each in edits_for(share(), roots).mounts}
    assert mounts == {"/tmp/nvidia-mps": (str(where.pipe), True), "/dev/shm": (str(where.shm), True)}


def test_sockets_fit_into_a_socket_address():
    assert len(str(places(Roots(), GPU.uuid).pipe / LONGEST_SOCKET)) <= MAX_SOCKET_PATH
