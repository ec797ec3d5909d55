"""NVIDIA's programs as they are started: what they change, refuse and print, on the state that pynvml sees."""

import os
import subprocess
from pathlib import Path

import pynvml
import pytest

from tests.twin.nvmlcalls import create, gpu
from twin import Twin
from twin.programs.mps_daemon import forget_dead, started
from twin.tree.capabilities import capability_minor


class Host:
    """A tree and the programs in it."""

    def __init__(self, twin: Twin, root: Path) -> None:
        self.twin, self.root = twin, root
        twin.write_tree(root / "host")
        self.variables = {
            "CUDA_MPS_PIPE_DIRECTORY": str(root / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(root / "log"),
            "CUDA_VISIBLE_DEVICES": twin.facts.gpus[0].uuid,
        }

    def run(self, program: str, *arguments: str, stdin: str = "") -> tuple[int, str]:
        command = [str(self.root / "host/usr/bin" / program), *arguments]
        done = subprocess.run(
            command, check=False, input=stdin, capture_output=True, text=True, env=self.variables, timeout=30
        )
        return done.returncode, done.stdout + done.stderr

    def smi(self, *arguments: str) -> tuple[int, str]:
        return self.run("nvidia-smi", *arguments)

    def mps(self, *commands: str) -> tuple[int, str]:
        return self.run("nvidia-cuda-mps-control", stdin="".join(f"{one}\n" for one in commands))


@pytest.fixture
def host(h100, tmp_path):
    host = Host(h100, tmp_path)
    yield host
    host.mps("quit")
    h100.clear_faults()


def test_nvidia_smi_lists_gpus_and_mig_devices(host):
    pynvml.nvmlDeviceSetMigMode(gpu(), 1)
    compute = pynvml.nvmlGpuInstanceCreateComputeInstance(create(gpu(), 19, 2, 1), 0)
    uuid = pynvml.nvmlDeviceGetUUID(pynvml.nvmlComputeInstanceGetInfo(compute).device)
    code, text = host.smi("-L")
    lines = text.splitlines()
    assert code == 0
    assert len(lines) == 9
    assert lines[0] == f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {host.twin.facts.gpus[0].uuid})"
    assert uuid in lines[1]


def test_nvidia_smi_sets_compute_mode_and_time_slice(host):
    uuid = host.twin.facts.gpus[5].uuid
    assert host.smi("-i", uuid, "-c", "EXCLUSIVE_PROCESS")[0] == 0
    assert pynvml.nvmlDeviceGetComputeMode(gpu(5)) == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
    assert pynvml.nvmlDeviceGetComputeMode(gpu(4)) == pynvml.NVML_COMPUTEMODE_DEFAULT
    assert host.smi("compute-policy", "-i", uuid, "--set-timeslice", "3")[0] == 0
    assert host.twin.state.gpus[5].time_slice == 3
    assert "Long" in host.smi("compute-policy", "-i", uuid, "-l")[1]


@pytest.mark.parametrize(
    "arguments",
    [("-i", "GPU-none", "-c", "0"), ("-i", "0", "-c", "FAST"), ("compute-policy", "-i", "0", "--set-timeslice", "4")],
)
def test_nvidia_smi_refuses_and_changes_nothing(host, arguments):
    before = host.twin.state
    assert host.smi(*arguments)[0] != 0
    assert host.twin.state is before


def test_nvidia_smi_has_no_time_slice_on_old_gpus(tmp_path):
    host = Host(Twin.create(tmp_path / "p100", "dgx1-p100"), tmp_path)
    code, text = host.smi("compute-policy", "-i", "0", "--set-timeslice", "1")
    assert code == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert "Failed to set timeslice policy with value Short for GPU 0 : Not Supported" in text


def test_mps_has_no_limits_before_volta(tmp_path):
    host = Host(Twin.create(tmp_path / "p100", "dgx1-p100"), tmp_path)
    assert host.run("nvidia-cuda-mps-control", "-d")[0] == 0
    code, text = host.mps("set_default_active_thread_percentage 50")
    assert (code, "before Volta" in text) == (1, True)
    assert host.mps("quit")[0] == 0


def test_a_program_can_be_made_to_fail(host):
    host.twin.fault("nvidia-smi", code=pynvml.NVML_ERROR_UNKNOWN)
    assert [host.smi("-L")[0] for _ in range(2)] == [999 % 256, 0]


