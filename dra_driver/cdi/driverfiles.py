"""The user-space half of NVIDIA's driver on this host. A container must be lent it: its own would not fit the kernel's.

Libraries are `*.so.<version of the driver that runs>`. They are put into the folders that the dynamic loaders of Debian
and of Red Hat search by themselves, at all names by which programs load them: neither a hook nor ldconfig is needed,
whatever the image is made of.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dra_driver.cdi.ldcache import folders_of
from dra_driver.cdi.model import Mount
from dra_driver.cdi.rooted import find
from dra_driver.errors import RetryableError
from dra_driver.roots import Roots

CUDA = "libcuda.so"
_SONAMES = {CUDA: (CUDA, f"{CUDA}.1"), "libnvidia-ml.so": ("libnvidia-ml.so.1",)}
"""Names that programs open, also where the host's package has left them to ldconfig."""
_LOADER_CACHE = "/etc/ld.so.cache"
_SUBFOLDERS = ("vdpau",)
_PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_PROGRAMS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
_CONFIG_FOLDERS = ("/etc", "/usr/share")
_CONFIGS = (
    "glvnd/egl_vendor.d/10_nvidia.json",
    "egl/egl_external_platform.d/15_nvidia_gbm.json",
    "egl/egl_external_platform.d/10_nvidia_wayland.json",
    "vulkan/icd.d/nvidia_icd.json",
    "vulkan/implicit_layer.d/nvidia_layers.json",
    "nvidia/nvoptix.bin",
)
_ELF_MAGIC = b"\x7fELF"
_ELF_CLASS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where libraries of one word size are: on hosts, besides what the loader's cache says, and in containers."""

    elf_class: int
    """1: 32 bits, 2: 64 bits."""
    host: tuple[str, ...]
    container: tuple[str, ...]


def layouts(machine: str, *, with_32_bit: bool = False) -> tuple[Layout, ...]:
    """Return the layouts for a machine as `uname -m` calls it. 32 bits only on x86, and only if asked for."""
    own = f"{machine}-linux-gnu"
    folders = (f"/usr/lib/{own}", "/usr/lib64", f"/lib/{own}", "/lib64")
    nvidia = (f"/usr/lib/{own}/nvidia/current", "/usr/lib64/nvidia", "/lib64/nvidia", "/glibc/lib", "/lib", "/usr/lib")
    wide = Layout(elf_class=2, host=folders + nvidia, container=(f"/usr/lib/{own}", "/usr/lib64"))
    if not with_32_bit or machine != "x86_64":
        return (wide,)
    small = ("/usr/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu/nvidia/current", "/usr/lib32", "/usr/lib", "/lib")
    return (wide, Layout(elf_class=1, host=small, container=("/usr/lib/i386-linux-gnu", "/usr/lib")))


class DriverFilesError(RetryableError):
    """The driver's files are not there: not installed yet, being replaced, or under another root."""


