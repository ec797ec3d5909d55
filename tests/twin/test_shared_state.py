"""One machine for several processes: all see the same, none is lost, a killed one leaves it whole."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pynvml
import pytest

from tests.twin.nvmlcalls import code, create, gpu, gpu_instances
from twin import Twin
from twin.codes import Refused

WORKER = """
import sys, pynvml
from pathlib import Path
from tests.twin.nvmlcalls import create, gpu
from twin import Twin
folder, index, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Twin.open(Path(folder)).install():
    pynvml.nvmlInit()
    print("ready", flush=True)
    for _ in range(rounds):
        instance = create(gpu(index), 14, 0, 2)
        compute = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 1)
        if rounds > 1000 or _ < rounds - 1:
            pynvml.nvmlComputeInstanceDestroy(compute)
            pynvml.nvmlGpuInstanceDestroy(instance)
"""


def worker(folder: Path, index: int, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(folder), str(index), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def twin(tmp_path: Path) -> Twin:
    return Twin.create(tmp_path / "t", "hgx-h100-8", mig_enabled=True)


def test_changes_of_two_processes_and_two_threads_are_all_kept(twin):
    workers = [worker(twin.folder, index, 30) for index in (0, 1)]

    def count(at: int) -> None:
        for _ in range(30):
            twin.xid(at, 31)

    threads = [threading.Thread(target=count, args=(at,)) for at in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in workers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    state = twin.state
    assert len(state.events) == 60
    assert [event.number for event in state.events] == list(range(1, 61))
    assert [len(one.instances) for one in state.gpus[:3]] == [1, 1, 0]
    serials = [one.serial for one in state.gpus[0].instances + state.gpus[1].instances]
    assert len(set(serials)) == 2
    assert state.serial == 4 * 30, "each of 2 x 30 GPU and compute instances had its own"


@pytest.mark.parametrize("kill_after", range(0, 40, 4))
def test_kill_9_leaves_a_whole_state_and_no_lock(twin, tmp_path, kill_after):
    """SIGKILL somewhere in a storm of changes: another process goes on at once, and the tree is put right."""
    twin.write_tree(tmp_path / "host")
    process = worker(twin.folder, 0, 100_000)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    start = twin.state.serial
    while twin.state.serial < start + kill_after:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = Twin.open(twin.folder)
    state = again.state
    folder = tmp_path / "host/proc/driver/nvidia/capabilities/gpu0/mig"
    shown = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("access")}
    expected = {f"gi{one.id}" for one in state.gpus[0].instances}
    expected |= {f"gi{one.id}/ci{ci.id}" for one in state.gpus[0].instances for ci in one.compute}
    assert shown == expected
    with again.install():
        pynvml.nvmlInit()
        for instance in gpu_instances(gpu(), 14):
            for compute in state.gpus[0].instances[0].compute:
                pynvml.nvmlComputeInstanceDestroy(pynvml.nvmlGpuInstanceGetComputeInstanceById(instance, compute.id))
            pynvml.nvmlGpuInstanceDestroy(instance)
        create(gpu(), 0, 0, 8)


def test_a_fault_that_kills_does_so_before_or_after_the_effect(twin):
    for after, made in ((False, 0), (True, 1)):
        twin.fault("nvmlDeviceCreateGpuInstanceWithPlacement", kill=True, after=after)
        process = worker(twin.folder, 5, 1)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert len(twin.state.gpus[5].instances) == made


def test_a_forked_child_of_a_process_with_open_twin_works_on(twin):
    """The journal tests fork from a warmed parent and kill the child: locks must survive neither."""
    with twin.install():
        pynvml.nvmlInit()
        for _ in range(5):
            child = os.fork()
            if child == 0:
                create(gpu(4), 19, 0, 1)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            (instance,) = gpu_instances(gpu(4), 19)
            pynvml.nvmlGpuInstanceDestroy(instance)


def test_python_m_twin_run_puts_the_twin_under_pynvml(twin, tmp_path):
    (tmp_path / "asks.py").write_text(
        "import json, sys, pynvml\npynvml.nvmlInit()\nprint(json.dumps([pynvml.nvmlDeviceGetCount(), sys.argv[1:]]))\n"
    )
    command = [sys.executable, "-m", "twin", "run", str(twin.folder), "--", "asks", "--flag", "x"]
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
    assert json.loads(done.stdout) == [8, ["--flag", "x"]]


def test_what_was_under_pynvml_comes_back(twin):
    before = pynvml.nvmlLib
    with twin.install() as library:
        assert pynvml.nvmlLib is library
        assert code(pynvml.nvmlDeviceGetCount) == pynvml.NVML_ERROR_UNINITIALIZED
    assert pynvml.nvmlLib is before


def test_a_folder_holds_one_twin(twin):
    with pytest.raises(FileExistsError, match="holds a twin already"):
        Twin.create(twin.folder, "hgx-h100-8")


def test_two_compute_processes_share_a_gpu_only_where_its_mode_lets_them(tmp_path):
    twin = Twin.create(tmp_path / "two", "l4-8-pcie")
    with twin.install():
        pynvml.nvmlInit()
        pynvml.nvmlDeviceSetComputeMode(gpu(), pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS)
        twin.process(0, 1)
        with pytest.raises(Refused, match="EXCLUSIVE_PROCESS"):
            twin.process(0, 2)
        assert [one.pid for one in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu())] == [1]
        pynvml.nvmlDeviceSetComputeMode(gpu(), pynvml.NVML_COMPUTEMODE_PROHIBITED)
        with pytest.raises(Refused, match="PROHIBITED"):
            twin.process(0, 3)
