"""The driver's files are found wherever hosts keep them, and stand where images look for them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from dra_driver.cdi import driverfiles
from dra_driver.cdi.driverfiles import DriverFiles, DriverFilesError
from dra_driver.cdi.libraries import layouts
from dra_driver.roots import Roots
from tests.dra_driver.cdi.hosts import LIBRARY_FOLDER, VERSION, Host, elf

DEBIAN, RED_HAT = "/usr/lib/x86_64-linux-gnu", "/usr/lib64"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def found(host: Host, version: str = VERSION, *, with_32_bit: bool = False) -> dict[str, str]:
    """Container path -> file below the host's root."""
    mounts = DriverFiles(host.roots, machine="x86_64", with_32_bit=with_32_bit).mounts(version)
    assert len({mount.container_path for mount in mounts}) == len(mounts)
    assert not any(mount.writable for mount in mounts)
    return {mount.container_path: str(Path(mount.host_path).relative_to(host.root)) for mount in mounts}


def test_libraries_stand_where_both_families_of_loaders_look(host: Host) -> None:
    cuda = f"{LIBRARY_FOLDER}/libcuda.so.{VERSION}"
    mounts = found(host)
    for folder in (DEBIAN, RED_HAT):
        assert mounts[f"{folder}/libcuda.so.{VERSION}"] == cuda
        assert mounts[f"{folder}/libcuda.so.1"] == cuda
        assert mounts[f"{folder}/libcuda.so"] == cuda
        assert mounts[f"{folder}/libnvidia-ml.so.1"] == f"{LIBRARY_FOLDER}/libnvidia-ml.so.{VERSION}"


