"""NVIDIA's own programs: found below the driver root, run for a bounded time, their complaint kept short.

Where the driver root is a whole system of its own (the host as a pod sees it, the image of a driver container) programs
run with it as their root: their libraries, the C library among them, must be that system's. A root without a shell
holds NVIDIA's files alone; then the C library is ours.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dra_driver.cdi.libraries import host_folders, layouts
from dra_driver.cdi.rooted import find
from dra_driver.config.parse import shown
from dra_driver.errors import PermanentError, RetryableError
from dra_driver.sharing import launch

Binds = Sequence[tuple[Path, str]]
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where the C library has it

KILL_S = 1.0
"""How long a killed program is waited for."""
BIN_FOLDERS = ("usr/bin", "usr/sbin", "bin", "sbin", "opt/bin", "usr/local/nvidia/bin", "usr/local/bin")
"""Where NVIDIA's container toolkit looks, and where GKE and Flatcar have them."""


class ProgramMissingError(PermanentError):
    """A program that this node's driver came without."""


class ProgramError(RetryableError):
    """A program failed, or did not end in time. `said` is what it printed, short."""

    def __init__(self, program: str, problem: str, said: str = "") -> None:
        self.said = shown(said)
        super().__init__(f"{program}: {problem}" + (f": {self.said}" if self.said else ""))


@dataclass(frozen=True, slots=True)
class Programs:
    """Programs of the driver installed at `root`."""

    root: Path

    def find(self, name: str) -> Path:
        """Return the path of a program. Raises ProgramMissingError."""
        for folder in BIN_FOLDERS:
            path = find(self.root, f"/{folder}/{name}")
            if path is not None and path.is_file() and os.access(path, os.X_OK):
                return path
        raise ProgramMissingError(
            f"{name} is in none of {', '.join(BIN_FOLDERS)} below the driver root {self.root};"
            " install it there, set the driver root right, or do without this way of sharing"
        )

    @property
    def have_own_root(self) -> bool:
        """Whether programs run with the driver root as their root."""
        return self.root != Path("/") and find(self.root, "/bin/sh") is not None

    def place(self, folder: Path, inside: str) -> str:
        """Return the path by which programs know a folder of ours that `binds` mounts at `inside`."""
        return inside if self.have_own_root else str(folder)

    def command(
        self, name: str, arguments: Sequence[str], binds: Binds = (), note: launch.Note | None = None
    ) -> list[str]:
        """Return what to execute.

        `binds`: folders of ours, and the paths at which programs with a root of their own see them; /dev/shm is mounted
        for any other too. `note`: for a daemon.
        """
        path = self.find(name)
        root = self.root if self.have_own_root else Path("/")
        wanted = [(folder, inside) for folder, inside in binds if self.have_own_root or inside == SHARED_MEMORY]
        program = [str(Path("/") / path.relative_to(root)), *arguments]
        if root == Path("/") and not wanted and note is None:
            return program
        mounts = [(str(folder), str(find(root, inside) or root / inside[1:])) for folder, inside in wanted]
        spec: launch.Spec = {"program": program, "root": str(root), "binds": mounts}
        if note is not None:
            spec["note"] = note
        return [sys.executable, "-IS", str(launch.__file__), json.dumps(spec)]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a program: nothing of ours but these variables."""
        root = Path("/") if self.have_own_root else self.root
        found = {"PATH": ":".join(str(root / folder) for folder in BIN_FOLDERS), "LC_ALL": "C"}
        if root != Path("/"):
            folders = [str(path) for layout in layouts(platform.machine()) for path in host_folders(root, layout)]
            found["LD_LIBRARY_PATH"] = ":".join(folders)
        return {**found, **variables}

    def run(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        timeout_s: float,
        variables: Mapping[str, str] | None = None,
        stdin: str = "",
        binds: Binds = (),
    ) -> str:
        """Run a program to its end and return what it printed. Raises ProgramError, ProgramMissingError."""
        command = self.command(name, arguments, binds)
        try:
            process = subprocess.Popen(  # noqa: S603 - found below the driver root, never by a user's word
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.environment(variables or {}),
                cwd="/",
                start_new_session=True,
            )
        except OSError as fault:
            raise ProgramError(name, f"cannot be started ({fault.strerror})") from fault
        try:
            output, _ = process.communicate(stdin.encode(), timeout_s)
        except subprocess.TimeoutExpired as fault:
            _kill(process)
            raise ProgramError(name, f"did not end within {timeout_s:g} s") from fault
        text = output.decode(errors="replace")
        if process.returncode != 0:
            raise ProgramError(name, f"ended with code {process.returncode}", text)
        return text


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and whatever it started: a child that keeps its output open would be waited for."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    # A call into a hung GPU cannot be killed: it ends when the GPU does, and must not take the caller along.
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_S)
