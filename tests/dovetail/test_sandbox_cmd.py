"""`dovetail sandbox` as a person uses it: a cluster that lives between commands, and nothing of it afterwards."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dovetail.sandbox_cmd_home import PROGRAMS, Home, Wish, supervisors
from sandbox import cgroups, preflight, rundir, tools
from sandbox.errors import SupervisorError
from sandbox.programs import Programs
from sandbox.pytest_plugin import had_or_skipped
from sandbox.waiting import NotYet, wait_for
from tests.dovetail.gpucontainer import check_gpu_container
from tests.sandbox.children import ROOT, child, ended, first_line

EXAMPLES = ROOT / "examples" / "sandbox"
SCHEDULER = ("dovetail-scheduler-kube-scheduler", "dovetail-scheduler-extender")
PAIRS = "a100-8-pcie-nvlink-pairs"
ALLOCATIONS = (
    "-o=jsonpath={range .items[*]}{.metadata.name} {.status.allocation.devices.results[*]['pool','device']}{'\\n'}{end}"
)

Run = subprocess.CompletedProcess[str]
pytestmark = pytest.mark.cluster


ARGV = (sys.executable, "-m", "dovetail", "sandbox")
GUARD = "import subprocess, sys; sys.stdin.read(); subprocess.run(sys.argv[1:], capture_output=True)"
"""Waits for the end of whoever started it, however that comes, and runs what it was given."""


def sandbox(*words: str) -> Run:
    return subprocess.run([*ARGV, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def succeeds(*words: str) -> str:
    done = sandbox(*words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def status() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(sandbox("status", "-o", "json").stdout)
    return facts


def pid(component: str) -> int:
    (found,) = [each["pid"] for each in status()["components"] if each["name"] == component]
    assert isinstance(found, int)
    return found


def left(base: Path) -> list[str]:
    """Directories and processes of sandboxes below `base`."""
    processes = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{rundir.OWNER}={base}/".encode() in environ.read_bytes():
                processes.append(f"process {environ.parent.name}")
        except OSError:
            continue
    return [*processes, *(path.name for path in base.glob("*-*") if path.is_dir())]


@contextmanager
def own_folder(factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place for sandboxes that is empty again afterwards. The programs are built by now."""
    had_or_skipped(lambda: tools.provide(PROGRAMS))
    with pytest.MonkeyPatch.context() as patch:
        base = factory.mktemp("s")
        patch.setenv("DOVETAIL_SANDBOX_DIR", str(base))
        with guarded():
            yield base
            succeeds("down")
            assert left(base) == []


@contextmanager
def guarded() -> Iterator[None]:
    """End the sandbox with this process, killed or not: it is made to outlive whoever starts it."""
    argv = [sys.executable, "-c", GUARD, *ARGV, "down"]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True):
        yield


@pytest.fixture
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with own_folder(tmp_path_factory) as base:
        yield base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the sandbox lives that most tests here look at."""
    with own_folder(tmp_path_factory) as base:
        yield base


@pytest.fixture(autouse=True)
def fresh_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of the common sandbox see it whatever folder the test before had."""
    if "running" in request.fixturenames:
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", str(request.getfixturevalue("folder")))


@pytest.fixture(scope="module")
def running(folder: Path) -> str:
    """A sandbox of three nodes with all examples on it; what `up` said."""
    said = succeeds("up", "--nodes", f"2xhgx-h100-8,{PAIRS}")
    succeeds("kubectl", "apply", "-f", str(EXAMPLES))
    return said


def allocated(claim: str) -> list[str]:
    """Pools, then devices, of the claim made for a pod."""
    for line in succeeds("kubectl", "get", "resourceclaims", ALLOCATIONS).splitlines():
        name, *results = line.split()
        if name.startswith(claim):
            return results
    raise AssertionError(claim)