def test_both_names_are_there_without_links_on_the_host(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for link in ("libcuda.so.1", "libnvidia-ml.so.1"):
        (host.root / LIBRARY_FOLDER / link).unlink()
    assert {f"{DEBIAN}/libcuda.so.1", f"{DEBIAN}/libcuda.so", f"{DEBIAN}/libnvidia-ml.so.1"} <= set(found(host))


def test_every_link_to_a_library_is_a_name_of_it(host: Host) -> None:
    """libnvidia-nvvm is opened as .so.4, libGLX_nvidia as .so.0: no rule gives that, the host's links do."""
    host.library("libnvidia-nvvm", "libnvidia-nvvm.so.4")
    host.link(f"{LIBRARY_FOLDER}/libnvidia-nvvm.so", "libnvidia-nvvm.so.4")
    names = {PurePosixPath(path).name for path in found(host) if "nvvm" in path}
    assert names == {f"libnvidia-nvvm.so.{VERSION}", "libnvidia-nvvm.so.4", "libnvidia-nvvm.so"}


def test_other_versions_are_left_alone(host: Host) -> None:
    """An upgrade leaves the old files for a while: a link may still point there."""
    host.library("libnvidia-ptxjitcompiler", "libnvidia-ptxjitcompiler.so.1", version="550.54.15")
    host.put(f"{LIBRARY_FOLDER}/libc.so.6", elf(2))
    assert not any("ptxjit" in path or "libc.so" in path for path in found(host))


def test_libraries_of_the_driver_with_a_version_of_their_own_come_along(host: Host) -> None:
    host.put(f"{LIBRARY_FOLDER}/libnvidia-egl-gbm.so.1.1.2", elf(2))
    host.link(f"{LIBRARY_FOLDER}/libnvidia-egl-gbm.so.1", "libnvidia-egl-gbm.so.1.1.2")
    host.put(f"{LIBRARY_FOLDER}/vdpau/libvdpau_nvidia.so.{VERSION}", elf(2))
    assert {
        f"{DEBIAN}/libnvidia-egl-gbm.so.1",
        f"{RED_HAT}/libnvidia-egl-gbm.so.1.1.2",
        f"{DEBIAN}/vdpau/libvdpau_nvidia.so.{VERSION}",
    } <= set(found(host))


@pytest.mark.parametrize(
    "folder", ["usr/lib64", "lib64", "usr/lib/x86_64-linux-gnu/nvidia/current", "glibc/lib", "usr/lib64/nvidia", "lib"]
)
def test_hosts_keep_libraries_in_many_places(tmp_path: Path, folder: str) -> None:
    host = Host(tmp_path)
    for name in ("libcuda", "libnvidia-ml"):
        (host.root / LIBRARY_FOLDER / f"{name}.so.{VERSION}").unlink()
        host.library(name, f"{name}.so.1", folder=folder)
    mounts = found(host)
    assert mounts[f"{DEBIAN}/libcuda.so.1"] == mounts[f"{RED_HAT}/libcuda.so.1"] == f"{folder}/libcuda.so.{VERSION}"


def test_debians_alternatives_are_followed_within_the_driver_root(tmp_path: Path) -> None:
    """Absolute links start at the driver's root, not at ours."""
    host = Host(tmp_path)
    (host.root / LIBRARY_FOLDER / f"libcuda.so.{VERSION}").unlink()
    (host.root / LIBRARY_FOLDER / "libcuda.so.1").unlink()
    host.library("libcuda", folder=f"{LIBRARY_FOLDER}/nvidia/current")
    host.link(f"{LIBRARY_FOLDER}/libcuda.so.1", "/etc/alternatives/glx--libcuda.so.1")
    host.link("etc/alternatives/glx--libcuda.so.1", f"/{LIBRARY_FOLDER}/nvidia/current/libcuda.so.{VERSION}")
    assert found(host)[f"{DEBIAN}/libcuda.so.1"] == f"{LIBRARY_FOLDER}/nvidia/current/libcuda.so.{VERSION}"


def test_a_link_never_leads_out_of_the_driver_root(tmp_path: Path) -> None:
    outside = tmp_path / f"libnvidia-secret.so.{VERSION}"
    outside.write_bytes(elf(2))
    host = Host(tmp_path / "root")
    host.link(f"{LIBRARY_FOLDER}/libnvidia-secret.so.{VERSION}", str(outside))
    host.link(f"{LIBRARY_FOLDER}/libnvidia-secret2.so.{VERSION}", "../../../../../" + outside.name)
    host.link(f"{LIBRARY_FOLDER}/libnvidia-loop.so.{VERSION}", f"libnvidia-loop.so.{VERSION}")
    host.link(f"{LIBRARY_FOLDER}/libnvidia-gone.so.{VERSION}", "nowhere")
    assert not any("secret" in path or "loop" in path or "gone" in path for path in found(host))


def test_merged_folders_are_searched_once(host: Host) -> None:
    host.link("lib", "usr/lib")
    assert all(source.startswith("usr/") for source in found(host).values())


def test_32_bits_only_if_asked_for_and_never_mixed(host: Host) -> None:
    host.put(f"usr/lib32/libcuda.so.{VERSION}", elf(1))
    host.put(f"usr/lib/libnvidia-ml.so.{VERSION}", elf(2))
    assert not any("i386" in path for path in found(host))
    mounts = found(host, with_32_bit=True)
    assert mounts["/usr/lib/i386-linux-gnu/libcuda.so.1"] == f"usr/lib32/libcuda.so.{VERSION}"
    assert mounts[f"{DEBIAN}/libcuda.so.1"] == f"{LIBRARY_FOLDER}/libcuda.so.{VERSION}"
    assert "/usr/lib/i386-linux-gnu/libnvidia-ml.so.1" not in mounts


def test_a_32_bit_library_is_not_taken_for_one_of_64(host: Host) -> None:
    host.put(f"usr/lib/libnvidia-opticalflow.so.{VERSION}", elf(1))
    assert not any("opticalflow" in path for path in found(host))


def test_arm_has_its_own_folders_and_no_32_bits() -> None:
    (only,) = layouts("aarch64", with_32_bit=True)
    assert only.container == (PurePosixPath("/usr/lib/aarch64-linux-gnu"), PurePosixPath("/usr/lib64"))


def test_programs_firmware_and_configs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driverfiles.platform, "release", lambda: "6.8.0-gpu")
    host.put("usr/bin/nvidia-cuda-mps-control", "x").chmod(0o755)
    host.put("usr/bin/nvidia-debugdump", "not a program")
    host.put("usr/bin/nvidia-persistenced", "x").chmod(0o755)
    host.put(f"lib/firmware/6.8.0-gpu/nvidia/{VERSION}/gsp_tu10x.bin")
    host.put(f"lib/firmware/nvidia/{VERSION}/gsp_old.bin")
    host.put("usr/share/glvnd/egl_vendor.d/10_nvidia.json")
    host.put("etc/vulkan/icd.d/nvidia_icd.json")
    host.put("run/nvidia-persistenced/socket")
    others = {path: source for path, source in found(host).items() if "/lib" not in path or "firmware" in path}
    assert others == {
        "/usr/bin/nvidia-smi": "usr/bin/nvidia-smi",
        "/usr/bin/nvidia-cuda-mps-control": "usr/bin/nvidia-cuda-mps-control",
        f"/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin": f"lib/firmware/6.8.0-gpu/nvidia/{VERSION}/gsp_tu10x.bin",
        "/usr/share/glvnd/egl_vendor.d/10_nvidia.json": "usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        "/etc/vulkan/icd.d/nvidia_icd.json": "etc/vulkan/icd.d/nvidia_icd.json",
    }


