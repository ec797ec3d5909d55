"""Tables on a real terminal: however narrow it is, no name and no number is lost."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence

import pytest

from dovetail.output import Column, OutputFormat, Value, print_rows
from dovetail.simulate_cmd import COLUMNS
from packing.policy import POLICIES

SIMULATED: list[dict[str, Value]] = [
    {
        "policy": policy,
        "pods": "default",
        "unallocated_pct_at_100": 13.25 + at,
        "spread_at_100": 0.41,
        "unallocated_pct_at_130": 10.07 + at,
        "placed": 123456.7,
        "failed": 4321.5,
        "wins_vs_fgd": "10/10",
    }
    for at, policy in enumerate(POLICIES)
]
LISTED: list[dict[str, Value]] = [
    {"id": "hgx-h100-8", "gpus": 8, "nvlink": "nvswitch", "title": "HGX with eight H100 80 GB SXM, NVLink 4"},
    {"id": "a-machine-with-a-very-long-name-that-nobody-may-cut", "gpus": 16, "nvlink": "none", "title": "PCIe " * 20},
]
MACHINES = [Column("id", "MACHINE"), Column("gpus", "GPUS"), Column("nvlink", "NVLINK"), Column("title", "WHAT IT IS")]


END = "\x04"
"""Marks the end of what a terminal shows: it arrives in pieces."""
Show = Callable[[int, Sequence[Mapping[str, Value]], Sequence[Column]], str]


@pytest.fixture(params=["dumb", "xterm"])
def show(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Show:
    def on_terminal(width: int, rows: Sequence[Mapping[str, Value]], columns: Sequence[Column]) -> str:
        """Return what a terminal of that width shows; the table must fit into its buffer of 4 KiB."""
        ours, theirs = os.openpty()
        for name, value in (("COLUMNS", str(width)), ("NO_COLOR", "1"), ("TERM", request.param)):
            monkeypatch.setenv(name, value)
        with open(theirs, "w") as terminal, monkeypatch.context() as patched:  # noqa: PTH123 - a descriptor
            patched.setattr(sys, "stdout", terminal)
            print_rows(rows, columns, OutputFormat.TABLE)
            terminal.flush()
            terminal.write(END)
            terminal.flush()
            shown = b""
            while END.encode() not in shown:
                shown += os.read(ours, 65536)
        os.close(ours)
        text = shown.decode().removesuffix(END)
        return re.sub(r"\x1b\[[0-9;]*m", "", text.replace("\r\n", "\n"))

    return on_terminal


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_simulation_keeps_every_name_and_number_on_a_narrow_terminal(show: Show, width: int) -> None:
    shown = show(width, SIMULATED, COLUMNS).splitlines()
    body = shown[-len(SIMULATED) :]
    for row, line in zip(SIMULATED, body, strict=True):
        assert line.split() == [
            row["policy"], "default", f"{row['unallocated_pct_at_100']:.2f}", "0.41",
            f"{row['unallocated_pct_at_130']:.2f}", "123456.7", "4321.5", "10/10",
        ]  # fmt: skip
    for word in " ".join(column.title for column in COLUMNS).split():
        assert any(word in line for line in shown)
    assert width == 60 or all(len(line) <= width for line in shown)


@pytest.mark.parametrize("width", [60, 80])
def test_a_list_of_machines_wraps_words_and_cuts_none(show: Show, width: int) -> None:
    shown = show(width, LISTED, MACHINES)
    words = shown.split()
    for row in LISTED:
        for value in row.values():
            for word in str(value).split():
                assert word in words
    assert words.count("PCIe") == 20
    assert "\u2026" not in shown


def test_text_breaks_so_that_the_table_stays_inside_the_terminal(show: Show) -> None:
    shown = show(60, LISTED[:1], MACHINES)
    assert all(len(line) <= 60 for line in shown.splitlines())
