"""Lists of running work: every fault of every file in one message, each with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from packing.model import MAX_REQUESTS_PER_POD
from simulator.inputs.running import read_running
from topology.errors import InvalidInputError, InvalidInputsError

HEADER = "claim,node,kind,gpus\n"


def told(*paths: Path) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInputsError) as caught:
        read_running(*paths)
    return [(Path(fault.obj).name, fault.field) for fault in caught.value.faults]


def test_faults_of_all_files_are_told_with_file_and_line(tmp_path: Path) -> None:
    one, two, three = tmp_path / "one.csv", tmp_path / "two.csv", tmp_path / "three.csv"
    one.write_text(f"{HEADER}a,n,whole,x\nb,n,nope,0\nc,n,whole,0\n")
    two.write_text(f"{HEADER}d,n,whole,99\n")
    assert told(one, two, three) == [
        ("one.csv line 2", "gpus"),
        ("one.csv line 3", "kind"),
        ("two.csv line 2", "gpus"),
        ("three.csv", ""),
    ]


def test_a_claim_in_two_files_is_told_with_both_lines(tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text(f"{HEADER}a,n,whole,0\n")
    two.write_text(f"{HEADER}b,n,whole,1\na,n,whole,2\n")
    assert told(one, two) == [("two.csv line 3", "claim")]
    with pytest.raises(InvalidInputsError, match=r"'a' is used before, in .*one\.csv line 2"):
        read_running(one, two)
    two.write_text(f"{HEADER}b,n,whole,1\n")
    assert [claim for claim, _, _ in read_running(one, two)] == ["a", "b"]


def test_rows_that_are_too_much_together_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    many = "".join(f"b,n,share,{at % 8}\n".replace("\n", ",100\n") for at in range(MAX_REQUESTS_PER_POD + 1))
    path.write_text(f"claim,node,kind,gpus,share_compute_milli\na,n,whole,x,\n{many}")
    assert told(path) == [("one.csv line 2", "gpus"), ("one.csv line 3", "requests")]


def test_a_single_file_that_cannot_be_read_is_one_plain_message(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^\S*none\.csv: cannot be read") as caught:
        read_running(tmp_path / "none.csv")
    assert not isinstance(caught.value, InvalidInputsError)
