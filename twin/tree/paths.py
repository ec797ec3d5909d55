"""Where things lie in the host tree, and how device nodes are made there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

NVIDIA_MAJOR = 195
CONTROL_MINOR, MODESET_MINOR = 255, 254
LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu"


def device_node(path: Path, major: int, minor: int) -> None:
    """Make a character device, or a plain file where only root could; leaves one that is there."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        path.chmod(0o666)
    except FileExistsError:
        return
    except PermissionError:
        path.touch()


def write(root: Path, name: str, text: str) -> None:
    """Write a file of the tree, replaced whole."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.replace(path)


def link(path: Path, to: Path) -> None:
    """Make a symbolic link that stays right wherever the tree is mounted; replaces an old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(to, path.parent))
