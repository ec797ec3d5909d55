"""Libraries of NVIDIA's driver on this host, and where a container's dynamic loader looks for them.

They are `*.so.<version of the driver that runs>`, found where NVIDIA's container toolkit looks. A container gets them
in the folders that the loaders of Debian and of Red Hat search by themselves, under all names by which programs load
them: neither a hook nor ldconfig is needed, whatever the image is made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dra_driver.cdi.ldcache import folders_of
from dra_driver.cdi.rooted import find

CUDA = "libcuda.so"
LOADER_CACHE = PurePosixPath("/etc/ld.so.cache")
_USUAL_NAMES = {CUDA: (CUDA, f"{CUDA}.1"), "libnvidia-ml.so": ("libnvidia-ml.so.1",)}
"""Names that programs open, given also where the host's package has left the links to ldconfig."""
_OWN_VERSIONS = re.compile(r"libnvidia-(nvvm70|egl-gbm|egl-wayland|egl-xcb|egl-xlib)\.so\.[0-9.]+")
"""Libraries of the driver that do not carry its version."""
_SUBFOLDERS = ("", "vdpau")
_ELF_MAGIC = b"\x7fELF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where libraries of one word size are: on hosts, besides what the loader's cache says, and in containers."""

    elf_class: int
    """1: 32 bits, 2: 64 bits."""
    host: tuple[PurePosixPath, ...]
    container: tuple[PurePosixPath, ...]


def layouts(machine: str, *, with_32_bit: bool = False) -> tuple[Layout, ...]:
    """Return the layouts for a machine as `uname -m` calls it. 32 bits only on x86, and only if asked for."""
    own = f"{machine}-linux-gnu"
    usual = (f"/usr/lib/{own}", "/usr/lib64", f"/usr/lib/{own}/nvidia/current", f"/lib/{own}", "/lib64")
    other = (f"/lib/{own}/nvidia/current", "/usr/lib64/nvidia", "/glibc/lib", "/usr/lib", "/lib")
    wide = Layout(elf_class=2, host=_folders(*usual, *other), container=_folders(f"/usr/lib/{own}", "/usr/lib64"))
    if not with_32_bit or machine != "x86_64":
        return (wide,)
    small = ("/usr/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu/nvidia/current", "/usr/lib32", "/usr/lib", "/lib")
    return (
        wide,
        Layout(elf_class=1, host=_folders(*small), container=_folders("/usr/lib/i386-linux-gnu", "/usr/lib")),
    )


def host_folders(root: Path, layout: Layout) -> tuple[Path, ...]:
    """Return the folders below a root in which libraries are looked for, each once: the first that has one wins."""
    cache = find(root, LOADER_CACHE)
    cached = folders_of(cache, f"{CUDA}.1") if cache is not None else ()
    places = dict.fromkeys(find(root, folder) for folder in layout.host + cached)
    return tuple(place for place in places if place is not None and place.is_dir())


def libraries(root: Path, version: str, layout: Layout) -> dict[str, Path]:
    """Return the file for each path in a container, for the libraries of one driver version and word size."""
    found: dict[str, Path] = {}
    folders = host_folders(root, layout)
    for subfolder in _SUBFOLDERS:
        places = [find(root, _within(root, folder) / subfolder) for folder in folders]
        for name, library in _named(root, [place for place in places if place is not None and place.is_dir()], version):
            if _elf_class(library) in (layout.elf_class, None):
                for target in layout.container:
                    found.setdefault(str(target / subfolder / name), library)
    return found


def _named(root: Path, places: Iterable[Path], version: str) -> Iterator[tuple[str, Path]]:
    """Yield each library with each of its names: its own, those of links to it, those that programs expect."""
    entries = [path for place in places for path in sorted(place.iterdir())]
    own = [path for path in entries if _is_library(path.name, version)]
    stems = {_stem(path.name) for path in own}
    links = [path for path in entries if ".so" in path.name and _stem(path.name) in stems]
    for path in own + links:
        library = find(root, _within(root, path))
        if library is not None and _is_library(library.name, version) and library.is_file():
            for name in (path.name, *_USUAL_NAMES.get(_stem(library.name), ())):
                yield name, library


def _is_library(name: str, version: str) -> bool:
    return name.endswith(f".so.{version}") or _OWN_VERSIONS.fullmatch(name) is not None


def _within(root: Path, path: Path) -> PurePosixPath:
    """Return the path that a file below `root` has for a program whose root that is."""
    return PurePosixPath("/", path.relative_to(root))


def _stem(name: str) -> str:
    """Return `libcuda.so` of `libcuda.so.1`."""
    return name[: name.index(".so") + len(".so")]


def _elf_class(library: Path) -> int | None:
    """Return 1 for 32 bits, 2 for 64, None where the file does not say."""
    with library.open("rb") as file:
        head = file.read(len(_ELF_MAGIC) + 1)
    return head[-1] if len(head) > len(_ELF_MAGIC) and head.startswith(_ELF_MAGIC) else None


def _folders(*paths: str) -> tuple[PurePosixPath, ...]:
    return tuple(PurePosixPath(path) for path in paths)