def test_up_tells_the_kubeconfig_and_what_to_try(running: str) -> None:
    kubeconfig = Path(running.splitlines()[0].removeprefix("kubeconfig: "))
    assert kubeconfig.is_file()
    tried = [line.strip() for line in running.splitlines() if " kubectl " in line]
    assert any("apply -f" in line for line in tried)
    for line in tried:
        words = line.partition("#")[0].partition(" sandbox ")[2].split()
        succeeds(*words)


def test_status_tells_components_nodes_and_slices(running: str) -> None:
    facts = status()
    assert facts["state"] == "running"
    for component in facts["components"]:
        assert component["memory_mib"] > 0
        assert f"{rundir.OWNER}={facts['directory']}" in Path(f"/proc/{component['pid']}/environ").read_text()
    assert {each["name"] for each in facts["components"]} == {*tools.CONTROL_PLANE, "kwok", *SCHEDULER}
    assert facts["nodes"] == [
        {"machine": PAIRS, "nodes": 1, "ready": 1},
        {"machine": "hgx-h100-8", "nodes": 2, "ready": 2},
    ]
    assert facts["resource_slices"] == int(
        succeeds("kubectl", "get", "resourceslices", "-o=jsonpath={.items[*].metadata.name}").count(" ") + 1
    )


PLACED = ("whole-gpu", "nvlink-pair", "mig-partition", "share-1", "share-2", "h100-node")
"""Pods of the examples that need no real node."""


def check_examples() -> None:
    """All run, with devices as they asked for."""
    for pod in PLACED:
        succeeds("kubectl", "wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
    pool, other, *pair = allocated("nvlink-pair-")
    assert pool == other
    assert pool.startswith(f"{PAIRS}-")
    first, second = (int(device.removeprefix("gpu-")) for device in pair)
    assert first // 2 == second // 2  # bridges join neighbours
    assert "-mig-2g20gb-" in allocated("mig-partition-")[1]
    assert allocated("share-1-")[1].endswith("-mps")
    assert len(allocated("h100-node-")) == 16
    assert allocated("whole-gpu-")[1].startswith("gpu-")


def test_our_scheduler_places_the_examples(running: str) -> None:
    check_examples()
    assert allocated("share-1-") == allocated("share-2-"), "two shares fill one GPU"


def test_the_fence_keeps_the_default_scheduler_off_our_devices(running: str, tmp_path: Path) -> None:
    stray = (EXAMPLES / "whole-gpu.yaml").read_text().replace("name: whole-gpu", "name: stray")
    (tmp_path / "stray.yaml").write_text(stray.replace("  schedulerName: dovetail\n", ""))
    succeeds("kubectl", "apply", "-f", str(tmp_path))

    def look() -> bool | NotYet:
        events = succeeds("kubectl", "get", "events", "--field-selector=involvedObject.name=stray")
        return 'set spec.schedulerName of the pod to "dovetail"' in events or NotYet(events)

    wait_for("the refusal", look, every_s=1.0)
    succeeds("kubectl", "delete", "-f", str(tmp_path))


def test_without_our_scheduler_the_in_tree_one_places_the_examples(clean: Path, tmp_path: Path) -> None:
    for path in EXAMPLES.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text().replace("  schedulerName: dovetail\n", ""))
    succeeds("up", "--no-scheduler", "--nodes", f"2xhgx-h100-8,{PAIRS}")
    succeeds("kubectl", "apply", "-f", str(tmp_path))
    check_examples()


def test_slices_go_with_their_node(running: str) -> None:
    def look() -> bool | NotYet:
        names = succeeds("kubectl", "get", "resourceslices", "-o=jsonpath={.items[*].spec.nodeName}").split()
        return NotYet("its slices are there") if "hgx-h100-8-1" in names else True

    succeeds("kubectl", "delete", "node", "hgx-h100-8-1")
    wait_for("the slices of a deleted node to go", look)


