"""What containers get so that they are clients of their GPU's MPS daemon, within the limits of their claim. Pure.

Limits in the environment can be dropped by a program that means to: MPS keeps tenants from harm by mistake, MIG from
harm by intent. docs/config.md says so.
"""

from __future__ import annotations

from dra_driver.cdi.model import NO_EDITS, Edits, EnvVar, Mount
from dra_driver.config.model import Strategy
from dra_driver.inventory import MIB
from dra_driver.prepare.model import DeviceIntent
from dra_driver.prepare.resolve import gpu_wide
from dra_driver.roots import Roots
from dra_driver.sharing.mps import PIPE_DIRECTORY, places

PIPE_IN_CONTAINER = "/tmp/nvidia-mps"  # noqa: S108 - where CUDA looks by itself
SHM_IN_CONTAINER = "/dev/shm"  # noqa: S108
THREADS, MEMORY = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
MILLI_PER_PERCENT = 10


def edits_for(intent: DeviceIntent, roots: Roots) -> Edits:
    """Return what a container needs to use a device as it is shared; nothing except for clients of MPS."""
    wide = gpu_wide(intent)
    if wide is None or wide.strategy is not Strategy.MPS:
        return NO_EDITS
    where = places(roots, intent.gpu_uuid)
    env = [EnvVar(PIPE_DIRECTORY, PIPE_IN_CONTAINER)]
    threads, memory = thread_percentage(intent), memory_mib(intent)
    env += [] if threads is None else [EnvVar(THREADS, str(threads))]
    # A client sees the devices of its daemon alone, of which there is one: 0.
    env += [] if memory is None else [EnvVar(MEMORY, f"0={memory}M")]
    return Edits(
        env=tuple(env),
        mounts=(
            Mount(PIPE_IN_CONTAINER, str(roots.on_host(where.pipe)), writable=True),
            Mount(SHM_IN_CONTAINER, str(roots.on_host(where.shm)), writable=True),
        ),
    )


def thread_percentage(intent: DeviceIntent) -> int | None:
    """Return the most threads a process may use, in percent: the share's, tightened by its configuration; None: all.

    A share that reserved no compute uses what others leave.
    """
    own = intent.share.compute_milli if intent.share is not None else 0
    limits = [max(1, own // MILLI_PER_PERCENT)] if own else []
    limits += [] if intent.settings.active_thread_percentage is None else [intent.settings.active_thread_percentage]
    return min(limits, default=None)


def memory_mib(intent: DeviceIntent) -> int | None:
    """Return the most device memory of a process in MiB: the share's, tightened by its configuration; None: all."""
    limits = [] if intent.share is None else [intent.share.memory_bytes]
    limits += [] if intent.settings.pinned_memory_bytes is None else [intent.settings.pinned_memory_bytes]
    return max(1, min(limits) // MIB) if limits else None
