"""Cgroups of a node: one root per node in every hierarchy, on cgroup v1 and v2, and their removal."""

from __future__ import annotations

import time
from pathlib import Path

from sandbox.errors import UnavailableError

ROOT = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
"""Those that a kubelet cannot do without; it also wants `hugetlb` where the machine has it."""
REMOVAL_TIME_S = 10.0


def unified() -> bool:
    """Whether this machine has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """Mounted hierarchies: one on v2, one per controller on v1."""
    if unified():
        return [ROOT]
    return sorted(path for path in ROOT.glob("*") if (path / "cgroup.procs").exists() and not path.is_symlink())


def missing_controllers() -> list[str]:
    """List the controllers which a kubelet needs and this machine lacks."""
    if unified():
        present = (ROOT / "cgroup.controllers").read_text().split()
        return [name for name in V2_CONTROLLERS if name not in present]
    return [name for name in V1_CONTROLLERS if not (ROOT / name / "cgroup.procs").exists()]


def pass_on() -> None:
    """Let cgroups below the root of cgroup v2 use the kubelet's controllers; on v1 they always may.

    Raises UnavailableError where the kernel refuses: it does where that root is not the machine's (a container with a
    cgroup namespace of its own) and has processes in it.
    """
    if not unified():
        return
    file = ROOT / "cgroup.subtree_control"
    present, passed = ((ROOT / name).read_text().split() for name in ("cgroup.controllers", file.name))
    lacking = [name for name in (*V2_CONTROLLERS, "hugetlb") if name in present and name not in passed]
    try:
        if lacking:
            file.write_text(" ".join(f"+{name}" for name in lacking))
    except OSError as fault:
        raise UnavailableError(
            f"{file} takes no {', '.join(lacking)}: {fault.strerror}",
            "use a virtual machine, or start the container in the machine's cgroup namespace (--cgroupns=host)",
        ) from fault


def create(name: str) -> None:
    """Make the cgroup `name` in every hierarchy. A new cpuset of v1 takes nobody until it has cpus and mems."""
    pass_on()
    for hierarchy in hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if not unified() and (group / setting).exists():
                (group / setting).write_text((hierarchy / setting).read_text())


def remove(name: str) -> None:
    """Remove the cgroup `name` and all below it, once its processes are gone. Raises OSError when they stay."""
    deadline = time.monotonic() + REMOVAL_TIME_S
    for group in [hierarchy / name for hierarchy in hierarchies()]:
        while group.exists():
            if _remove_tree(group):
                break
            if time.monotonic() > deadline:
                raise OSError(f"cgroup {group} is still in use by {(group / 'cgroup.procs').read_text().split()}")
            time.sleep(0.02)  # the kernel takes a moment to let go of killed processes


def _remove_tree(group: Path) -> bool:
    below = [child for child in group.rglob("*") if child.is_dir()]
    try:
        for child in sorted(below, key=lambda path: len(path.parts), reverse=True):
            child.rmdir()
        group.rmdir()
    except FileNotFoundError:
        return not group.exists()
    except OSError:
        return False
    return True
