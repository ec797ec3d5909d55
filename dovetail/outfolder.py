"""The folder a simulation writes to: nothing of an earlier run may pass for part of the new one."""

from __future__ import annotations

from pathlib import Path

import typer

from topology.errors import InvalidInputError

REPORT_NAME = "report.html"
OUR_MARK = b"<title>Dovetail: "
"""Found near the top of every report of ours; a page without it belongs to somebody else and is left alone."""

HEAD_BYTES = 1024


def remove_stale_report(out: Path) -> None:
    """Remove the report of an earlier fill from `out` and say so. Raises InvalidInputError if that fails."""
    path = out / REPORT_NAME
    try:
        with path.open("rb") as page:
            ours = OUR_MARK in page.read(HEAD_BYTES)
        if ours:
            path.unlink()
            typer.echo(f"removed {path}: it was the report of an earlier fill", err=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidInputError(str(path), "", f"cannot be removed: {error.strerror or error}") from error
