"""Roots are plain absolute folders, and what is written for others has the host's paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from dra_driver.roots import Roots, RootsError


@pytest.mark.parametrize("name", ["driver_root", "dev_root", "proc", "sys", "cdi", "kubelet", "state", "host_prefix"])
@pytest.mark.parametrize("path", ["", "relative", "/a/../b", "/a\0b"])
def test_a_root_is_absolute_and_goes_nowhere_else(name: str, path: str) -> None:
    with pytest.raises(RootsError, match=name):
        Roots(**{name: Path(path)})


@pytest.mark.parametrize("name", ["driver_root", "dev_root"])
def test_what_is_given_to_containers_must_have_a_path_on_the_host(name: str) -> None:
    inside = {"driver_root": Path("/host"), "dev_root": Path("/host"), name: Path("/elsewhere")}
    with pytest.raises(RootsError, match="not below /host"):
        Roots(host_prefix=Path("/host"), **inside)


def test_the_host_knows_files_by_the_path_below_the_prefix() -> None:
    roots = Roots(host_prefix=Path("/host"), driver_root=Path("/host/run/nvidia/driver"), dev_root=Path("/host"))
    assert roots.on_host(roots.driver_root / "usr/bin/nvidia-smi") == Path("/run/nvidia/driver/usr/bin/nvidia-smi")
    assert roots.on_host(roots.dev_root / "dev/nvidia0") == Path("/dev/nvidia0")


def test_our_own_folders_are_mounted_at_their_own_paths() -> None:
    """The kubelet and we speak of one path: the socket's, and those of the folders that we mount into containers."""
    roots = Roots(host_prefix=Path("/host"), driver_root=Path("/host"), dev_root=Path("/host"))
    assert roots.on_host(roots.state / "mps") == roots.state / "mps"


def test_on_the_host_itself_paths_are_the_same() -> None:
    assert Roots().on_host(Path("/dev/nvidia0")) == Path("/dev/nvidia0")