def test_up_twice_leaves_the_first_alone(running: str) -> None:
    before = pid("kube-apiserver")
    again = sandbox("up")
    assert again.returncode == 0
    assert "runs already, with --nodes '2xhgx-h100-8,1xa100" in again.stderr
    other = sandbox("up", "--nodes", "l4-8-pcie")
    assert other.returncode == 1
    assert "end it first" in other.stderr
    assert pid("kube-apiserver") == before


def test_kubectl_gets_its_own_words_and_ends_as_it_ends(running: str) -> None:
    assert "Display one or many resources" in succeeds("kubectl", "get", "--help")
    assert sandbox("kubectl", "get", "pod", "nobody", "-n", "kube-system").returncode == 1


def test_logs_of_a_component(running: str) -> None:
    whole = succeeds("logs", "kube-scheduler")
    assert whole.endswith(succeeds("logs", "kube-scheduler", "--tail", "2"))
    wrong = sandbox("logs", "scheduler")
    assert wrong.returncode == 1
    assert "kube-scheduler" in wrong.stderr


def test_following_a_log_ends_with_the_sandbox(clean: Path) -> None:
    succeeds("up", "--no-scheduler", "--nodes", "")
    with child("-m", "dovetail", "sandbox", "logs", "-f", "etcd") as process:
        assert first_line(process)
        succeeds("down")
        assert process.wait() == 0


