"""Where the host's folders are: everything that the driver reads from or writes to the host lies under one of these.

All are paths as this process sees them. In a pod the host's folders are mounted under one prefix, each at its own path
below it (`/host/run/nvidia/driver` for `/run/nvidia/driver`); what is written for others to read, such as a CDI file,
has the host's own path: `on_host`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DRIVER_NAME = "gpu.dovetail.dev"


class RootsError(ValueError):
    """A root that cannot be used. The text names it and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The roots, absolute and without `..`. Raises RootsError where one is not, or a written path lies off the host."""

    driver_root: Path = Path("/")
    """Where NVIDIA's driver is installed: its libraries, nvidia-smi, firmware."""
    dev_root: Path = Path("/")
    """`<dev_root>/dev/nvidia0` is the first GPU."""
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    cdi: Path = Path("/var/run/cdi")
    """The folder of CDI files. The runtime reads it, so it must be one of its `cdi_spec_dirs`."""
    kubelet: Path = Path("/var/lib/kubelet")
    state: Path = Path("/var/lib/kubelet/plugins") / DRIVER_NAME
    """What we keep. The kubelet finds the plugin's socket here too."""
    host_prefix: Path = Path("/")
    """Below this the process sees the host; `/` where it runs on the host itself."""

    def __post_init__(self) -> None:
        for name in ("driver_root", "dev_root", "proc", "sys", "cdi", "kubelet", "state", "host_prefix"):
            path: Path = getattr(self, name)
            if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
                raise RootsError(f"{name}: is {str(path)!r}; must be absolute and without '..'")
        for name in ("driver_root", "dev_root"):
            if not getattr(self, name).is_relative_to(self.host_prefix):
                raise RootsError(
                    f"{name}: {getattr(self, name)} is not below {self.host_prefix}; mount the host's folder "
                    f"at its own path below the host prefix"
                )

    def on_host(self, path: Path) -> Path:
        """Return the path by which the host knows what we see at `path`.

        What is not below the host prefix is mounted at its own path, as the kubelet's folders and ours are.
        """
        return Path("/") / path.relative_to(self.host_prefix) if path.is_relative_to(self.host_prefix) else path
