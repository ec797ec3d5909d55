"""What a node's programs must not touch on the machine, covered in their own mount namespace.

Some paths are compiled into kubelet and containerd, and the kubelet sets sysctls of the whole machine unless they have
the values it wants. Private file systems over those folders, and files with those values over those sysctls, leave
nothing to restore, whatever kills the node.
"""

from __future__ import annotations

from pathlib import Path

from sandbox import linux

COVERED = ("/run", "/var/lib", "/var/log")
"""Folders that a node has for itself: /run/containerd, /var/lib/kubelet, /var/lib/cni, /var/log/containers, ..."""
USUAL = {"kubelet": "/var/lib/kubelet", "cdi": "/run/cdi"}
"""Folders of a node's directory -> where its programs see them too, as on any machine: manifests name these paths, and
the paths of sockets below them are short enough."""
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What the kubelet wants (kubernetes/pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables)."""


def enter(directory: Path) -> None:
    """Cover the machine's folders and sysctls. Call it in a fresh mount namespace with a fresh /proc."""
    linux.share_mounts()
    for folder in COVERED:
        linux.mount_tmpfs(folder)
    for name, usual in USUAL.items():
        (directory / name).mkdir()
        Path(usual).mkdir(parents=True)
        linux.bind(directory / name, usual)
    for name, value in SYSCTLS.items():
        shadow = directory / "sysctls" / name
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.write_text(f"{value}\n")
        linux.bind(shadow, f"/proc/sys/{name}")


def is_covered(path: Path) -> bool:
    """Whether a node would not see this path."""
    return any(path.resolve().is_relative_to(folder) for folder in COVERED)
