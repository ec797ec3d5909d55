"""`dovetail scheduler` ends with a message and a documented code; what it cannot have is named by its flag."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sandbox.ports import free_ports
from sandbox.waiting import NotYet, wait_for
from tests.scheduler.test_fuzz import KUBECONFIG

COMMAND = (sys.executable, "-m", "dovetail", "scheduler")


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Of an API server that does not answer."""
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    return path


def ended(*flags: object) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *map(str, flags)], check=False, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def test_what_cannot_be_used_is_named(kubeconfig: Path, tmp_path: Path) -> None:
    for flags, text in (
        (("--kubeconfig", "/nonexistent"), "no kubeconfig at /nonexistent"),
        (("--listen", "0.0.0.0:1"), "--listen: 0.0.0.0:1 can be reached from outside"),
        (("--kubeconfig", kubeconfig, "--decision-log", tmp_path / "no" / "log"), "--decision-log"),
    ):
        assert (returned := ended(*flags))[0] == 1
        assert returned[1].splitlines()[-1].startswith("dovetail: ")
        assert text in returned[1]
        assert "Traceback" not in returned[1]
    assert ended("--mode", "guess")[0] == 2


def test_an_address_in_use_is_told(kubeconfig: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, told = ended("--kubeconfig", kubeconfig, "--listen", address)
    assert code == 1
    assert f"--listen: {address}" in told.splitlines()[-1]


def test_without_an_api_server_it_lives_is_not_ready_and_ends_at_sigterm(kubeconfig: Path) -> None:
    port, observed = free_ports(2)
    flags = ["--kubeconfig", str(kubeconfig), "--listen", f"127.0.0.1:{port}", "--observe", f"127.0.0.1:{observed}"]
    with subprocess.Popen([*COMMAND, *flags], stderr=subprocess.PIPE, text=True) as process:

        def status(at: int, path: str) -> int | NotYet:
            assert process.poll() is None, "it ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{at}{path}", timeout=5) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code
            except OSError as error:
                return NotYet(str(error))

        try:
            assert wait_for("it to live", lambda: status(port, "/healthz"), timeout_s=90) == 200
            assert status(port, "/readyz") == 503
            assert status(observed, "/readyz") == 503
            assert status(observed, "/metrics") == 200
            assert status(observed, "/configz") == 404
        finally:
            os.kill(process.pid, signal.SIGTERM)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 0, told
