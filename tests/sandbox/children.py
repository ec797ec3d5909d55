"""Processes beside the test: they hear Ctrl-C as at a terminal, and none of them outlives its test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 300.0
"""A child that hangs is killed then, which ends every wait for its end and for its output."""

Child = subprocess.Popen[str]


@contextlib.contextmanager
def child(*words: str, stderr: int | None = None) -> Iterator[Child]:
    """Run python with `words` from the root of the repository, in a process group of its own.

    Its output can be read from `stdout`; `stderr` is as Popen takes it. Leaving kills it unless it has ended.
    """
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        process_group=0,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - it calls sigaction and nothing else
    )
    limit = threading.Timer(LIMIT_S, _kill, [process])
    limit.start()
    try:
        with process:
            try:
                yield process
            finally:
                _kill(process)
    finally:
        limit.cancel()


def _hear_interrupts() -> None:
    """Under nohup, and in the background of a script, SIGINT is ignored, and a child inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _kill(process: Child) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def first_line(process: Child) -> str:
    """Return the first line that a child writes; none when it ended before."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: Child, number: signal.Signals) -> int:
    """Send a signal to the whole group of a child, as Ctrl-C does; returns its exit code."""
    os.killpg(process.pid, number)
    return process.wait()
