"""Everything that a sandbox starts ends with those who use it, however they end, and nothing else does."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import cgroups, isolation, linux, rundir
from sandbox.errors import StartError, SupervisorError
from sandbox.programs import Programs
from sandbox.waiting import NotYet, wait_for
from tests.sandbox.children import Child, child, ended, first_line

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of a node need root; run as root")
CLIENT = """
import sys, time
from sandbox.programs import Programs
programs = Programs.launch("client", isolated={isolated})
programs.start("orphaner", ["sh", "-c", "(setsid sleep 7654 &); sleep 7654"])
print(programs.directory, flush=True)
time.sleep(7654)
"""


@pytest.fixture(autouse=True)
def own_base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sandboxes of these tests apart from those of other tests, as they sweep."""
    with tempfile.TemporaryDirectory() as base:
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", base)
        yield Path(base)


def sleepers(directory: Path) -> list[int]:
    """Processes of a sandbox, told by the variable that all of them inherit."""
    mark = f"{rundir.OWNER}={directory}".encode()
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def supervisor_of(programs: Programs) -> int:
    """The supervisor's number here: in its own PID namespace it is 1."""
    (supervisor,) = [pid for pid in sleepers(programs.directory) if is_supervisor(pid)]
    return supervisor


def is_supervisor(pid: int) -> bool:
    """Whether a process, which may end meanwhile, is a supervisor."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "sandbox.supervisor" in argv and argv[0] == sys.executable


def until(what: str, holds: Callable[[], object]) -> None:
    wait_for(what, lambda: holds() or NotYet("not so"))


@pytest.fixture(params=[False, pytest.param(True, marks=root_only)], ids=["plain", "isolated"])
def client(request: pytest.FixtureRequest) -> Iterator[tuple[Child, Path]]:
    """Another process that holds a sandbox with a program which leaves an orphan."""
    with child("-c", CLIENT.format(isolated=request.param)) as process:
        directory = Path(first_line(process))
        until("the orphan", lambda: len(sleepers(directory)) >= 4)
        yield process, directory


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_all_ends_when_the_only_client_ends(client: tuple[Child, Path], number: signal.Signals) -> None:
    process, directory = client
    assert ended(process, number) != 0
    until("all to be gone", lambda: not sleepers(directory) and not directory.exists())


def test_a_child_of_a_test_hears_ctrl_c_where_it_is_ignored() -> None:
    """As under nohup: the tests of Ctrl-C waited there for ever."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with child("-c", "import time; print('runs', flush=True); time.sleep(7654)") as process:
            assert first_line(process) == "runs"
            assert ended(process, signal.SIGINT) == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_that_ended_meanwhile_is_no_supervisor() -> None:
    """The shell of an orphan ended between being found and being looked at."""
    with child("-c", "") as process:
        process.wait()
        assert not is_supervisor(process.pid)


def test_programs_end_with_a_killed_supervisor_and_the_next_start_sweeps() -> None:
    with Programs.launch("killed") as programs:
        programs.start("sleeper", ["sleep", "7654"])
        os.kill(supervisor_of(programs), signal.SIGKILL)
        until("the program to end", lambda: not sleepers(programs.directory))
        with pytest.raises(SupervisorError, match="is gone"):
            programs.status()
        assert programs.directory.exists()
        with Programs.launch("next"):
            assert not programs.directory.exists()


@root_only
def test_orphans_and_cgroups_of_a_killed_isolated_supervisor_go_too() -> None:
    with Programs.launch("killed", isolated=True) as programs:
        group = rundir.cgroup_name(programs.directory)
        cgroups.create(group)
        programs.start("orphaner", ["sh", "-c", "(setsid sleep 7654 &); sleep 7654"])
        os.kill(supervisor_of(programs), signal.SIGKILL)
        until("all processes to end", lambda: not sleepers(programs.directory))
    assert not programs.directory.exists()
    assert not any((hierarchy / group).exists() for hierarchy in cgroups.hierarchies())


def test_a_sandbox_lives_until_its_last_client_leaves() -> None:
    with Programs.launch("shared") as first:
        first.start("sleeper", ["sleep", "7654"])
        with Programs.attach(first.directory) as second:
            first.close()
            assert second.status()["sleeper"].returncode is None
    assert not first.directory.exists()
    with pytest.raises(SupervisorError, match="no supervisor answers"):
        Programs.attach(first.directory)


