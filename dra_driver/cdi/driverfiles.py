"""The user-space half of NVIDIA's driver on this host. A container must be lent it: its own would not fit the kernel's.

Left out on purpose: the sockets of nvidia-persistenced and of the fabric manager, which no program in a container needs
and which lead out of it; persistenced and IMEX, which serve the node and not a claim.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dra_driver.cdi.libraries import CUDA, LOADER_CACHE, host_folders, layouts, libraries
from dra_driver.cdi.model import Mount
from dra_driver.cdi.rooted import find
from dra_driver.errors import RetryableError
from dra_driver.roots import Roots

_PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_PROGRAMS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
_CONFIG_FOLDERS = {"/etc": "/etc", "/usr/share": "/usr/share", "/share": "/usr/share", "/": "/usr/share"}
"""Folder of the host -> folder of the container; some installations keep everything below one folder of their own."""
_CONFIGS = (
    "glvnd/egl_vendor.d/10_nvidia.json",
    "egl/egl_external_platform.d/15_nvidia_gbm.json",
    "egl/egl_external_platform.d/10_nvidia_wayland.json",
    "vulkan/icd.d/nvidia_icd.json",
    "vulkan/icd.d/nvidia_icd.x86_64.json",
    "vulkan/icd.d/nvidia_icd.aarch64.json",
    "vulkan/implicit_layer.d/nvidia_layers.json",
    "nvidia/nvoptix.bin",
)
_MAX_LINE = 4096


class DriverFilesError(RetryableError):
    """The driver's files are not there: not installed yet, being replaced, or under another root."""


class DriverFiles:
    """Finds the files, and remembers them while the driver's version and the folders with libraries stay the same."""

    def __init__(self, roots: Roots, *, with_32_bit: bool = False, machine: str | None = None) -> None:
        self._roots = roots
        self._layouts = layouts(machine or platform.machine(), with_32_bit=with_32_bit)
        self._known: _Known | None = None

    def mounts(self, driver_version: str) -> tuple[Mount, ...]:
        """Return what to mount, sorted by container path. Raises DriverFilesError where there is no libcuda."""
        known = self._known
        if known is None or known.version != driver_version or known.stamps != _stamps(known.stamps):
            root = self._roots.driver_root
            folders = [folder for layout in self._layouts for folder in host_folders(root, layout)]
            # Stamps first: what changes while we look is then seen the next time.
            stamps = _stamps([*folders, root / str(LOADER_CACHE)[1:]])
            known = _Known(version=driver_version, stamps=stamps, mounts=self._find(driver_version))
            self._known = known
        return known.mounts

    def _find(self, version: str) -> tuple[Mount, ...]:
        root = self._roots.driver_root
        try:
            found = dict([*self._configs(), *self._programs(), *self._firmware(version)])
            for layout in reversed(self._layouts):
                found |= libraries(root, version, layout)
        except OSError as fault:
            raise DriverFilesError(f"driver {version} below {root}: {fault}; is it being replaced?") from fault
        if not any(str(source).endswith(f"/{CUDA}.{version}") for source in found.values()):
            raise DriverFilesError(
                f"{CUDA}.{version} is not below {root}: name the right driver root, and install the driver's CUDA "
                f"libraries of the version that the kernel runs"
            )
        return tuple(Mount(path, str(self._roots.on_host(source))) for path, source in sorted(found.items()))

    def _programs(self) -> Iterator[tuple[str, Path]]:
        for program in _PROGRAMS:
            for folder in _PROGRAM_FOLDERS:
                found = find(self._roots.driver_root, f"{folder}/{program}")
                if found is not None and found.is_file() and os.access(found, os.X_OK):
                    yield f"/usr/bin/{program}", found
                    break

    def _configs(self) -> Iterator[tuple[str, Path]]:
        for config in _CONFIGS:
            for folder, target in _CONFIG_FOLDERS.items():
                found = find(self._roots.driver_root, f"{folder}/{config}")
                if found is not None and found.is_file():
                    yield f"{target}/{config}", found
                    break

    def _firmware(self, version: str) -> Iterator[tuple[str, Path]]:
        """Yield the firmware of the GPU's system processor, found in the order in which the kernel looks for it."""
        release = platform.release()
        usual = (f"/lib/firmware/{part}" for part in (f"updates/{release}", "updates", release, ""))
        for folder in filter(None, (self._custom_firmware(), *usual)):
            place = find(self._roots.driver_root, f"{folder}/nvidia/{version}")
            images = sorted(place.glob("gsp*.bin")) if place is not None else []
            yield from ((f"/lib/firmware/nvidia/{version}/{image.name}", image) for image in images)
            if images:
                return

    def _custom_firmware(self) -> str:
        try:
            with (self._roots.sys / "module/firmware_class/parameters/path").open(encoding="utf-8") as file:
                return file.read(_MAX_LINE).strip()
        except (OSError, UnicodeDecodeError):
            return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What was found, and what changes with an installation: the folders with libraries, the loader's cache."""

    version: str
    stamps: Mapping[Path, tuple[int, int, int] | None]
    mounts: tuple[Mount, ...]


def _stamps(paths: Iterable[Path]) -> dict[Path, tuple[int, int, int] | None]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns
