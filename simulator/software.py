"""What the results of a run depend on besides its inputs: versions of packages, and this very code."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTIONS = ("dovetail", "networkx", "numba", "numpy", "scipy")
CODE = ("packing", "simulator", "topology")
MISSING = "not installed"


@cache
def software() -> Mapping[str, str]:
    """Return names and versions; `code` is a digest of our sources, since two builds may bear one version."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = MISSING
    return found | {"code": _digest()}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return in words where `found` differs from `expected`; an empty string where it does not."""
    return ", ".join(
        f"{name} {found.get(name, MISSING)} (here {wanted})"
        for name, wanted in expected.items()
        if found.get(name, MISSING) != wanted
    )


def _digest() -> str:
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for package in CODE:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                digest.update(path.relative_to(root).as_posix().encode() + b"\0")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
