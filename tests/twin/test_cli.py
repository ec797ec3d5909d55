"""`python -m twin` as an operator types it."""

import json

import pytest

from twin import Twin
from twin.cli import main


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / "t"
    assert main(["new", str(folder), "--machine", "dgx-a100-40", "--tree", str(tmp_path / "host"), "--mig"]) == 0
    return str(folder)


def shown(state: str, capsys) -> dict:
    assert main(["show", state, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)["state"]


def test_trouble_is_brought_and_shown(state, capsys):
    for command in (
        ["xid", state, "1", "48", "--mig", "2/0", "--recovery-action", "1"],
        ["lose", state, "2"],
        ["link", state, "3", "5", "down"],
        ["fault", state, "nvmlDeviceGetName", "--code", "999", "--nth", "3"],
    ):
        assert main(command) == 0
    now = shown(state, capsys)
    assert [(one["gpu"], one["kind"], one["data"]) for one in now["events"]] == [(1, 8, 48), (1, 0x8000, 1), (2, 8, 79)]
    assert now["gpus"][2]["lost"]
    assert now["gpus"][3]["links_down"] == [5]
    assert now["faults"][0]["skip"] == 2
    assert main(["recover", state, "2"]) == main(["fault", state, "--clear"]) == 0
    now = shown(state, capsys)
    assert not now["gpus"][2]["lost"]
    assert now["faults"] == []


def test_a_busy_gpu_is_not_reset(state, capsys):
    with Twin.open(state).change() as now:
        now.gpus[0].mig_enabled = now.gpus[0].mig_pending = False
    assert main(["process", state, "0", "--pid", "77"]) == 0
    assert main(["reset", state, "0"]) == 1
    assert "In use by another client" in capsys.readouterr().err
    assert main(["process", state, "--pid", "77", "--gone"]) == 0
    assert main(["reset", state, "0"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new", "{}", "--machine", "dgx-a100-40"], "holds a twin already"),
        (["new", "{}/x", "--machine", "dgx-a100"], "is not known; known: "),
        (["xid", "{}", "9", "48"], "no GPU 9"),
        (["show", "{}/none"], "No such file"),
    ],
)
def test_what_cannot_be_is_said(state, capsys, arguments, said):
    assert main([one.format(state) for one in arguments]) == 1
    assert said in capsys.readouterr().err
