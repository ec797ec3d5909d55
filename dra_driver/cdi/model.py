"""What a container can be given: device nodes, environment, mounts. Nothing else exists here, hooks least of all.

Every value is checked when it is made, so that no text of a claim, a config or a folder becomes another line, another
variable or another path of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from dra_driver.errors import PermanentError

VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
MAX_VALUE = 4096

_ENV_NAME = re.compile(
    r"CUDA_MPS_(PIPE_DIRECTORY|LOG_DIRECTORY|PINNED_DEVICE_MEM_LIMIT|ACTIVE_THREAD_PERCENTAGE)|DOVETAIL_[A-Z0-9_]{1,200}"
)
_PRINTABLE = re.compile(r"[ -~]*")
_NO_MOUNTS_BELOW = tuple(PurePosixPath(path) for path in ("/proc", "/sys", "/dev"))
_SHARED_MEMORY = PurePosixPath("/dev/shm")  # noqa: S108 - a place in the container, as glibc has it
_NODE_PATH = re.compile(r"/dev/[a-zA-Z0-9][a-zA-Z0-9_-]*(/[a-zA-Z0-9][a-zA-Z0-9_-]*)?")
MAX_MAJOR = (1 << 12) - 1
MAX_MINOR = (1 << 20) - 1


class CdiContentError(PermanentError):
    """Something that must not stand in a CDI file. The text names it."""


@dataclass(frozen=True, slots=True, order=True)
class EnvVar:
    """An environment variable that is on the allow-list: `CUDA_MPS_*`, `DOVETAIL_*`, NVIDIA_VISIBLE_DEVICES=void."""

    name: str
    value: str

    def __post_init__(self) -> None:
        if (self.name, self.value) == (VISIBLE_DEVICES, "void"):
            return
        if not _ENV_NAME.fullmatch(self.name):
            raise CdiContentError(f"environment variable {self.name[:80]!r} is not among those that a claim may set")
        if len(self.value) > MAX_VALUE or not _PRINTABLE.fullmatch(self.value):
            raise CdiContentError(
                f"environment variable {self.name}: value must be printable ASCII of at most {MAX_VALUE} characters"
            )


@dataclass(frozen=True, slots=True, order=True)
class DeviceNode:
    """A character device by its numbers. `host_path` is empty where the host has it at the same path."""

    path: str
    major: int
    minor: int
    host_path: str = ""

    def __post_init__(self) -> None:
        if not _NODE_PATH.fullmatch(self.path):
            raise CdiContentError(f"device node {self.path[:80]!r}: must be a plain path below /dev")
        if not (0 < self.major <= MAX_MAJOR and 0 <= self.minor <= MAX_MINOR):
            raise CdiContentError(f"device node {self.path}: there is no device {self.major}:{self.minor}")
        if self.host_path:
            _require_plain(self.host_path, f"device node {self.path}: host path")


@dataclass(frozen=True, slots=True, order=True)
class Mount:
    """A file or folder of the host in the container. `writable` is for folders of sockets: never run from there."""

    container_path: str
    host_path: str
    writable: bool = False

    def __post_init__(self) -> None:
        _require_plain(self.host_path, "mount: host path")
        _require_plain(self.container_path, "mount: container path")
        there = PurePosixPath(self.container_path)
        if any(there.is_relative_to(path) for path in _NO_MOUNTS_BELOW) and there != _SHARED_MEMORY:
            raise CdiContentError(f"mount: container path {self.container_path} would hide what the runtime puts there")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What is done to a container. Together they are in the order given, without repetition."""

    env: tuple[EnvVar, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            env=tuple(dict.fromkeys(self.env + other.env)),
            nodes=tuple(dict.fromkeys(self.nodes + other.nodes)),
            mounts=tuple(dict.fromkeys(self.mounts + other.mounts)),
        )


NO_EDITS = Edits()


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiDevice:
    """One device of a claim: `name` without vendor and class, and what its containers get beyond the common."""

    name: str
    edits: Edits


def _require_plain(path: str, what: str) -> None:
    """Raise unless a path is absolute, not `/`, printable, and says the same to every reader."""
    plain = path.startswith("/") and path != "/" and str(PurePosixPath(path)) == path and not path.startswith("//")
    if not plain or ".." in path.split("/") or not _PRINTABLE.fullmatch(path) or len(path) > MAX_VALUE:
        raise CdiContentError(f"{what} {path[:80]!r}: must be absolute, normal and printable, and not the root")
