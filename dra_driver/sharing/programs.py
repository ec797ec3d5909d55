"""NVIDIA's own programs: found below the driver root, run for a bounded time, their complaint kept short."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dra_driver.cdi.rooted import find
from dra_driver.config.parse import shown
from dra_driver.errors import PermanentError, RetryableError

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

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a program: nothing of ours but these variables."""
        folders = [str(self.root / folder) for folder in BIN_FOLDERS]
        return {"PATH": ":".join(folders), "LC_ALL": "C", **variables}

    def run(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        timeout_s: float,
        variables: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> str:
        """Run a program to its end and return what it printed. Raises ProgramError, ProgramMissingError."""
        command = [str(self.find(name)), *arguments]
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
        with process:
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
    process.wait()
