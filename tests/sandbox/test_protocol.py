"""A supervisor refuses what it does not understand and serves on; a client does not wait for a frozen one forever."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import programs as library
from sandbox.errors import SupervisorError
from sandbox.programs import Programs
from sandbox.protocol import SOCKET_NAME, Message

SHORT_S = 0.3
START: Message = {"argv": ["true"], "env": {}, "hostname": None, "cwd": None, "health": None}


@pytest.fixture(autouse=True)
def own_base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sandboxes of these tests apart from those of other tests, as they sweep."""
    with tempfile.TemporaryDirectory() as base:
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", base)
        yield Path(base)


def answer(programs: Programs, line: bytes) -> Message:
    """What a supervisor says to one line of another client."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30.0)
        client.connect(str(programs.directory / SOCKET_NAME))
        client.sendall(line + b"\n")
        said: Message = json.loads(client.makefile("rb").readline())
        client.sendall(b'{"verb": "bye"}\n')
    return said


def pids(programs: Programs) -> dict[str, int | None]:
    return {name: status.pid for name, status in programs.status().items()}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"not json", "a request is a JSON object with `verb`: JSONDecodeError"),
        (b'{"verb": "\xff"}', "a request is a JSON object with `verb`: UnicodeDecodeError"),
        (b"[" * 100_000, "a request is a JSON object with `verb`: RecursionError"),
        (b"[]", "a request is a JSON object with `verb`: TypeError"),
        (b'"status"', "a request is a JSON object with `verb`: AttributeError"),
        (b"{}", "a request is a JSON object with `verb`: KeyError"),
        (b'{"verb": "dance"}', "unknown verb 'dance'"),
        (b'{"verb": ["status"]}', "unknown verb \"['status']\""),
        (b'{"verb": "status", "extra": 1}', "wrong arguments for status: TypeError"),
        (b'{"verb": "signal", "name": "sleeper"}', "wrong arguments for signal: TypeError"),
        (b'{"verb": "signal", "name": ["sleeper"], "number": 9}', "wrong arguments for signal: TypeError"),
        (b'{"verb": "signal", "name": "sleeper", "number": 1e999}', "wrong arguments for signal: TypeError"),
        (b'{"verb": "signal", "name": "sleeper", "number": %d}' % 2**70, "wrong arguments for signal: OverflowError"),
        (b'{"verb": "start", "name": "bare"}', "wrong arguments for start: KeyError"),
        (json.dumps({"verb": "start", "name": "odd", **START, "argv": [1]}).encode(), "wrong arguments for start:"),
        (json.dumps({"verb": "start", "name": "odd", **START, "env": {"A": 1}}).encode(), "wrong arguments for start:"),
    ],
)
def test_a_wrong_request_is_refused_and_harms_no_other_client(line: bytes, error: str) -> None:
    with Programs.launch("wrong") as programs:
        programs.start("sleeper", ["sleep", "7654"])
        before = pids(programs)
        said = answer(programs, line)
        assert (said["ok"], said["error"][: len(error)]) == (False, error)
        assert pids(programs) == before


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    """A supervisor that holds its socket and says nothing."""
    programs = Programs.launch("frozen")
    programs.start("sleeper", ["sleep", "7654"])
    assert programs._process is not None
    os.kill(programs._process.pid, signal.SIGSTOP)
    for limit in ("ANSWER_S", "END_S"):
        monkeypatch.setattr(library, limit, SHORT_S)
    yield programs
    programs.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda programs: Programs.attach(programs.directory),
        Programs.status,
        Programs.end,
        Programs.keep_logs,
    ],
    ids=["attach", "status", "end", "keep_logs"],
)
def test_a_frozen_supervisor_is_told(frozen: Programs, ask: Callable[[Programs], object]) -> None:
    with pytest.raises(SupervisorError, match="does not answer"):
        ask(frozen)


def test_leaving_a_frozen_supervisor_ends_all_of_it(frozen: Programs) -> None:
    assert frozen._process is not None
    frozen.close()
    assert frozen._process.returncode == -signal.SIGKILL
    assert not frozen.directory.exists()
