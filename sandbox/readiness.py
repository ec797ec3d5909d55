"""Whether a program on this machine is well: by a health endpoint, or a command."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import urllib3

ANSWER_S = 2.0
COMMAND_S = 20.0


def answers(url: str, authority: Path) -> bool | str:
    """Return True when a GET answers 200; else what it answers, in one line."""
    with urllib3.PoolManager(ca_certs=str(authority)) as pool:
        try:
            answer = pool.request("GET", url, timeout=ANSWER_S, retries=False)
        except urllib3.exceptions.HTTPError as fault:
            return f"{url}: {type(fault).__name__}"
    if answer.status == 200:
        return True
    return f"{url}: {answer.status} {answer.data[:200].decode(errors='replace')}".replace("\n", " ")


def succeeds(command: Sequence[str | Path]) -> bool | str:
    """Return True when a command ends with 0; else the end of what it says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_S)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"{command[0]} takes longer than {COMMAND_S:g} s"
    return True if done.returncode == 0 else done.stderr.strip()[-300:]
