"""What the driver shows of MIG under /proc/driver/nvidia, kept in step with the instances that exist."""

from __future__ import annotations

import shutil
from pathlib import Path

from twin.facts import MachineFacts
from twin.state import State

GPU_INSTANCES, COMPUTE_INSTANCES = 15, 8
"""How many of each the driver reserves minors for, per GPU and per GPU instance."""
CONFIG_MINOR, MONITOR_MINOR, FIRST_MINOR = 1, 2, 3


def capability_minor(gpu: int, gpu_instance: int, compute_instance: int | None = None) -> int:
    """Return the minor of /dev/nvidia-caps/nvidia-cap<minor>, as in the driver's table `mig-minors`."""
    per_instance = 1 + COMPUTE_INSTANCES
    base = FIRST_MINOR + (gpu * GPU_INSTANCES + gpu_instance) * per_instance
    return base if compute_instance is None else base + 1 + compute_instance


def sync_capabilities(facts: MachineFacts, state: State) -> None:
    """Make the tree show the instances of `state`; does nothing without a tree, and nothing twice."""
    if not state.behaviour.tree:
        return
    root = Path(state.behaviour.tree)
    for gpu_facts, gpu in zip(facts.gpus, state.gpus, strict=True):
        folder = root / "proc/driver/nvidia/capabilities" / f"gpu{gpu_facts.minor}" / "mig"
        wanted = {f"gi{one.id}": {f"ci{ci.id}": ci.id for ci in one.compute} for one in gpu.instances}
        ids = {f"gi{one.id}": one.id for one in gpu.instances}
        _keep_only(folder, wanted)
        for name, compute in wanted.items():
            _keep_only(folder / name, compute)
            _show(root, folder / name, capability_minor(gpu_facts.minor, ids[name]))
            for ci_name, ci in compute.items():
                _show(root, folder / name / ci_name, capability_minor(gpu_facts.minor, ids[name], ci))


def _keep_only(folder: Path, names: dict[str, object] | dict[str, dict[str, int]] | dict[str, int]) -> None:
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name not in names:
                shutil.rmtree(entry)


def _show(root: Path, folder: Path, minor: int) -> None:
    access = folder / "access"
    if not access.exists():
        folder.mkdir(parents=True, exist_ok=True)
        access.write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
