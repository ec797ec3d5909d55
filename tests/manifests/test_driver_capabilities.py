"""What the driver does with a capability of root's works with those that `confined` leaves it.

In the sandbox the simulated driver root has no shell, so that programs never run with a root of their own there; on a
node with the host's `/` they do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dovetail import sandbox_cmd_driver as driver_program
from dra_driver.sharing import launch
from sandbox.podspec import workload
from sandbox.pytest_plugin import had_or_skipped

SETPRIV, SHELL = shutil.which("setpriv"), shutil.which("busybox")
SERVER = """\
import os, signal
reader, writer = os.pipe()
pid = os.fork()
if not pid:
    os.setgid(1000)
    os.setuid(1000)
    os.write(writer, b"1")
    signal.pause()
os.close(writer)
assert os.read(reader, 1) == b"1"
os.kill(pid, signal.SIGKILL)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
"""MPS serves a user by a process of that user's, and the driver ends it where it does not end by itself."""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or SETPRIV is None or SHELL is None, reason="needs root, setpriv and a static busybox"
)


@pytest.fixture(scope="module")
def confined() -> list[str]:
    """The words that run a command with the capabilities of the container and no others."""
    (container,) = workload(had_or_skipped(lambda: driver_program.manifests("confined")))["spec"]["template"]["spec"][
        "containers"
    ]
    capabilities = container["securityContext"]["capabilities"]
    assert capabilities["drop"] == ["ALL"]
    left = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities["add"])])
    assert SETPRIV is not None
    return [SETPRIV, f"--bounding-set={left}", f"--inh-caps={left}"]


def said(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nvidias_programs_run_with_the_hosts_root(confined: list[str], tmp_path: Path) -> None:
    """Time slices are set by nvidia-smi, MPS daemons by theirs, each with mounts and a root of its own."""
    root, pipe = tmp_path / "root", tmp_path / "pipe"
    for folder in (root / "bin", root / "tmp", pipe):
        folder.mkdir(parents=True)
    assert SHELL is not None
    shutil.copy(SHELL, root / "bin/sh")
    spec: launch.Spec = {
        "program": ["/bin/sh", "-c", "cd /tmp/pipe && echo at home"],
        "root": str(root),
        "binds": [(str(pipe), str(root / "tmp/pipe"))],
    }
    assert said([*confined, sys.executable, "-IS", str(launch.__file__), json.dumps(spec)]) == "at home"


@pytest.mark.parametrize(
    ("missing", "problem"), [("sys_chroot", "have {root} as the root"), ("sys_admin", "have mounts of its own")]
)
def test_a_capability_that_is_missing_is_named(missing: str, problem: str, tmp_path: Path) -> None:
    assert SETPRIV is not None
    left = f"--bounding-set=-{missing}"
    spec: launch.Spec = {"program": ["/bin/sh"], "root": str(tmp_path), "binds": []}
    (tmp_path / "tmp").mkdir()
    words = [SETPRIV, left, f"--inh-caps=-{missing}", sys.executable, "-IS", str(launch.__file__), json.dumps(spec)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    expected = f"cannot {problem.format(root=tmp_path)}: Operation not permitted; the driver must be root with CAP_"
    assert done.stderr.strip() == expected + missing.upper()


def test_processes_of_other_users_are_made_and_ended(confined: list[str]) -> None:
    assert said([*confined, sys.executable, "-IS", "-c", SERVER]) == "-9"
