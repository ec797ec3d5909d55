"""What the driver shows of MIG under /proc/driver/nvidia, kept in step with the instances that exist."""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twin.facts import MachineFacts
from twin.state import GpuState, State
from twin.store import Store
from twin.tree.paths import device_node

GPU_INSTANCES, COMPUTE_INSTANCES = 15, 8
"""How many of each the driver reserves minors for, per GPU and per GPU instance."""
CONFIG_MINOR, MONITOR_MINOR, FIRST_MINOR = 1, 2, 3


def capability_minor(gpu: int, gpu_instance: int, compute_instance: int | None = None) -> int:
    """Return the minor of /dev/nvidia-caps/nvidia-cap<minor>, as in the driver's table `mig-minors`."""
    per_instance = 1 + COMPUTE_INSTANCES
    base = FIRST_MINOR + (gpu * GPU_INSTANCES + gpu_instance) * per_instance
    return base if compute_instance is None else base + 1 + compute_instance


def mig_minors(gpus: int) -> str:
    """Return the driver's table of all minors."""
    lines = [f"config {CONFIG_MINOR}", f"monitor {MONITOR_MINOR}"]
    for gpu in range(gpus):
        for instance in range(GPU_INSTANCES):
            lines.append(f"gpu{gpu}/gi{instance}/access {capability_minor(gpu, instance)}")
            lines += [
                f"gpu{gpu}/gi{instance}/ci{compute}/access {capability_minor(gpu, instance, compute)}"
                for compute in range(COMPUTE_INSTANCES)
            ]
    return "\n".join(lines) + "\n"


def access_text(minor: int) -> str:
    """Return the content of an `access` file; 292 is mode 0444."""
    return f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"


@contextmanager
def changing(store: Store) -> Iterator[State]:
    """Give the state for change, alone; the tree follows."""
    with store.change() as state:
        before = [_shown(gpu) for gpu in state.gpus]
        yield state
        changed = {at for at, gpu in enumerate(state.gpus) if _shown(gpu) != before[at]}
        sync_capabilities(store.facts, state, changed)


def _shown(gpu: GpuState) -> list[tuple[int, list[int]]]:
    return [(one.id, [ci.id for ci in one.compute]) for one in gpu.instances]


def sync_capabilities(facts: MachineFacts, state: State, gpus: Iterable[int]) -> None:
    """Make the tree show the instances of `gpus`; does nothing without a tree, and nothing twice.

    Raises FileNotFoundError where the tree is not here: a process in a container needs it at the same path.
    """
    root = Path(state.behaviour.tree)
    for at in gpus if state.behaviour.tree else ():
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: the twin's host tree is not here; mount it at this path")
        _sync_gpu(root, facts.gpus[at].minor, state.gpus[at], state.behaviour.caps_major)


def _sync_gpu(root: Path, minor: int, gpu: GpuState, caps_major: int) -> None:
    folder = root / "proc/driver/nvidia/capabilities" / f"gpu{minor}" / "mig"
    _keep_only(folder, {f"gi{one.id}" for one in gpu.instances})
    for instance in gpu.instances:
        its = folder / f"gi{instance.id}"
        _keep_only(its, {f"ci{one.id}" for one in instance.compute})
        _show(root, its, capability_minor(minor, instance.id), caps_major)
        for compute in instance.compute:
            _show(root, its / f"ci{compute.id}", capability_minor(minor, instance.id, compute.id), caps_major)


def _keep_only(folder: Path, names: Container[str]) -> None:
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name not in names:
                shutil.rmtree(entry)


def _show(root: Path, folder: Path, minor: int, caps_major: int) -> None:
    access = folder / "access"
    if not access.exists():
        folder.mkdir(parents=True, exist_ok=True)
        access.write_text(access_text(minor))
        # As libnvidia-ml has nvidia-modprobe do; the nodes outlive the instance.
        device_node(root / f"dev/nvidia-caps/nvidia-cap{minor}", caps_major, minor)
