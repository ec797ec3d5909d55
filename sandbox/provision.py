"""Get all programs that the tests need before they run: `python -m sandbox.provision`.

Progress is a bar where a terminal watches, else a line now and then. What cannot be had is told with its remedy: its
tests will skip. With CI=true that ends with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sandbox import preflight, tools
from sandbox.errors import UnavailableError

LINE_EVERY_S = 15.0
NEEDED = (
    tools.CONTROL_PLANE,
    ("kwok",),
    ("kubectl",),
    ("helm",),
    ("promtool",),
)


@contextmanager
def shown(console: Console) -> Iterator[tools.Progress]:
    """Give a Progress that people can follow on this console."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield tell


class _Lines:
    """Progress as lines, seldom enough for a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told_s: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if what in self._told_s and now_s - self._told_s[what] < LINE_EVERY_S:
            return
        self._told_s[what] = now_s
        amount = f": {done} of {total} packages" if total else ""
        self._console.print(f"building {what}{amount}", soft_wrap=True)


def main() -> int:
    """Build what is missing; returns the exit code."""
    argparse.ArgumentParser(prog="python -m sandbox.provision", description=__doc__).parse_args()
    console = Console(stderr=True, highlight=False)
    lacks = []
    with shown(console) as progress:
        for names in NEEDED:
            try:
                tools.provide(names, progress=progress)
            except UnavailableError as lack:
                lacks.append(f"{', '.join(names)}: {lack}")
        try:
            preflight.check()
            tools.provide(tools.NODE, progress=progress)
        except UnavailableError as lack:
            lacks.append(f"a real node: {lack}")
    for line in lacks:
        console.print(f"without {line}", soft_wrap=True)
    return 1 if lacks and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
