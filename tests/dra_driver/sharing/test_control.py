"""Sharing is put on GPUs and taken off, on a twin whose programs keep and check the same state as its NVML."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from dra_driver.config.model import Interval, Strategy
from dra_driver.errors import PermanentError, RetryableError
from dra_driver.nvml.api import ComputeMode
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.prepare.effects import GpuWide
from dra_driver.roots import Roots
from dra_driver.sharing import control, mps, programs
from dra_driver.sharing.control import NodeSharing
from dra_driver.sharing.mps import places
from twin import Twin
from twin.codes import Code

BOOT = "boot-1"
SLICED = GpuWide(Strategy.TIME_SLICING, Interval.LONG)
DEFAULT_SLICED = GpuWide(Strategy.TIME_SLICING)
MPS = GpuWide(Strategy.MPS)
EXCLUSIVE = GpuWide(Strategy.EXCLUSIVE)
WAYS = (SLICED, DEFAULT_SLICED, MPS, EXCLUSIVE)
SMI, MPS_CONTROL = "nvidia-smi", "nvidia-cuda-mps-control"


@dataclass
class Host:
    twin: Twin
    roots: Roots
    nvml: PynvmlNvml
    sharing: NodeSharing

    def uuid(self, index=0):
        return self.twin.gpu(index).uuid

    def gpu(self, index=0):
        return self.twin.state.gpus[index]

    def driver(self, boot_id=BOOT):
        """Another driver process, as far as sharing can tell: it knows what is on disk."""
        return NodeSharing(self.nvml, self.roots, boot_id)

    def daemon(self):
        """The pid that the noted daemon has."""
        return json.loads(places(self.roots, self.uuid()).identity.read_bytes())["pid"]

    def traces(self):
        """What is left on the host."""
        folders = [self.roots.state, self.roots.dev_root / "dev/shm"]
        files = [path for folder in folders for path in folder.rglob("*") if folder.is_dir()]
        return [str(path) for path in files if path.name not in ("mps", "sharing")]

    def is_untouched(self):
        gpus = [(gpu.compute_mode, gpu.time_slice) for gpu in self.twin.state.gpus]
        return set(gpus) == {(0, 0)} and not self.traces() and not daemons(self.roots)


def daemons(roots):
    """Processes of MPS daemons of this host, zombies included."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ().get("CUDA_MPS_PIPE_DIRECTORY", "")
            if environment.startswith(str(roots.state)) or process.status() == psutil.STATUS_ZOMBIE:
                found += [process] if process.ppid() == os.getpid() or environment else []
    return found


