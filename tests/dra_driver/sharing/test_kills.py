"""Wherever the driver is killed while it sets, changes or takes off sharing, one release leaves nothing of it.

The next driver knows what is on disk alone. Every effect is a kill point: files, folders, programs that are started,
NVML's setters.
"""

import os
import signal
import tempfile
from pathlib import Path

import psutil
import pynvml
import pytest

from dra_driver.config.model import Interval, Strategy
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.prepare.effects import GpuWide
from dra_driver.roots import Roots
from dra_driver.sharing.control import NodeSharing
from twin import Twin

BOOT = "boot-1"
SLICED = GpuWide(Strategy.TIME_SLICING, Interval.SHORT)
MPS = GpuWide(Strategy.MPS)
EXCLUSIVE = GpuWide(Strategy.EXCLUSIVE)
EFFECTS = ("fsync", "replace", "rename", "unlink", "mkdir", "chmod", "rmdir", "posix_spawn", "kill", "killpg")
NEVER = 1 << 30


class Reaper:
    """Ends this process before the effect that is its number."""

    def __init__(self, victim):
        self.victim, self.count, self._kill = victim, 0, os.kill

    def counting(self, effect):
        def counted(*args, **given):
            self.count += 1
            if self.count == self.victim:
                self._kill(os.getpid(), signal.SIGKILL)
            return effect(*args, **given)

        return counted

    def take(self):
        for name in EFFECTS:
            setattr(os, name, self.counting(getattr(os, name)))
        pynvml.nvmlDeviceSetComputeMode = self.counting(pynvml.nvmlDeviceSetComputeMode)
        import subprocess

        subprocess.Popen.__init__ = self.counting(subprocess.Popen.__init__)


def story(sharing, uuid):
    for wide in (MPS, SLICED, EXCLUSIVE, MPS):
        sharing.apply(uuid, wide)
    sharing.release(uuid)


def told(sharing, uuid, victim):
    """Tell the story in a process of its own; returns how many effects it had, None where it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 3
        try:
            reaper = Reaper(victim)
            reaper.take()
            story(sharing, uuid)
            os.write(writing, str(reaper.count).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, f"failed at kill point {victim}"
    return int(text)


def strays(state):
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("CUDA_MPS_PIPE_DIRECTORY", "").startswith(str(state)):
            found.append(process)
    # What a killed driver was asking ends by itself, as its input does.
    return psutil.wait_procs(found, timeout=10)[1]


@pytest.fixture
def host(tmp_path):
    twin = Twin.create(tmp_path / "twin", "hgx-h100-8")
    twin.write_tree(tmp_path / "root")
    with tempfile.TemporaryDirectory(prefix="mps") as short, twin.install():
        roots = Roots(driver_root=tmp_path / "root", dev_root=tmp_path / "root", state=Path(short))
        yield twin, roots, PynvmlNvml()


def check(host, victim):
    """Kill at one point; then a driver that finds another wish makes that so, and its release leaves nothing."""
    twin, roots, nvml = host
    uuid = twin.gpu(0).uuid
    count = told(NodeSharing(nvml, roots, BOOT), uuid, victim)
    later = NodeSharing(nvml, roots, BOOT)
    assert set(later.leftovers()) <= {uuid}
    if count is None and not later.leftovers():
        # Killed before the first trace, or after the last.
        assert twin.state.gpus[0].compute_mode == 0
        assert not strays(roots.state)
    wanted = (MPS, SLICED, EXCLUSIVE)[victim % 3]
    later.apply(uuid, wanted)
    assert later.is_applied(uuid, wanted)
    later.release(uuid)
    assert not later.leftovers()
    assert not strays(roots.state)
    assert (twin.state.gpus[0].compute_mode, twin.state.gpus[0].time_slice) == (0, 0)
    left = [path for path in roots.state.rglob("*") if path.name not in ("mps", "sharing")]
    assert not left
    assert not list((roots.dev_root / "dev/shm").iterdir())
    return count


def effects_of_the_story(host):
    twin, roots, nvml = host
    count = told(NodeSharing(nvml, roots, BOOT), twin.gpu(0).uuid, NEVER)
    assert count is not None
    return count


def test_a_kill_at_some_of_all_effects(host):
    (host[1].dev_root / "dev/shm").mkdir(parents=True, exist_ok=True)
    count = effects_of_the_story(host)
    assert count > 40
    for victim in range(1, count + 1, 15):
        check(host, victim)


@pytest.mark.soak
def test_a_kill_at_every_effect(host):
    (host[1].dev_root / "dev/shm").mkdir(parents=True, exist_ok=True)
    killed = sum(check(host, victim) is None for victim in range(1, effects_of_the_story(host) + 1))
    assert killed > 40
