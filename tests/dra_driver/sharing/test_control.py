"""Sharing is put on GPUs and taken off, on a twin whose programs keep and check the same state as its NVML."""

import os
import signal
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest

from dra_driver.config.model import Strategy
from dra_driver.errors import PermanentError, RetryableError
from dra_driver.nvml.api import ComputeMode
from dra_driver.sharing import control, programs
from dra_driver.sharing.control import NodeSharing
from tests.dra_driver.sharing.host import BOOT, DEFAULT_SLICED, MPS, MPS_CONTROL, SLICED, SMI, WAYS, daemons, is_running
from twin.codes import Code


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