def test_kubectl_leaves_nothing_at_home(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tools.cache_folder().parent))  # the built programs stay where they are
    succeeds("up", "--no-scheduler", "--nodes", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    succeeds("kubectl", "get", "nodes")
    assert list(tmp_path.iterdir()) == []


def test_a_frozen_sandbox_is_told_and_ended(clean: Path) -> None:
    succeeds("up", "--no-scheduler", "--nodes", "l4-8-pcie")
    (supervisor,) = supervisors(Path(status()["directory"]))
    os.kill(pid("kube-apiserver"), signal.SIGSTOP)
    shown = sandbox("status")
    assert (shown.returncode, shown.stderr) == (3, "")
    assert "degraded" in shown.stdout
    assert "kube-apiserver does not answer" in shown.stdout
    os.kill(supervisor, signal.SIGSTOP)
    shown = sandbox("status")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "does not answer" in shown.stderr
    assert succeeds("down") == "sandbox 'default' is gone\n"
    assert left(clean) == []


def test_an_ended_component_shows(clean: Path) -> None:
    succeeds("up", "--no-scheduler", "--nodes", "")
    os.kill(pid("kube-scheduler"), signal.SIGKILL)
    shown = sandbox("status")
    assert shown.returncode == 3
    assert "ended with -9" in shown.stdout
    os.kill(pid("kube-apiserver"), signal.SIGKILL)
    assert sandbox("status").returncode == 3
    again = sandbox("up")
    assert again.returncode == 1
    assert "not kube-apiserver, kube-scheduler" in again.stderr


def interrupted_up(ending: signal.Signals) -> None:
    """An `up` that gets a signal when its control plane is ready."""
    with child("-m", "dovetail", "sandbox", "up", stderr=subprocess.STDOUT) as process:
        assert "control plane" in first_line(process)
        assert ended(process, ending) != 0


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing(clean: Path, ending: signal.Signals) -> None:
    interrupted_up(ending)
    wait_for("nothing to be left", lambda: NotYet(str(found)) if (found := left(clean)) else True)


KILLED = """
import time
from tests.dovetail.test_sandbox_cmd import guarded, succeeds
with guarded():
    succeeds("up", "--no-scheduler", "--nodes", "")
    print("it is up", flush=True)
    time.sleep(300)
"""


def test_a_test_that_is_killed_leaves_no_sandbox(clean: Path) -> None:
    """A time limit of CI left one that ran on for hours."""
    with child("-c", KILLED) as process:
        assert "it is up" in first_line(process)
        assert ended(process, signal.SIGKILL) != 0
    wait_for("nothing to be left", lambda: NotYet(str(found)) if (found := left(clean)) else True)


def test_a_sandbox_starts_while_a_killed_one_is_going(clean: Path) -> None:
    interrupted_up(signal.SIGKILL)
    succeeds("up", "--no-scheduler", "--nodes", "")
    assert status()["state"] == "running"
    assert len(list(clean.glob("up-default-*"))) == 1


@pytest.mark.parametrize("next_step", ["up", "down"])
def test_the_next_command_cleans_up_after_a_killed_supervisor(clean: Path, next_step: str) -> None:
    succeeds("up", "--no-scheduler", "--nodes", "")
    (directory,) = clean.glob("up-default-*")
    supervisor = int(Path(f"/proc/{pid('etcd')}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    assert sandbox("status").returncode == 3
    succeeds(next_step, *(["--no-scheduler", "--nodes", ""] if next_step == "up" else []))
    assert not directory.exists()
    assert bool(left(clean)) == (next_step == "up")


def test_a_sandbox_of_another_version_is_told_and_ended(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor whose status has fields that this version does not know, or lacks some."""
    succeeds("up", "--no-scheduler", "--nodes", "")
    directory = Home("default").directory()
    assert directory is not None

    @dataclass(frozen=True)
    class OtherStatus:
        name: str

    monkeypatch.setattr("sandbox.programs.ProgramStatus", OtherStatus)
    with pytest.raises(SupervisorError, match="another version of Dovetail; end it: dovetail sandbox down"):
        Programs.attach(directory)
    assert Home("default").end()
    assert left(clean) == []


def test_two_sandboxes_live_side_by_side(clean: Path) -> None:
    succeeds("up", "--no-scheduler", "--nodes", "l4-8-pcie")
    try:
        succeeds("up", "--no-scheduler", "--nodes", "t4-4-pcie", "--name", "other")
        nodes = succeeds("kubectl", "--name", "other", "get", "nodes", "-o", "name")
        assert nodes.split() == ["node/t4-4-pcie-0"]
        succeeds("down")
        assert json.loads(succeeds("status", "--name", "other", "-o", "json"))["state"] == "running"
    finally:
        succeeds("down", "--name", "other")


@pytest.mark.node
@pytest.mark.parametrize("refused", [1, 2])
def test_an_up_that_fails_at_its_very_end_leaves_nothing(
    clean: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """A real node that had been told to stay lived on, when the control plane could not be told."""
    had_or_skipped(preflight.check)
    had_or_skipped(lambda: tools.provide(tools.NODE))
    stay, asked = Programs.stay, itertools.count(1)

    def stay_but_once(programs: Programs) -> None:
        if next(asked) == refused:
            raise SupervisorError("refused")
        stay(programs)

    monkeypatch.setattr(Programs, "stay", stay_but_once)
    with pytest.raises(SupervisorError, match="refused"):
        Home("default").start(Wish({}, real_node="hgx-h100-8", scheduler=False), lambda _: None)
    assert left(clean) == []


@pytest.mark.node
def test_a_pod_runs_in_a_real_container(clean: Path, tmp_path: Path) -> None:
    had_or_skipped(preflight.check)
    had_or_skipped(lambda: tools.provide(tools.NODE))
    succeeds("up", "--no-scheduler", "--real-node", "--nodes", "")
    succeeds("kubectl", "apply", "-f", str(EXAMPLES / "container.yaml"))
    succeeds("kubectl", "wait", "pod/container", "--for=condition=Ready", "--timeout=60s")
    assert succeeds("kubectl", "logs", "container") == "hello from container\n"
    check_gpu_container(succeeds, tmp_path)
    assert pid("real-1/kubelet") > 0
    assert status()["nodes"] == [{"machine": "real", "nodes": 1, "ready": 1}]
    (directory,) = clean.glob("node-*")
    groups = [hierarchy / rundir.cgroup_name(directory) for hierarchy in cgroups.hierarchies()]
    assert all(group.is_dir() for group in groups)
    succeeds("down")
    assert not any(group.exists() for group in groups)
    assert left(clean) == []
