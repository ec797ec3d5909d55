"""What the kernel tells of the driver's devices: majors in /proc/devices, the devices that open a MIG instance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dra_driver.errors import RetryableError

FRONTENDS = ("nvidia", "nvidia-frontend")
"""Names of the GPUs' major, newest first: R550 dropped the suffix."""
UVM = "nvidia-uvm"
CAPS = "nvidia-caps"
MONITOR = "mig/monitor"
LOAD_ALL = "nvidia-modprobe -c 0"
_REMEDIES = {UVM: "nvidia-modprobe -c 0 -u"}
_CHARACTER_DEVICES = "Character devices:"
_MAX_BYTES = 64 << 10


class KernelError(RetryableError):
    """The driver's module is not loaded, or an instance has no device (yet)."""


@dataclass(frozen=True, slots=True)
class Majors:
    """Majors of character devices by name."""

    by_name: dict[str, int]

    def of(self, *names: str) -> int:
        """Return the major of the first name that is there. Raises KernelError."""
        for name in names:
            if name in self.by_name:
                return self.by_name[name]
        raise KernelError(
            f"/proc/devices has no {' or '.join(names)}: the kernel module is not loaded; on the node run "
            f"`{_REMEDIES.get(names[0], LOAD_ALL)}` or start nvidia-persistenced"
        )


def read_majors(proc: Path) -> Majors:
    """Read the majors of character devices from `<proc>/devices`. Raises KernelError."""
    majors: dict[str, int] = {}
    is_character = False
    for line in _read(proc / "devices").splitlines():
        if not line.strip() or line.endswith(":"):
            is_character = line == _CHARACTER_DEVICES
        elif is_character and (found := re.fullmatch(r"\s*(\d+)\s+(\S+)", line)):
            # One name may have several majors; the first is the one that the driver was given.
            majors.setdefault(found[2], int(found[1]))
    return Majors(majors)


def gpu_instance_minor(proc: Path, gpu_minor: int, gpu_instance: int) -> int:
    """Return the minor of the `nvidia-caps` device that opens a GPU instance. Raises KernelError."""
    return capability_minor(proc, f"gpu{gpu_minor}/mig/gi{gpu_instance}/access")


def compute_instance_minor(proc: Path, gpu_minor: int, gpu_instance: int, compute_instance: int) -> int:
    """Return the minor of the `nvidia-caps` device that opens a compute instance. Raises KernelError."""
    return capability_minor(proc, f"gpu{gpu_minor}/mig/gi{gpu_instance}/ci{compute_instance}/access")


def capability_minor(proc: Path, capability: str) -> int:
    """Return DeviceFileMinor of `<proc>/driver/nvidia/capabilities/<capability>`. Raises KernelError."""
    path = proc / "driver/nvidia/capabilities" / capability
    found = re.search(r"^DeviceFileMinor:\s*(\d+)\s*$", _read(path), re.MULTILINE)
    if found is None:
        raise KernelError(f"{path}: has no line DeviceFileMinor; is the driver older than 450?")
    return int(found[1])


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("ascii", "replace")
    except OSError as fault:
        raise KernelError(f"cannot read {path}: {fault.strerror}; is NVIDIA's kernel module loaded?") from fault