def test_a_sandbox_that_stays_lives_without_clients_until_it_is_ended() -> None:
    with Programs.launch("stays") as first:
        first.start("sleeper", ["sleep", "7654"])
        first.stay()
    assert sleepers(first.directory)
    with Programs.attach(first.directory) as second:
        second.end()
    assert not first.directory.exists()
    assert not sleepers(first.directory)


def test_a_living_sandbox_is_never_swept() -> None:
    with Programs.launch("living") as living:
        living.start("sleeper", ["sleep", "7654"])
        assert rundir.sweep() == []
        assert living.status()["sleeper"].returncode is None


def test_replicas_have_host_names_of_their_own() -> None:
    ours = socket.gethostname()
    with Programs.launch("names") as programs:
        for name in ("replica-1", "replica-2"):
            programs.start(name, ["hostname"], hostname=name)
            programs.wait_end(name)
            assert programs.log(name).read_text().strip() == name
    assert socket.gethostname() == ours


def test_programs_are_killed_frozen_and_continued() -> None:
    with Programs.launch("signals") as programs:
        programs.start("sleeper", ["sleep", "7654"])
        pid = programs.status()["sleeper"].pid

        def state() -> str:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

        programs.signal("sleeper", signal.SIGSTOP)
        until("it to be frozen", lambda: state() == "T")
        programs.signal("sleeper", signal.SIGCONT)
        until("it to go on", lambda: state() == "S")
        programs.kill("sleeper")
        assert programs.status()["sleeper"].returncode == -signal.SIGKILL
        programs.restart("sleeper")
        assert programs.status()["sleeper"].pid not in {None, pid}


def test_a_program_that_ignores_sigterm_is_killed_when_its_grace_is_over() -> None:
    with Programs.launch("stubborn") as programs:
        programs.start("stubborn", ["sh", "-c", "trap '' TERM; echo armed; while :; do sleep 0.05; done"])
        until("the trap", lambda: "armed" in programs.log("stubborn").read_text())
        programs.stop("stubborn", grace_s=0.2)
        assert programs.status()["stubborn"].returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda programs: programs.start("sleeper", ["true"]), "sleeper already runs"),
        (lambda programs: programs.restart("sleeper"), "sleeper already runs"),
        (lambda programs: programs.restart("none"), "none was never started; there are: sleeper"),
        (lambda programs: programs.signal("none", signal.SIGTERM), "none does not run"),
        (
            lambda programs: programs.start("missing", ["/no/such/program"]),
            "No such file or directory: '/no/such/program'",
        ),
    ],
)
def test_refusals_say_what_was_wrong(ask: Callable[[Programs], None], answer: str) -> None:
    with Programs.launch("refusals") as programs:
        programs.start("sleeper", ["sleep", "7654"])
        with pytest.raises(SupervisorError, match=answer):
            ask(programs)


def test_a_program_that_ends_early_is_reported_with_its_log_which_stays(own_base: Path) -> None:
    with Programs.launch("early") as programs:
        programs.start("early", ["sh", "-c", "echo bad flag --frob >&2; exit 3"])
        with pytest.raises(StartError, match=r"early ended with 3(.|\n)*bad flag --frob"):
            programs.wait_ready("early", lambda: "no answer")
    assert (own_base / "logs" / programs.directory.name / "early.log").read_text() == "bad flag --frob\n"


def test_logs_of_a_good_run_do_not_stay(own_base: Path) -> None:
    with Programs.launch("good") as programs:
        programs.start("fine", ["true"])
        programs.wait_end("fine")
    assert not (own_base / "logs" / programs.directory.name).exists()


@root_only
def test_what_a_node_mounts_and_sets_stays_in_its_namespaces(own_base: Path) -> None:
    before = {name: Path(f"/proc/sys/{name}").read_text() for name in isolation.SYSCTLS}
    folders = {folder: sorted(Path(folder).iterdir()) for folder in isolation.COVERED}
    writes = [f"echo 3 > /proc/sys/{name}" for name in isolation.SYSCTLS]
    makes = [f"mkdir {folder}/made" for folder in isolation.COVERED]
    script = " && ".join([*writes, *makes, f"mount -t tmpfs none {own_base}", "hostname other"])
    with Programs.launch("covered", isolated=True) as programs:
        programs.start("script", ["sh", "-c", script])
        assert programs.wait_end("script") == 0, programs.log_tail("script")
        assert linux.mounts_under(own_base) == []
    assert {name: Path(f"/proc/sys/{name}").read_text() for name in before} == before
    assert {folder: sorted(Path(folder).iterdir()) for folder in folders} == folders
    assert socket.gethostname() != "other"
