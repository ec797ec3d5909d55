"""Files that ship with the program: below this package where it is installed, else at the root of the repository."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def shipped(*parts: str) -> Path:
    """Return where a file or folder lies, by the parts of its path in the repository."""
    installed = _HERE.joinpath(*parts)
    return installed if installed.exists() else _HERE.parent.joinpath(*parts)
