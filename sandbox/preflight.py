"""Whether this machine can run a node, and what to do where it cannot."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox import cgroups, isolation, linux, rundir
from sandbox.errors import ForeignRuntimeError, UnavailableError
from sandbox.programs import ISOLATE

RUNTIMES = ("kubelet", "containerd")
APT = "apt-get install -y --no-install-recommends runc busybox-static"
EXEC_S = 0.1
DYNAMIC_LINKER = b"/lib64/ld-linux"


@dataclass(frozen=True, slots=True)
class MachinePrograms:
    """What a node takes from the machine."""

    runc: Path
    shell: Path
    """A statically linked busybox: all that the test image holds."""


def check() -> MachinePrograms:
    """Return the machine's programs. Raises UnavailableError naming all that is missing for a node.

    On cgroup v2 the kubelet's controllers are enabled below the root, which only a try can tell.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise UnavailableError("a node needs Linux and root", "run as root, or in a privileged container")
    if reasons := [*_missing_rights(), *_missing_features()]:
        raise UnavailableError("; ".join(reasons), "use a virtual machine or a privileged container")
    cgroups.pass_on()
    return _machine_programs()


def refuse_foreign_runtime(processes: Path = Path("/proc")) -> None:
    """Raise ForeignRuntimeError when a kubelet or containerd runs here that no sandbox started."""
    suspects = _foreign_runtimes(processes)
    if suspects:
        time.sleep(EXEC_S)  # one of ours may be between its start and its environment
        suspects &= _foreign_runtimes(processes)
    for name, pid in sorted(suspects):
        raise ForeignRuntimeError(
            f"a {name} that is not ours runs here (process {pid})",
            "stop it, or use another machine: two of them would fight over cgroups and containers",
        )


def _foreign_runtimes(processes: Path) -> set[tuple[str, int]]:
    """Name and number of each runtime without the variable that every program of a sandbox inherits."""
    found = set()
    for process in processes.glob("[0-9]*"):
        try:
            name = (process / "comm").read_text().strip()
            if name in RUNTIMES and f"{rundir.OWNER}=".encode() not in (process / "environ").read_bytes():
                found.add((name, int(process.name)))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _missing_rights() -> Iterator[str]:
    if missing := linux.missing_capabilities():
        yield f"this process lacks {', '.join(missing)}"
    if missing := cgroups.missing_controllers():
        yield f"cgroup controllers are missing: {', '.join(missing)}"
        return
    for hierarchy in cgroups.hierarchies():
        probe = hierarchy / f"dovetail-probe-{os.getpid()}"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as fault:
            yield f"cannot make a cgroup in {hierarchy}: {fault.strerror}"


def _missing_features() -> Iterator[str]:
    if "overlay" not in Path("/proc/filesystems").read_text():
        yield "the kernel has no overlayfs"
    if not Path("/dev/kmsg").exists():
        yield "/dev/kmsg is missing, which the kubelet reads"
    if isolation.is_covered(rundir.base()):
        yield f"{rundir.base()} lies below one of {', '.join(isolation.COVERED)}: point DOVETAIL_SANDBOX_DIR elsewhere"
    with tempfile.TemporaryDirectory(dir=rundir.base()) as folder:
        device = Path(folder) / "null"
        try:
            os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
            device.read_bytes()
        except OSError as fault:
            yield f"device files do not work below {rundir.base()}: {fault.strerror}"
    if shutil.which(ISOLATE[0]) is None or subprocess.run([*ISOLATE, "true"], check=False).returncode != 0:  # noqa: S603
        yield "unshare(1) cannot make PID, mount and UTS namespaces"


def _machine_programs() -> MachinePrograms:
    runc = shutil.which("runc") or shutil.which("runc", path="/usr/sbin:/usr/local/sbin")
    shell = shutil.which("busybox") or shutil.which("busybox", path="/bin:/usr/bin")
    missing = [name for name, found in (("runc", runc), ("busybox", shell)) if found is None]
    if shell is not None and DYNAMIC_LINKER in Path(shell).read_bytes()[:4096]:
        missing.append("a statically linked busybox")
    if missing or runc is None or shell is None:
        raise UnavailableError(f"this machine has no {' and no '.join(missing)}", APT)
    return MachinePrograms(Path(runc), Path(shell))