def is_running(pid):
    """Whether a process runs; one that ended may wait for the system's first process to take it away."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def host(tmp_path):
    twin = Twin.create(tmp_path / "twin", "hgx-h100-8")
    twin.write_tree(tmp_path / "root")
    (tmp_path / "root/dev/shm").mkdir(parents=True, exist_ok=True)
    # A socket's path is short, that of a test's folder is not.
    with tempfile.TemporaryDirectory(prefix="mps") as short, twin.install():
        roots = Roots(driver_root=tmp_path / "root", dev_root=tmp_path / "root", state=Path(short))
        nvml = PynvmlNvml()
        made = Host(twin, roots, nvml, NodeSharing(nvml, roots, BOOT))
        yield made
        twin.clear_faults()
        for uuid in made.sharing.leftovers():
            made.sharing.release(uuid)
        assert not daemons(roots)


@pytest.mark.parametrize("wide", WAYS)
def test_a_gpu_is_made_so_and_put_back(host, wide):
    uuid = host.uuid()
    assert not host.sharing.is_applied(uuid, wide)
    for _ in range(2):
        host.sharing.apply(uuid, wide)
        assert host.driver().is_applied(uuid, wide)
        assert host.sharing.leftovers() == [uuid]
    exclusive = wide.strategy in (Strategy.MPS, Strategy.EXCLUSIVE)
    mode = ComputeMode.EXCLUSIVE_PROCESS if exclusive else ComputeMode.DEFAULT
    assert (host.gpu().compute_mode, host.gpu().time_slice) == (mode, control.TIME_SLICE[wide.interval])
    assert len(host.twin.state.mps) == (wide is MPS)
    for _ in range(2):
        host.driver().release(uuid)
        assert host.is_untouched()
        assert not host.sharing.leftovers()


@pytest.mark.parametrize("before", WAYS)
@pytest.mark.parametrize("after", WAYS)
def test_one_way_follows_another_and_leaves_nothing_of_it(host, before, after):
    uuid = host.uuid()
    host.sharing.apply(uuid, before)
    host.sharing.apply(uuid, after)
    assert host.sharing.is_applied(uuid, after)
    assert before == after or not host.sharing.is_applied(uuid, before)
    assert host.gpu().time_slice == control.TIME_SLICE[after.interval]
    assert len(host.twin.state.mps) == (after is MPS)
    host.sharing.release(uuid)
    assert host.is_untouched()


def test_the_default_interval_needs_no_program_so_a_gpu_without_the_feature_is_shared(host):
    """The peers' #41, #58, #81: every claim failed on GPUs that cannot have their time slice set."""
    (host.roots.driver_root / "usr/bin/nvidia-smi").unlink()
    host.sharing.apply(host.uuid(), DEFAULT_SLICED)
    assert host.sharing.is_applied(host.uuid(), DEFAULT_SLICED)
    host.sharing.release(host.uuid())
    assert host.is_untouched()


def test_a_gpu_without_the_feature_refuses_an_interval_for_good_and_is_put_back(host):
    host.twin.fault(SMI, code=Code.NOT_SUPPORTED, times=-1)
    with pytest.raises(PermanentError, match=r"leave out \$\.sharing\.timeSlicing\.interval"):
        host.sharing.apply(host.uuid(), SLICED)
    host.sharing.release(host.uuid())
    assert host.is_untouched()


def test_a_program_that_fails_is_told_with_what_it_said(host):
    host.twin.fault(SMI, code=Code.UNKNOWN)
    with pytest.raises(
        RetryableError, match=r"nvidia-smi: ended with code 999|nvidia-smi: ended with code \d+: Failed"
    ):
        host.sharing.apply(host.uuid(), SLICED)
    host.sharing.apply(host.uuid(), SLICED)
    assert host.sharing.is_applied(host.uuid(), SLICED)


def test_a_program_that_hangs_is_killed_in_time(host, monkeypatch):
    monkeypatch.setattr(control, "SMI_S", 0.5)
    host.twin.fault(SMI, hang=True)
    with pytest.raises(RetryableError, match=r"nvidia-smi: did not end within 0\.5 s"):
        host.sharing.apply(host.uuid(), SLICED)
    assert not [child for child in psutil.Process().children() if SMI in " ".join(child.cmdline())]


@pytest.mark.parametrize(("program", "wide"), [(SMI, SLICED), (MPS_CONTROL, MPS)])
def test_a_program_that_is_not_there_is_named_with_where_it_was_looked_for(host, program, wide):
    (host.roots.driver_root / "usr/bin" / program).unlink()
    with pytest.raises(PermanentError, match=rf"{program} is in none of usr/bin.*below the driver root"):
        host.sharing.apply(host.uuid(), wide)
    host.sharing.release(host.uuid())
    assert host.is_untouched()


