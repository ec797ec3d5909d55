"""A host of eight GPUs on a twin, and its sharing."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass

import psutil

from dra_driver.config.model import Interval, Strategy
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.prepare.effects import GpuWide
from dra_driver.roots import Roots
from dra_driver.sharing.control import NodeSharing
from dra_driver.sharing.mps import places
from twin import Twin

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
