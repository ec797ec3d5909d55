"""What the driver shows of MIG under /proc/driver/nvidia, kept in step with the instances that exist."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twin.facts import MachineFacts
from twin.state import GpuState, State
from twin.store import Store
from twin.tree.paths import device_node

GPU_INSTANCES, COMPUTE_INSTANCES = 15, 8
"""How many of each the driver reserves minors for, per GPU and per GPU instance."""
CONFIG_MINOR, MONITOR_MINOR, FIRST_MINOR = 1, 2, 3

Shown = dict[str, tuple[int, int | None]]
"""Folders by name, with the GPU and compute instance that each is for."""


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
        if not state.behaviour.tree:
            yield state
            return
        before = [_shown(gpu) for gpu in state.gpus]
        yield state
        for at, gpu in enumerate(state.gpus):
            if (now := _shown(gpu)) != before[at]:
                _follow(state, store.facts.gpus[at].minor, before[at], now)


def _shown(gpu: GpuState) -> Shown:
    """Return the folders of a GPU, parents first."""
    found: Shown = {}
    for one in gpu.instances:
        found[f"gi{one.id}"] = (one.id, None)
        found.update({f"gi{one.id}/ci{ci.id}": (one.id, ci.id) for ci in one.compute})
    return found


def sync_capabilities(facts: MachineFacts, state: State) -> None:
    """Make the tree show what is there, whatever it shows now; does nothing without a tree."""
    for one, gpu in zip(facts.gpus if state.behaviour.tree else (), state.gpus, strict=False):
        folder = _folder(state, one.minor)
        now = _shown(gpu)
        there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir())
        # What should be there is written again: a kill may have left half of it.
        _follow(state, one.minor, {name: (0, None) for name in there if name not in now}, now)


def _folder(state: State, minor: int) -> Path:
    """Return where the driver shows MIG of a GPU. Raises FileNotFoundError: in a container it must be at this path."""
    root = Path(state.behaviour.tree)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: the twin's host tree is not here; mount it at this path")
    return root / f"proc/driver/nvidia/capabilities/gpu{minor}/mig"


def _follow(state: State, minor: int, before: Shown, now: Shown) -> None:
    folder, root = _folder(state, minor), Path(state.behaviour.tree)
    for name in before.keys() - now.keys():
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in [name for name in now if name not in before]:
        cap = capability_minor(minor, *now[name])
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "access").write_text(access_text(cap))
        # As libnvidia-ml has nvidia-modprobe do; the nodes outlive the instance.
        device_node(root / f"dev/nvidia-caps/nvidia-cap{cap}", state.behaviour.caps_major, cap)
