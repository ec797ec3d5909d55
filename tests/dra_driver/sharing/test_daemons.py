"""MPS control daemons: they outlive the driver, are found again, and end with their last user."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from dra_driver.errors import PermanentError, RetryableError
from dra_driver.nvml.api import ComputeMode
from dra_driver.sharing import mps
from dra_driver.sharing.mps import places
from tests.dra_driver.sharing.host import (
    BOOT,
    EXCLUSIVE,
    MPS,
    MPS_CONTROL,
    SLICED,
    daemons,
    is_running,
)


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