def test_a_daemon_outlives_a_driver_that_is_killed_and_is_found_again(host):
    code = (
        "import sys; from pathlib import Path; from dra_driver.nvml.binding import PynvmlNvml;"
        "from dra_driver.sharing.control import NodeSharing; from dra_driver.roots import Roots;"
        "from dra_driver.prepare.effects import GpuWide; from dra_driver.config.model import Strategy;"
        "root, state, uuid = sys.argv[1:];"
        "roots = Roots(driver_root=Path(root), dev_root=Path(root), state=Path(state));"
        f"NodeSharing(PynvmlNvml(), roots, {BOOT!r}).apply(uuid, GpuWide(Strategy.MPS));"
        "print('ready', flush=True); sys.stdin.read()"
    )
    script = host.twin.folder.parent / "driver.py"
    script.write_text(
        f"from twin import Twin\nfrom pathlib import Path\n"
        f"with Twin.open(Path({str(host.twin.folder)!r})).install():\n    exec({code!r})\n"
    )
    arguments = [str(host.roots.driver_root), str(host.roots.state), host.uuid()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    driver = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    with driver:
        assert driver.stdout.readline() == b"ready\n"
        os.killpg(driver.pid, signal.SIGKILL)
    pid = host.daemon()
    assert is_running(pid)
    assert host.sharing.is_applied(host.uuid(), MPS)
    host.sharing.apply(host.uuid(), MPS)
    assert host.daemon() == pid
    host.sharing.release(host.uuid())
    assert not is_running(pid)
    assert host.is_untouched()


def test_a_daemon_that_died_is_noticed_and_started_again_where_its_clients_look(host):
    uuid = host.uuid()
    host.sharing.apply(uuid, MPS)
    pipe = places(host.roots, uuid).pipe
    inode, pid = pipe.stat().st_ino, host.daemon()
    (pipe / "stale").touch()
    os.kill(pid, signal.SIGKILL)
    assert not host.sharing.is_applied(uuid, MPS)
    host.sharing.apply(uuid, MPS)
    assert host.sharing.is_applied(uuid, MPS)
    assert host.daemon() != pid
    assert pipe.stat().st_ino == inode
    assert not (pipe / "stale").exists()


def test_servers_of_a_daemon_that_died_are_ended_before_another_starts(host):
    """They hold the GPU, which is in exclusive mode: the next daemon's server could not have it."""
    uuid = host.uuid()
    host.sharing.apply(uuid, MPS)
    os.kill(host.daemon(), signal.SIGKILL)
    # A server has the lock from the daemon that it comes from.
    command = ["/bin/sh", "-c", f"exec 9<>{places(host.roots, uuid).lock}; flock 9; echo; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as stray:
        try:
            stray.stdout.readline()
            host.sharing.apply(uuid, MPS)
            assert stray.wait(10) == -signal.SIGKILL
        finally:
            stray.kill()
    assert host.sharing.is_applied(uuid, MPS)


def test_a_number_that_another_process_has_now_is_left_alone(host):
    uuid = host.uuid()
    host.sharing.apply(uuid, MPS)
    host.sharing.release(uuid)
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        where = places(host.roots, uuid)
        where.home.mkdir(parents=True)
        from dra_driver.sharing.processes import world

        where.identity.write_text(json.dumps({"pid": other.pid, "start_ticks": 1, "world": world()}))
        host.sharing.apply(uuid, MPS)
        host.sharing.release(uuid)
        assert other.poll() is None
        other.kill()


def test_a_daemon_that_hangs_is_replaced(host, monkeypatch):
    monkeypatch.setattr(mps, "ANSWER_S", 0.5)
    uuid = host.uuid()
    host.sharing.apply(uuid, MPS)
    pid = host.daemon()
    os.kill(pid, signal.SIGSTOP)
    assert not host.sharing.is_applied(uuid, MPS)
    monkeypatch.setattr(mps, "ANSWER_S", 5.0)
    monkeypatch.setattr(mps, "END_S", 0.3)
    os.kill(pid, signal.SIGSTOP)
    host.twin.clear_faults()
    monkeypatch.setattr(mps, "ANSWER_S", 0.5)
    with suppress(RetryableError):
        host.sharing.apply(uuid, MPS)
    monkeypatch.setattr(mps, "ANSWER_S", 5.0)
    host.sharing.apply(uuid, MPS)
    assert host.daemon() != pid
    assert not is_running(pid)


def test_a_daemon_that_cannot_start_is_told_and_leaves_no_process(host):
    host.twin.fault(MPS_CONTROL, code=1, times=-1)
    with pytest.raises(RetryableError, match=r"nvidia-cuda-mps-control: ended with code 1: .*An error occurred"):
        host.sharing.apply(host.uuid(), MPS)
    assert not daemons(host.roots)
    host.twin.clear_faults()
    host.sharing.apply(host.uuid(), MPS)
    assert host.sharing.is_applied(host.uuid(), MPS)


def test_a_daemon_has_its_own_shared_memory_which_its_clients_get(host):
    host.sharing.apply(host.uuid(), MPS)
    inside = Path(f"/proc/{host.daemon()}/root/dev/shm").stat()
    outside = places(host.roots, host.uuid()).shm.stat()
    assert (inside.st_dev, inside.st_ino) == (outside.st_dev, outside.st_ino)
    assert outside.st_mode & 0o7777 == 0o1777


def test_gpus_have_daemons_of_their_own(host):
    for index in (0, 1):
        host.sharing.apply(host.uuid(index), MPS)
    assert [each.gpus for each in host.twin.state.mps] == [[host.uuid(0)], [host.uuid(1)]]
    host.sharing.release(host.uuid(0))
    assert host.sharing.is_applied(host.uuid(1), MPS)
    host.sharing.release(host.uuid(1))
    assert host.is_untouched()


def test_gpus_are_served_at_once(host):
    faults = []

    def serve(index):
        try:
            for wide in (MPS, SLICED, EXCLUSIVE):
                host.sharing.apply(host.uuid(index), wide)
                assert host.sharing.is_applied(host.uuid(index), wide)
            host.sharing.release(host.uuid(index))
        except BaseException as fault:  # noqa: BLE001 - told below
            faults.append(fault)

    threads = [threading.Thread(target=serve, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert host.is_untouched()


def test_what_another_boot_set_is_not_believed_and_is_taken_off(host):
    host.sharing.apply(host.uuid(), SLICED)
    later = host.driver("boot-2")
    assert not later.is_applied(host.uuid(), SLICED)
    assert later.leftovers() == [host.uuid()]
    with host.twin.change() as state:
        state.gpus[0].time_slice = 0
    later.apply(host.uuid(), SLICED)
    assert host.gpu().time_slice == 3
    later.release(host.uuid())
    assert host.is_untouched()


@pytest.mark.parametrize("content", [b"", b"{", b'{"wide": {"strategy": "new"}, "boot_id": ""}', b"\xff"])
def test_a_marker_that_cannot_be_read_means_that_anything_may_be_set(host, content):
    host.sharing.apply(host.uuid(), MPS)
    with host.twin.change() as state:
        state.gpus[0].time_slice = 2
    (host.roots.state / "sharing" / f"{host.uuid()}.json").write_bytes(content)
    assert not host.sharing.is_applied(host.uuid(), MPS)
    host.sharing.release(host.uuid())
    assert host.is_untouched()


@pytest.mark.parametrize("wide", WAYS)
def test_a_gpu_that_fell_off_the_bus_is_let_go(host, wide):
    host.sharing.apply(host.uuid(), wide)
    host.twin.lose(0)
    host.sharing.release(host.uuid())
    assert not host.traces()
    assert not daemons(host.roots)


def test_a_state_folder_too_deep_for_sockets_is_refused_and_nothing_is_left(host):
    deep = replace(host.roots, state=host.roots.state / ("x" * 60))
    sharing = NodeSharing(host.nvml, deep, BOOT)
    with pytest.raises(PermanentError, match=r"too deep.*choose a shorter"):
        sharing.apply(host.uuid(), MPS)
    sharing.release(host.uuid())
    assert host.gpu().compute_mode == 0
    assert not sharing.leftovers()


def test_an_environment_of_ours_does_not_reach_the_programs(host, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    host.sharing.apply(host.uuid(), MPS)
    environment = psutil.Process(host.daemon()).environ()
    assert "SECRET_TOKEN" not in environment
    assert environment["CUDA_VISIBLE_DEVICES"] == host.uuid()


def test_a_program_that_leaves_a_child_behind_is_not_waited_for_and_the_child_ends_too(tmp_path):
    folder = tmp_path / "usr/bin"
    folder.mkdir(parents=True)
    child = tmp_path / "child"
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n/bin/sleep 600 &\necho $! > {child}\n/bin/sleep 600\n")
    (folder / "nvidia-smi").chmod(0o755)
    with pytest.raises(RetryableError, match="did not end within"):
        programs.Programs(tmp_path).run(SMI, (), timeout_s=1.0)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(child.read_text())).wait(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_program_that_cannot_be_killed_takes_no_lock_along(tmp_path, monkeypatch):
    """nvidia-smi on a hung GPU is in a call that no signal ends; its end was waited for without end."""
    folder = tmp_path / "usr/bin"
    folder.mkdir(parents=True)
    (folder / "nvidia-smi").write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    (folder / "nvidia-smi").chmod(0o755)
    stuck = []
    with monkeypatch.context() as patched:
        patched.setattr(programs.os, "killpg", lambda pid, _number: stuck.append(pid))
        patched.setattr(programs, "KILL_S", 0.2)
        with pytest.raises(RetryableError, match="did not end within"):
            programs.Programs(tmp_path).run(SMI, (), timeout_s=0.2)
    (pid,) = stuck
    assert is_running(pid)
    os.killpg(pid, signal.SIGKILL)


def test_a_daemon_that_is_slow_is_waited_for_since_its_clients_would_end_with_it(host, monkeypatch):
    uuid = host.uuid()
    host.sharing.apply(uuid, MPS)
    pid = host.daemon()
    answers, asked = mps.MpsDaemons._answers, []

    def slow(daemons, where):
        asked.append(where)
        return len(asked) > 2 and answers(daemons, where)

    monkeypatch.setattr(mps.MpsDaemons, "_answers", slow)
    assert not host.sharing.is_applied(uuid, MPS)
    host.sharing.apply(uuid, MPS)
    assert len(asked) == 3
    assert host.daemon() == pid
    assert is_running(pid)


def test_a_daemon_runs_on_while_its_program_is_replaced_on_the_host(host):
    uuid = host.uuid()
    host.sharing.apply(uuid, MPS)
    pid = host.daemon()
    program = host.roots.driver_root / "usr/bin" / MPS_CONTROL
    aside = program.rename(program.with_name("aside"))
    assert not host.sharing.is_applied(uuid, MPS)
    with pytest.raises(PermanentError, match=MPS_CONTROL):
        host.sharing.apply(uuid, MPS)
    assert is_running(pid)
    aside.rename(program)
    host.sharing.apply(uuid, MPS)
    assert host.daemon() == pid


def test_a_daemon_runs_on_when_its_marker_cannot_be_read(host):
    uuid = host.uuid()
    host.sharing.apply(uuid, MPS)
    pid = host.daemon()
    with host.twin.change() as state:
        state.gpus[0].time_slice = 2
    (host.roots.state / "sharing" / f"{uuid}.json").write_bytes(b"")
    host.sharing.apply(uuid, MPS)
    assert host.daemon() == pid
    assert is_running(pid)
    assert host.sharing.is_applied(uuid, MPS)
    assert (host.gpu().compute_mode, host.gpu().time_slice) == (ComputeMode.EXCLUSIVE_PROCESS, 0)


def test_what_the_system_refuses_as_a_daemon_starts_is_told(host, monkeypatch):
    def refused(*_arguments, **_options):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(mps.os, "posix_spawn", refused)
        with pytest.raises(RetryableError, match=r"cannot be started \(No space left"):
            host.sharing.apply(host.uuid(), MPS)
    host.sharing.apply(host.uuid(), MPS)
    assert host.sharing.is_applied(host.uuid(), MPS)
