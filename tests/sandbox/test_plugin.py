"""The fixtures skip with reason and remedy where a machine lacks something, and fail there under CI=true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
def test_of_the_cluster(control_plane): ...
def test_of_a_node(node): ...
def test_of_neither(): ...
"""


def pytest_in(folder: Path, *arguments: str, ci: bool = False) -> str:
    """Run a small suite on a machine whose Kubernetes is too old; returns what pytest says."""
    (folder / "test_suite.py").write_text(SUITE)
    old = folder / "kube-apiserver"
    old.write_text("#!/bin/sh\necho Kubernetes v1.20.0\n")
    old.chmod(0o755)
    for name in ("etcd", "kube-controller-manager", "kube-scheduler"):
        (folder / name).symlink_to(old)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYTEST"))}
    environment |= {"DOVETAIL_SANDBOX_BIN": str(folder), "PYTHONPATH": str(ROOT), **({"CI": "true"} if ci else {})}
    marks = ["-o", "markers=cluster", "-o", "markers=cluster\nnode", "--strict-markers"]
    argv = [sys.executable, "-m", "pytest", "-p", "sandbox.pytest_plugin", "-p", "no:cacheprovider", *marks]
    done = subprocess.run(
        [*argv, "-ra", *arguments, "."], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_what_is_missing_skips_with_reason_and_remedy(tmp_path: Path) -> None:
    said = pytest_in(tmp_path)
    assert "1 passed, 2 skipped" in said
    assert "'Kubernetes v1.20.0', and Dovetail supports Kubernetes 1.34 to 1.37" in said
    assert "let DOVETAIL_SANDBOX_BIN name a folder with programs of such a version, or unset it" in said


def test_what_is_missing_fails_in_continuous_integration(tmp_path: Path) -> None:
    said = pytest_in(tmp_path, ci=True)
    assert "1 passed, 2 errors" in said
    assert "CI=true, and " in said


@pytest.mark.parametrize(("selection", "chosen"), [("cluster", 2), ("node", 1), ("not cluster", 1), ("not node", 2)])
def test_tests_carry_the_markers_of_their_fixtures(tmp_path: Path, selection: str, chosen: int) -> None:
    said = pytest_in(tmp_path, "--collect-only", "-q", "-m", selection)
    assert len([line for line in said.splitlines() if "::" in line]) == chosen
