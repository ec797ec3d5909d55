"""The client's side of a supervisor: start it, run programs under it, stop and signal them, leave."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox import rundir
from sandbox.errors import StartError, SupervisorError
from sandbox.protocol import SOCKET_NAME, Message
from sandbox.readiness import answers, succeeds
from sandbox.waiting import NotYet, wait_for

LOG_TAIL_LINES = 25
ANSWER_S = 15.0
"""How long a supervisor may be silent before it counts as gone; it answers everything but `end` at once."""
BEGIN_S = 60.0
"""The same for its first answer."""
END_S = 60.0
"""The same while it takes everything away."""
ISOLATE = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts")
"""A PID, a mount and a UTS namespace of its own (unshare(1) of util-linux)."""


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """One program as its supervisor sees it."""

    name: str
    pid: int | None
    """In the supervisor's PID namespace; None: it does not run."""
    returncode: int | None
    resident_mib: int
    health: str | list[str] | None
    """How to ask whether it is well: a URL, or a command."""


class Programs:
    """The programs of one supervisor.

    Everything ends when the last client has left: by `close`, at the end of a `with` block, or by dying in any way.
    """

    def __init__(self, directory: Path, connection: socket.socket) -> None:
        self.directory = directory
        self._connection = connection
        self._answers = connection.makefile("rb")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def launch(cls, prefix: str, *, isolated: bool = False) -> Self:
        """Start a supervisor in a new directory. What killed ones left is swept first.

        Raises StartError with its log when it does not come up.
        """
        with rundir.exclusive("sweep"):
            rundir.sweep()
        directory, lock = rundir.create(prefix)
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "sandbox.supervisor", str(directory), str(theirs.fileno())]
        if isolated:
            argv = [*ISOLATE, *argv, "--isolated"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), rundir.OWNER: str(directory)}
        with (directory / "logs" / "supervisor.log").open("ab") as log, theirs:
            process = subprocess.Popen(  # noqa: S603 - our own module
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                start_new_session=True,
                pass_fds=(theirs.fileno(), lock),
            )
        os.close(lock)
        programs = cls(directory, ours)
        programs._process = process
        try:
            programs._ask("status", limit_s=BEGIN_S)
        except SupervisorError as fault:
            tail = programs.log_tail("supervisor")
            programs.close()
            raise StartError(f"{fault}{tail}") from fault
        return programs

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """Join the clients of a living supervisor. Raises SupervisorError when it is gone, or does not answer."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(directory / SOCKET_NAME))
            programs = cls(directory, connection)
            programs.status()
        except (OSError, SupervisorError) as fault:
            connection.close()
            raise SupervisorError(f"no supervisor answers in {directory}: {fault}") from fault
        except TypeError as fault:  # its status has other fields than ours
            connection.close()
            raise SupervisorError(
                f"{directory} was started by another version of Dovetail; end it: dovetail sandbox down"
            ) from fault
        return programs

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        hostname: str | None = None,
        directory: Path | None = None,
        health: str | Sequence[str | Path] | None = None,
    ) -> None:
        """Run a program until the sandbox ends, with a host name of its own if one is given.

        `health` is kept in its status: a URL that answers 200, or a command that succeeds, when it is well.
        Its output is in `log(name)`. Raises SupervisorError when it cannot be run or the name is taken.
        """
        self._ask(
            "start",
            name=name,
            argv=[str(word) for word in argv],
            env=dict(environment or {}),
            hostname=hostname,
            cwd=str(directory) if directory else None,
            health=health if health is None or isinstance(health, str) else [str(word) for word in health],
        )

    def restart(self, name: str) -> None:
        """Run an ended program as it was started last."""
        self._ask("again", name=name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal: SIGKILL to kill, SIGSTOP to freeze, SIGCONT to go on."""
        self._ask("signal", name=name, number=int(number))

    def stop(self, name: str, *, grace_s: float = 10.0) -> None:
        """Ask a program to end, kill it when it does not, and wait until it is gone."""
        if self.status()[name].pid is None:
            return
        self.signal(name, signal.SIGTERM)
        with contextlib.suppress(Exception):
            self.wait_end(name, timeout_s=grace_s)
            return
        self.kill(name)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until the program is gone."""
        self.signal(name, signal.SIGKILL)
        self.wait_end(name)

    def wait_end(self, name: str, *, timeout_s: float = 10.0) -> int:
        """Wait until a program has ended; returns its exit code, negative for a signal."""

        def look() -> int | NotYet:
            status = self.status()[name]
            return NotYet("it runs") if status.pid is not None else status.returncode or 0

        return wait_for(f"{name} to end", look, timeout_s=timeout_s)

    def status(self) -> dict[str, ProgramStatus]:
        """All programs ever started, by name."""
        programs = self._ask("status")["programs"]
        return {name: ProgramStatus(name=name, **facts) for name, facts in programs.items()}

    def wait_healthy(self, name: str, authority: Path, *, timeout_s: float = 30.0) -> None:
        """Wait until a program's own health check is good; `authority` signed the certificates of such servers.

        Raises StartError as `wait_ready` does.
        """
        health = self.status()[name].health
        assert health is not None, f"{name} was started without a health check"
        if isinstance(health, str):
            check = functools.partial(answers, health, authority)
        else:
            check = functools.partial(succeeds, health)
        self.wait_ready(name, check, timeout_s=timeout_s)

    def wait_ready(self, name: str, ready: Callable[[], bool | str], *, timeout_s: float = 30.0) -> None:
        """Wait until `ready` returns True; a text says what it saw instead.

        Raises StartError with the end of the log when the program ends or the time is up.
        """

        def look() -> bool | NotYet:
            status = self.status()[name]
            if status.pid is None:
                raise StartError(f"{name} ended with {status.returncode}{self.log_tail(name)}")
            seen = ready()
            return True if seen is True else NotYet(str(seen))

        try:
            wait_for(f"{name} to be ready", look, timeout_s=timeout_s, account=lambda: self.log_tail(name))
        except Exception:
            self.keep_logs()
            raise

    def log(self, name: str) -> Path:
        """Return the file with a program's output."""
        return self.directory / "logs" / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """Return the last lines of a program's log, and where the whole stays."""
        lines = self.log(name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        kept = rundir.base() / "logs" / self.directory.name / f"{name}.log"
        return "\n".join([f"\nend of its log (afterwards in {kept}):", *(f"  {line[:400]}" for line in lines)])

    def keep_logs(self) -> Path:
        """Have the logs copied aside at the end; returns the folder that will hold them."""
        self._ask("keep")
        return rundir.base() / "logs" / self.directory.name

    def stay(self, *, on: bool = True) -> None:
        """Let everything live on when no client is left, until somebody attaches and calls `end`."""
        self._ask("stay", on=on)

    def end(self) -> None:
        """Take everything away now, whoever else uses it; returns when it is gone.

        Raises SupervisorError when the supervisor does not answer.
        """
        self._ask("end", limit_s=END_S)
        self._see_out()

    def close(self) -> None:
        """Leave. With the last client everything goes, unless it stays; returns when it is gone."""
        if self._connection.fileno() == -1:
            return
        try:
            last = self._ask("bye")["last"]
        except SupervisorError:
            last = True
        if last:
            self._see_out()
            return
        self._disconnect()
        if self._process is not None:
            self._process.returncode = 0  # it lives on for others: no warning about an unfinished child

    def _see_out(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.settimeout(END_S)
            self._answers.read()  # its end of the socket closes when it is gone
        self._disconnect()
        if self._process is not None:
            self._wait_or_kill(self._process)
        if self.directory.exists():  # it was killed
            with rundir.exclusive("sweep"):
                rundir.sweep()

    def _wait_or_kill(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the supervisor that we started. One that does not end is frozen; its programs die with it."""
        try:
            process.wait(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _disconnect(self) -> None:
        self._answers.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, verb: str, *, limit_s: float | None = None, **arguments: object) -> Message:
        with self._lock:
            try:
                self._connection.settimeout(limit_s or ANSWER_S)
                self._connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
                line = self._answers.readline()
            except TimeoutError as fault:
                raise SupervisorError(f"the supervisor of {self.directory} does not answer") from fault
            except (OSError, ValueError) as fault:
                raise SupervisorError(f"the supervisor of {self.directory} is gone: {fault}") from fault
        if not line:
            raise SupervisorError(f"the supervisor of {self.directory} is gone")
        answer: Message = json.loads(line)
        if not answer["ok"]:
            raise SupervisorError(answer["error"])
        return answer