class DriverFiles:
    """Finds the files, and remembers them as long as the driver's version and the folders are the same."""

    def __init__(self, roots: Roots, *, with_32_bit: bool = False, machine: str | None = None) -> None:
        self._roots = roots
        self._layouts = layouts(machine or platform.machine(), with_32_bit=with_32_bit)
        self._known: tuple[object, tuple[Mount, ...]] | None = None

    def mounts(self, driver_version: str) -> tuple[Mount, ...]:
        """Return what to mount, sorted by container path. Raises DriverFilesError where there is no libcuda."""
        stamp = (driver_version, self._stamp())
        known = self._known
        if known is not None and known[0] == stamp:
            return known[1]
        found = dict(self._all(driver_version))
        mounts = tuple(
            Mount(container_path=path, host_path=str(self._roots.on_host(source)))
            for path, source in sorted(found.items())
        )
        self._known = (stamp, mounts)
        return mounts

    def _all(self, version: str) -> Iterator[tuple[str, Path]]:
        """Yield container path and file; of the same path the last one counts."""
        yield from self._configs()
        yield from self._programs()
        yield from self._firmware(version)
        for layout in reversed(self._layouts):
            libraries = list(self._libraries(version, layout))
            if layout.elf_class == self._layouts[0].elf_class and not any(
                path.endswith(f"/{CUDA}.{version}") for path, _source in libraries
            ):
                raise DriverFilesError(
                    f"{CUDA}.{version} is not below {self._roots.driver_root}; is the driver root right, and is driver "
                    f"{version} installed there with its CUDA libraries?"
                )
            yield from libraries

    def _libraries(self, version: str, layout: Layout) -> Iterator[tuple[str, Path]]:
        # The first folder that has a library wins, hence comes last.
        for folder in reversed(self._library_folders(layout)):
            for subfolder in ("", *_SUBFOLDERS):
                place = find(self._roots.driver_root, folder / subfolder)
                if place is None or not place.is_dir():
                    continue
                for library, names in _by_library(self._roots.driver_root, folder / subfolder, place, version):
                    if _elf_class(library) in (layout.elf_class, None):
                        yield from (
                            (str(PurePosixPath(target, subfolder, name)), library)
                            for target in layout.container
                            for name in names
                        )

    def _library_folders(self, layout: Layout) -> tuple[PurePosixPath, ...]:
        known = tuple(PurePosixPath(folder) for folder in layout.host)
        cache = find(self._roots.driver_root, _LOADER_CACHE)
        return tuple(dict.fromkeys(known + (folders_of(cache, f"{CUDA}.1") if cache else ())))

    def _programs(self) -> Iterator[tuple[str, Path]]:
        for program in _PROGRAMS:
            for folder in _PROGRAM_FOLDERS:
                found = find(self._roots.driver_root, f"{folder}/{program}")
                if found is not None and found.is_file() and os.access(found, os.X_OK):
                    yield f"/usr/bin/{program}", found
                    break

    def _configs(self) -> Iterator[tuple[str, Path]]:
        for config in _CONFIGS:
            for folder in _CONFIG_FOLDERS:
                found = find(self._roots.driver_root, f"{folder}/{config}")
                if found is not None and found.is_file():
                    yield f"{folder}/{config}", found
                    break

    def _firmware(self, version: str) -> Iterator[tuple[str, Path]]:
        """Yield the firmware of the GPU's system processor, where the kernel looks for firmware."""
        custom = self._roots.sys / "module/firmware_class/parameters/path"
        folders = [_line(custom), *(f"/lib/firmware/{part}" for part in _firmware_parts())]
        for folder in filter(None, folders):
            place = find(self._roots.driver_root, f"{folder}/nvidia/{version}")
            images = sorted(place.glob("gsp*.bin")) if place is not None else []
            for image in images:
                yield f"/lib/firmware/nvidia/{version}/{image.name}", image
            if images:
                return

    def _stamp(self) -> object:
        """Return what changes with an installation: the folders in which libraries are, the loader's cache."""
        folders = [folder for layout in self._layouts for folder in self._library_folders(layout)]
        return tuple(
            _identity(find(self._roots.driver_root, path)) for path in (*folders, PurePosixPath(_LOADER_CACHE))
        )


def _by_library(root: Path, folder: PurePosixPath, place: Path, version: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield each library of this version in a folder with the names by which programs may open it."""
    names: dict[Path, set[str]] = {}
    for entry in sorted(place.iterdir()):
        target = find(root, folder / entry.name) if ".so" in entry.name else None
        if target is not None and target.name.endswith(f".so.{version}") and target.is_file():
            names.setdefault(target, {target.name}).add(entry.name)
    for library, found in names.items():
        usual = _SONAMES.get(library.name.removesuffix(f".{version}"), ())
        yield library, tuple(sorted(found.union(usual)))


def _elf_class(library: Path) -> int | None:
    """Return 1 for 32 bits, 2 for 64, None where the file does not say."""
    with library.open("rb") as file:
        head = file.read(_ELF_CLASS + 1)
    return head[_ELF_CLASS] if len(head) > _ELF_CLASS and head.startswith(_ELF_MAGIC) else None


def _firmware_parts() -> tuple[str, ...]:
    release = platform.release()
    return (f"updates/{release}", "updates", release, "")


def _line(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _identity(path: Path | None) -> tuple[int, int, int] | None:
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino, status.st_mtime_ns)
