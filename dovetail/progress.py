"""A bar on standard error while a person waits; nothing at all where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def note_compiling() -> None:
    """Tell a person who watches that the first use compiles; nothing where nobody watches or it is done already."""
    if not sys.stderr.isatty():
        return
    from packing.kernels.jit import compiled_before

    if not compiled_before():
        sys.stderr.write("compiling the kernels, once on this machine: about half a minute ...\n")


def note_left_out(source: str, rows: int) -> None:
    """Say on standard error how many bad rows of a file were skipped: what is missing must not pass unnoticed."""
    if rows:
        sys.stderr.write(f"{rows} bad {'row' if rows == 1 else 'rows'} of {source} left out\n")


@contextmanager
def progress_bar(total: int, label: str = "simulating") -> Iterator[Callable[[], None]]:
    """Yield a function to call after each step; it moves a bar if a person watches standard error."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
