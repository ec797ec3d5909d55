"""Settings of the driver: what is wrong is said with the flag that is wrong, and nothing starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dovetail.cli import app
from dovetail.driver_options import Mig
from dra_driver.app import main
from dra_driver.policy import MigPolicy
from dra_driver.settings import Settings, make_roots, read_listen, read_sharing
from topology.errors import InvalidInputError
from topology.modes import Sharing


def test_the_words_of_the_flag_are_those_of_the_policy() -> None:
    assert [each.value for each in Mig] == [each.value for each in MigPolicy]


@pytest.mark.parametrize(
    ("words", "kinds"),
    [(None, tuple(Sharing)), (["none"], ()), (["mps"], (Sharing.MPS,)), (["mps", "mps"], (Sharing.MPS,))],
)
def test_kinds_of_sharing(words: list[str] | None, kinds: tuple[Sharing, ...]) -> None:
    assert read_sharing(words) == kinds


@pytest.mark.parametrize(
    ("words", "problem"), [(["mig"], "known: time-slicing, mps, none"), (["none", "mps"], "no other")]
)
def test_wrong_kinds_of_sharing(words: list[str], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem) as refused:
        read_sharing(words)
    assert refused.value.field == "--sharing"


@pytest.mark.parametrize("name", ["", "Node", "a_b", "x" * 254])
def test_a_wrong_name_of_the_node(name: str) -> None:
    with pytest.raises(InvalidInputError, match="is no name of a node; give the"):
        Settings(node=name)


@pytest.mark.parametrize("uid", ["../etc", "a/b", "A", "-"])
def test_a_wrong_uid_never_becomes_a_path(uid: str) -> None:
    with pytest.raises(InvalidInputError, match="--pod-uid"):
        Settings(node="node-1", pod_uid=uid)


def test_a_root_that_is_not_below_the_host_prefix() -> None:
    with pytest.raises(InvalidInputError, match="driver_root: /run is not below /host"):
        make_roots(
            Path("/var/lib/kubelet"), host_prefix=Path("/host"), driver_root=Path("/run"), dev_root=Path("/host")
        )


def test_probes_are_on_loopback_unless_told_otherwise() -> None:
    assert Settings(node="node-1").listen.is_loopback
    assert not read_listen(":12391").is_loopback
    with pytest.raises(InvalidInputError, match=r"--listen.*is no address such as 127\.0\.0\.1:12391"):
        read_listen("localhost")


def test_public_settings_are_plain() -> None:
    import msgspec

    public = msgspec.json.decode(msgspec.json.encode(Settings(node="node-1").public()))
    assert public["mig"] == "dynamic"
    assert public["roots"]["kubelet"] == "/var/lib/kubelet"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--node-name'"),
        (["--node-name", "n", "--driver-rot", "/x"], "Possible options: --cdi-root, --dev-root, --driver-root"),
        (["--node-name", "n", "--mig", "on"], "'on' is not one of 'dynamic', 'as-found', 'disabled'"),
    ],
)
def test_a_mistyped_flag_says_what_is_right(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["driver", *arguments], env={"COLUMNS": "300", "TERM": "dumb"})
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "evicts"), [([], False), (["--evict"], True), (["--evict", "--no-evict"], False)]
)
def test_whether_pods_are_evicted_is_asked_for(
    arguments: list[str], evicts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Settings] = []

    def noted(settings: Settings) -> str:
        asked.append(settings)
        return ""

    monkeypatch.setattr("dra_driver.app.main", noted)
    done = CliRunner().invoke(app, ["driver", "--node-name", "n", *arguments])
    assert done.exit_code == 0, done.output
    assert [each.evict for each in asked] == [evicts]


def test_a_folder_that_is_no_kubelets_is_left_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "kubelet"
    failure = main(Settings(node="n", roots=make_roots(root), listen=read_listen("127.0.0.1:0")))
    assert f"--kubelet-root: {root}/plugins_registry is not there; give the kubelet's --root-dir" in failure
    assert not root.exists()


def test_a_value_that_cannot_be_used_ends_with_one_line() -> None:
    argv = [sys.executable, "-m", "dovetail", "driver", "--node-name", "Node_1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    remedy = "give the metadata.name of the Node that this runs on"
    assert done.stderr == f"dovetail: driver settings: --node-name: 'Node_1' is no name of a node; {remedy}\n"


def test_the_driver_loads_no_planner() -> None:
    """D4: a compiler, a solver, arrays and graphs have no place on a node."""
    code = "import dra_driver.app, dovetail.driver_cmd, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "dra_driver.serving" in loaded
    assert not loaded & {
        "numba",
        "networkx",
        "scipy",
        "numpy",
        "matplotlib",
        "jinja2",
        "scheduler",
        "simulator",
        "twin",
    }