def test_the_mps_daemon_runs_once_keeps_its_settings_and_quits(host):
    assert host.mps("get_server_list") == (1, "Cannot find MPS control daemon process\n")
    assert host.run("nvidia-cuda-mps-control", "-d")[0] == 0
    code, text = host.run("nvidia-cuda-mps-control", "-d")
    assert (code, "already running" in text) == (1, True)
    (daemon,) = host.twin.state.mps
    assert started(daemon.pid) == daemon.start_time
    assert int((host.root / "pipe/nvidia-cuda-mps-control.pid").read_text()) == daemon.pid
    assert host.mps("set_default_active_thread_percentage 40", "get_default_active_thread_percentage") == (
        0,
        "40.0\n40.0\n",
    )
    assert host.mps("set_default_device_pinned_mem_limit 0 10G", "get_default_device_pinned_mem_limit 0") == (
        0,
        "10G\n",
    )
    assert host.mps("quit") == (0, "")
    while started(daemon.pid) is not None:
        pass
    assert host.twin.state.mps == []


@pytest.mark.parametrize(
    "command",
    [
        "set_default_active_thread_percentage 0",
        "set_default_active_thread_percentage 101",
        "set_default_active_thread_percentage many",
        "set_default_device_pinned_mem_limit 1 10G",
        "set_default_device_pinned_mem_limit 0 -1G",
        "make_coffee",
    ],
)
def test_the_mps_daemon_refuses_what_makes_no_sense(host, command):
    host.run("nvidia-cuda-mps-control", "-d")
    before = host.twin.state.mps
    code, text = host.mps(command)
    assert code == 1
    assert text.strip()
    assert host.twin.state.mps == before


def test_an_mps_server_needs_the_gpu_for_itself(host):
    host.smi("-i", "0", "-c", "EXCLUSIVE_PROCESS")
    host.twin.process(0, os.getpid())
    host.run("nvidia-cuda-mps-control", "-d")
    assert host.mps("start_server -uid 0")[0] == 1
    host.twin.process_gone(os.getpid())
    assert host.mps("start_server -uid 0")[0] == 0
    _, text = host.mps("get_server_list")
    assert [one.pid for one in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu())] == [int(text)]


def test_a_killed_mps_daemon_takes_its_server_and_frees_the_gpu(host):
    host.run("nvidia-cuda-mps-control", "-d")
    host.mps("start_server -uid 0")
    (daemon,) = host.twin.state.mps
    os.kill(daemon.pid, 9)
    while started(daemon.pid) is not None or started(daemon.servers[0]) is not None:
        pass
    with host.twin.change() as state:
        forget_dead(state)
    assert host.twin.state.mps == []
    assert host.twin.state.gpus[0].processes == []
    assert host.run("nvidia-cuda-mps-control", "-d")[0] == 0, "the lock and the socket of the dead one are no hindrance"


def test_capabilities_follow_the_instances(host):
    pynvml.nvmlDeviceSetMigMode(gpu(2), 1)
    instance = create(gpu(2), 9, 4, 4)
    compute = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 2)
    folder = host.root / "host/proc/driver/nvidia/capabilities/gpu2/mig"
    assert (folder / "gi0/access").read_text().startswith(f"DeviceFileMinor: {capability_minor(2, 0)}\n")
    minor = capability_minor(2, 0, 0)
    assert (folder / "gi0/ci0/access").read_text().startswith(f"DeviceFileMinor: {minor}\n")
    assert f"gpu2/gi0/ci0/access {minor}\n" in (host.root / "host/proc/driver/nvidia-caps/mig-minors").read_text()
    node = host.root / f"host/dev/nvidia-caps/nvidia-cap{minor}"
    assert node.exists()
    if node.is_char_device():
        assert os.major(node.stat().st_rdev) == host.twin.state.behaviour.caps_major
        assert os.minor(node.stat().st_rdev) == minor
    pynvml.nvmlComputeInstanceDestroy(compute)
    assert not (folder / "gi0/ci0").exists()
    pynvml.nvmlGpuInstanceDestroy(instance)
    assert list(folder.iterdir()) == []


def test_device_numbers_are_those_of_the_driver_and_of_no_real_device(host):
    dev = host.root / "host/dev"
    numbers = {path.name: path.stat().st_rdev for path in dev.iterdir() if path.is_char_device()}
    if not numbers:
        pytest.skip("only root makes device nodes")
    assert {name: (os.major(at), os.minor(at)) for name, at in numbers.items() if name != "nvidia-uvm-tools"} == {
        **{f"nvidia{minor}": (195, minor) for minor in range(8)},
        "nvidiactl": (195, 255),
        "nvidia-modeset": (195, 254),
        "nvidia-uvm": (host.twin.state.behaviour.uvm_major, 0),
    }
    real = Path("/proc/devices").read_text().split()
    assert str(host.twin.state.behaviour.uvm_major) not in real
    assert str(host.twin.state.behaviour.caps_major) not in real