def test_a_driver_below_one_folder_of_its_own_is_found_whole(tmp_path: Path) -> None:
    """As on Container-Optimized OS: bin, lib64 and share side by side."""
    host = Host(tmp_path)
    for entry in ("usr/bin/nvidia-smi", f"{LIBRARY_FOLDER}/libcuda.so.1", f"{LIBRARY_FOLDER}/libcuda.so.{VERSION}"):
        (host.root / entry).unlink()
    host.library("libcuda", "libcuda.so.1", folder="lib64")
    host.put("bin/nvidia-smi", "x").chmod(0o755)
    host.put("share/glvnd/egl_vendor.d/10_nvidia.json")
    host.put("vulkan/icd.d/nvidia_icd.json")
    mounts = found(host)
    assert mounts["/usr/bin/nvidia-smi"] == "bin/nvidia-smi"
    assert mounts["/usr/share/glvnd/egl_vendor.d/10_nvidia.json"] == "share/glvnd/egl_vendor.d/10_nvidia.json"
    assert mounts["/usr/share/vulkan/icd.d/nvidia_icd.json"] == "vulkan/icd.d/nvidia_icd.json"
    assert mounts[f"{DEBIAN}/libcuda.so.1"] == f"lib64/libcuda.so.{VERSION}"


def test_a_firmware_folder_that_the_kernel_was_told_comes_first(host: Host) -> None:
    host.put("sys/module/firmware_class/parameters/path", "/var/lib/firmware\n")
    host.put(f"var/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin")
    host.put(f"lib/firmware/nvidia/{VERSION}/gsp_old.bin")
    assert {path for path in found(host) if "gsp" in path} == {f"/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"}


def test_paths_of_the_file_are_the_hosts(tmp_path: Path) -> None:
    root = tmp_path / "host/run/nvidia/driver"
    Host(root)
    roots = Roots(host_prefix=tmp_path / "host", driver_root=root, dev_root=tmp_path / "host")
    by_path = {mount.container_path: mount.host_path for mount in DriverFiles(roots, machine="x86_64").mounts(VERSION)}
    assert by_path["/usr/bin/nvidia-smi"] == "/run/nvidia/driver/usr/bin/nvidia-smi"


def test_a_host_without_libcuda_is_told_what_to_do(host: Host) -> None:
    with pytest.raises(DriverFilesError, match=re.escape(f"libcuda.so.550.1 is not below {host.root}: name the right")):
        DriverFiles(host.roots, machine="x86_64").mounts("550.1")


def test_what_was_found_is_remembered_until_the_driver_changes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = 0
    real = driverfiles.libraries

    def counted(*asked: object) -> dict[str, Path]:
        nonlocal searches
        searches += 1
        return real(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(driverfiles, "libraries", counted)
    files = DriverFiles(host.roots, machine="x86_64")
    first = files.mounts(VERSION)
    assert files.mounts(VERSION) is first
    assert searches == 1
    # An installation that adds a file shows in its folder; a new version is a new search.
    host.library("libnvidia-new")
    assert any("libnvidia-new" in mount.host_path for mount in files.mounts(VERSION))
    host.library("libcuda", version="590.1")
    assert all(not mount.host_path.endswith(VERSION) for mount in files.mounts("590.1"))
    assert searches == 3


def test_files_that_vanish_while_we_look_are_an_error_to_try_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanishing(*_asked: object) -> dict[str, Path]:
        raise FileNotFoundError(2, "No such file or directory", "libcuda.so.1")

    monkeypatch.setattr(driverfiles, "libraries", vanishing)
    with pytest.raises(DriverFilesError, match="is it being replaced"):
        DriverFiles(host.roots, machine="x86_64").mounts(VERSION)


def test_a_failed_search_is_not_remembered(host: Host) -> None:
    files = DriverFiles(host.roots, machine="x86_64")
    with pytest.raises(DriverFilesError):
        files.mounts("590.1")
    host.library("libcuda", version="590.1")
    assert files.mounts("590.1")
