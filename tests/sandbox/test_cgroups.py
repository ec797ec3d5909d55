"""Cgroup v2: controllers reach a node's cgroups, or the machine is refused with the remedy.

The files are made up, their faults are the kernel's: a machine has one version of cgroups.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import cgroups
from sandbox.errors import UnavailableError


@pytest.fixture
def unified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a machine with cgroup v2 alone, where systemd uses some controllers already."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    return tmp_path


def test_the_controllers_of_a_kubelet_are_passed_on_and_no_others(unified: Path) -> None:
    cgroups.create("dovetail-node")
    assert (unified / "cgroup.subtree_control").read_text() == "+cpuset +hugetlb"
    assert (unified / "dovetail-node").is_dir()


def test_what_is_passed_on_already_is_not_written(unified: Path) -> None:
    (unified / "cgroup.subtree_control").write_text("cpuset cpu memory hugetlb pids\n")
    cgroups.pass_on()
    assert (unified / "cgroup.subtree_control").read_text() == "cpuset cpu memory hugetlb pids\n"


def test_a_kernel_that_refuses_is_told_with_the_remedy_and_no_cgroup_is_made(unified: Path) -> None:
    """Found in review: EBUSY, as containers with a cgroup namespace of their own get it, was a bare OSError."""
    (unified / "cgroup.subtree_control").unlink()
    (unified / "cgroup.subtree_control").symlink_to("/proc/self/oom_score_adj")  # takes numbers alone
    with pytest.raises(
        UnavailableError, match=r"takes no cpu, cpuset, memory, pids, hugetlb: Invalid argument; .*--cgroupns=host"
    ):
        cgroups.create("dovetail-node")
    assert not (unified / "dovetail-node").exists()
