"""A log that begins anew when it is full: every file is readable alone, and a full disk harms nobody."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.jsonlines import RETRY_S, JsonLines, encode


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_full_file_is_put_aside_and_the_next_begins_with_the_head(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLines(path, max_bytes=100, head=lambda: [{"head": True}], keep=2)
    for number in range(40):
        log.write({"number": number})
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(read(file)[0] == {"head": True} for file in files)
    numbers = [each["number"] for file in reversed(files) for each in read(file)[1:]]
    assert numbers == list(range(40))[-len(numbers) :]
    assert all(file.stat().st_size <= 120 for file in files)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_head_larger_than_a_file_leaves_room_for_as_much_again(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log", max_bytes=10, head=lambda: [{"head": "x" * 100}])
    log.write({"number": 1})
    log.write({"number": 2})
    log.close()
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3))
def test_lines_hold_no_control_characters_and_read_back(record: dict[str, str]) -> None:
    line = encode(record)
    assert line.endswith("\n")
    assert all(" " <= character < "\x7f" for character in line[:-1])
    assert json.loads(line) == record


def test_a_full_disk_costs_records_and_a_later_file_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = JsonLines(Path("/dev/full"), max_bytes=10**9, keep=0, clock=lambda: now[0])
    log._path = tmp_path / "log"  # the disk has room again
    log.write({"number": 1})
    log.flush()
    assert "decision log stops for a while" in caplog.text
    log.write({"number": 2})
    assert log.lost == 2
    now[0] = RETRY_S
    log.write({"number": 3})
    log.close()
    assert read(tmp_path / "log") == [{"number": 3}]


def test_a_file_that_cannot_be_begun_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        JsonLines(tmp_path / "no" / "log", max_bytes=1)
