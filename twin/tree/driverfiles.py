"""The user-space driver: libraries laid out and cached as on Ubuntu, firmware, and stand-ins for NVIDIA's programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twin.tree.elf import shared_object
from twin.tree.paths import LIBRARY_FOLDER, link, write

_LIBRARIES = {
    "libcuda": "1",
    "libcudadebugger": "1",
    "libnvidia-ml": "1",
    "libnvidia-cfg": "1",
    "libnvidia-ptxjitcompiler": "1",
    "libnvidia-nvvm": "4",
    "libnvidia-opencl": "1",
    "libnvidia-allocator": "1",
    "libnvidia-encode": "1",
    "libnvcuvid": "1",
    "libnvidia-gpucomp": "",
    "libnvidia-glcore": "",
}
"""Major of the name that programs ask for; empty where they ask for the version itself."""
_OLDER = "535.104.05"
"""A version that an upgrade left behind: never to be mixed with the one that runs."""
_STAND_INS = {"nvidia-smi": "twin.programs.smi", "nvidia-cuda-mps-control": "twin.programs.mps_control"}
_PLAIN = ("nvidia-cuda-mps-server", "nvidia-debugdump", "nvidia-persistenced", "nvidia-modprobe")


def write_libraries(root: Path, version: str) -> None:
    """Write libraries, links and the loader's cache (where this machine has `ldconfig`)."""
    folder = root / LIBRARY_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, major in _LIBRARIES.items():
        soname = f"{name}.so.{major}" if major else f"{name}.so.{version}"
        real = folder / f"{name}.so.{version}"
        real.write_bytes(shared_object(soname))
        if major:
            link(folder / soname, real)
    (folder / f"libnvidia-ml.so.{_OLDER}").write_bytes(shared_object("libnvidia-ml.so.1"))
    link(folder / "libcuda.so", folder / "libcuda.so.1")
    for chip in ("gsp_ga10x", "gsp_tu10x"):
        write(root, f"usr/lib/firmware/nvidia/{version}/{chip}.bin", f"{chip} {version}\n")
    for merged in ("lib", "bin", "sbin"):
        (root / "usr" / merged).mkdir(exist_ok=True)
        link(root / merged, root / "usr" / merged)
    _write_cache(root)


def _write_cache(root: Path) -> None:
    write(root, "etc/ld.so.conf", f"/{LIBRARY_FOLDER}\n")
    if ldconfig := shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin"):
        # -X: the links are those above. ldconfig itself would have lent libnvidia-ml.so.1 to the highest version.
        subprocess.run([ldconfig, "-X", "-r", str(root)], check=True, capture_output=True, timeout=30)  # noqa: S603


def write_programs(root: Path, state_folder: Path) -> None:
    """Write the programs: executables that work on the twin in `state_folder` from wherever they are started."""
    for name, module in _STAND_INS.items():
        _executable(root / "usr/bin" / name, _script(module, state_folder))
    for name in _PLAIN:
        _executable(root / "usr/bin" / name, "#!/bin/sh\nexit 0\n")


def _executable(path: Path, text: str) -> None:
    write(path.parent, path.name, text)
    path.chmod(0o755)


def _script(module: str, state_folder: Path) -> str:
    # The interpreter and its packages are those that run now, whatever the environment of the caller.
    home = Path(__file__).resolve().parents[2]
    return (
        f"#!{sys.executable}\nimport sys\n\nsys.path.insert(0, {str(home)!r})\n"
        f"from {module} import main\n\nsys.exit(main({str(state_folder)!r}, sys.argv[1:]))\n"
    )
