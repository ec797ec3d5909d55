"""docs/config.md shows what works: its examples are good, its fields are those of the schema."""

import re
from pathlib import Path

from dra_driver.config.check import check
from dra_driver.config.model import Interval, Strategy
from dra_driver.config.schema import json_schema
from dra_driver.sharing import control, mps
from dra_driver.sharing.programs import BIN_FOLDERS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "config.md").read_text(encoding="utf-8")


def test_examples_are_good():
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    for example in examples:
        findings = check(example.encode(), "docs/config.md")
        assert findings
        assert not any(finding.problem for finding in findings)


def test_all_fields_and_values_are_told():
    parts = json_schema()["$defs"]
    for name in {"SharingTerms", "TimeSlicing", "Mps"} & set(parts):
        for field in parts[name]["properties"]:
            assert re.search(rf"[`.]{field}[`.]", PAGE), f"{name}.{field} is not told"
    for value in (*Strategy, *Interval):
        assert f"`{value}`" in PAGE


def test_time_outs_and_folders_are_those_of_the_code():
    rows = dict(re.findall(r"^\| (.+?) \| ([\d s,]+) \|$", PAGE, re.MULTILINE))
    assert rows == {
        "`nvidia-smi compute-policy --set-timeslice`": f"{control.SMI_S:g} s",
        "MPS daemon until it answers": f"{mps.START_S:g} s",
        "a question to the daemon": f"{mps.ANSWER_S:g} s",
        "a daemon that runs and does not answer, until it is replaced and its clients fail": f"{mps.SLOW_S:g} s",
        "the daemon's `quit`, then SIGTERM, then SIGKILL": f"{mps.QUIT_S:g} s, {mps.END_S:g} s, {mps.END_S:g} s",
    }
    assert all(f"`{folder}`" in PAGE for folder in BIN_FOLDERS)
