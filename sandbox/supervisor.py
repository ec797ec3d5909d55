"""The process that owns a sandbox's programs. It outlives its clients just long enough to take everything away.

    python -m sandbox.supervisor DIRECTORY CLIENT_FD [--isolated]

It ends when its last client is gone, however that client ended: the kernel closes the socket of a killed process too.
If the supervisor itself is killed, its programs die with it (death signal, or the end of its PID namespace), and the
next start sweeps its directory and cgroups. `--isolated`: it is the first process of a PID and a mount namespace.

One thread, no library: it forks, and nothing else may hold a lock while it does.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from sandbox import isolation, linux, rundir
from sandbox.protocol import MAX_LINE, SOCKET_NAME, Message

TAKE_DOWN_S = 20.0
SHOWN = 200
"""Characters of a wrong request that the refusal repeats."""


class Supervisor:
    """The programs of one directory, and the clients that want them."""

    def __init__(self, directory: Path, *, isolated: bool) -> None:
        self.directory = directory
        self.isolated = isolated
        self.specs: dict[str, Message] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ended: dict[str, int] = {}
        self.buffers: dict[socket.socket, bytes] = {}
        self.stays = False
        self.keeps_logs = False
        self.ends = False
        self.selector = selectors.DefaultSelector()

    def serve(self, first: socket.socket) -> None:
        """Answer clients until none is left or one says `end`."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.directory / SOCKET_NAME))
        listener.listen()
        wake, poke = socket.socketpair()
        poke.settimeout(0)
        signal.set_wakeup_fd(poke.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(wake, selectors.EVENT_READ)
        self._admit(first)
        while not self.ends and (self.buffers or self.stays):
            for key, _ in self.selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is listener:
                    self._admit(listener.accept()[0])
                elif ready is wake:
                    wake.recv(4096)
                    self._reap()
                elif ready in self.buffers:
                    self._hear(ready)

    def take_down(self) -> None:
        """Kill every process, then remove mounts, cgroups and files."""
        deadline = time.monotonic() + TAKE_DOWN_S
        while self._kill_all():
            if time.monotonic() > deadline:
                raise TimeoutError("processes do not die")
            time.sleep(0.01)
        if self.isolated:
            for point in linux.mounts_under(self.directory):
                with contextlib.suppress(OSError):  # the namespace takes the rest with it
                    linux.detach_mount(point)
        if self.keeps_logs:
            rundir.keep_logs(self.directory)
        rundir.remove(self.directory)

    def _kill_all(self) -> bool:
        """One round of SIGKILL; False once nobody is left."""
        for pid in linux.descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self._reap()

    def _reap(self) -> bool:
        """Collect ended children, ours and those that were left to us; False when there is no child at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            for name, process in list(self.running.items()):
                if process.pid == pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    self.ended[name] = process.returncode
                    del self.running[name]

    def _admit(self, client: socket.socket) -> None:
        self.buffers[client] = b""
        self.selector.register(client, selectors.EVENT_READ)

    def _dismiss(self, client: socket.socket) -> None:
        del self.buffers[client]
        self.selector.unregister(client)
        client.close()

    def _hear(self, client: socket.socket) -> None:
        try:
            data = client.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self.keeps_logs = True  # it did not say bye
            self._dismiss(client)
            return
        *lines, rest = (self.buffers[client] + data).split(b"\n")
        self.buffers[client] = rest
        for line in lines:
            self._answer(client, line)
            if client not in self.buffers:
                return
        if len(rest) > MAX_LINE:
            self._dismiss(client)

    def _answer(self, client: socket.socket, line: bytes) -> None:
        """Do what one client asks for. What it asks for wrongly is told to it, and harms no other."""
        try:
            request = json.loads(line)
            verb = request.pop("verb")
        except Exception as fault:  # noqa: BLE001 - whatever it sent
            _send(client, _refusal("a request is a JSON object with `verb`", fault))
            return
        if verb == "bye":
            last = len(self.buffers) == 1 and not self.stays
            _send(client, {"ok": True, "last": last})
            self.ends = last  # keep its connection: that it closes tells the client that everything is gone
            if last:
                self.take_down()
            else:
                self._dismiss(client)
            return
        if verb == "end":
            self.ends = True
            self.take_down()
        self._reap()
        try:
            act = getattr(self, f"do_{verb}", None)
            if act is None:
                raise ValueError(f"unknown verb {str(verb)[:SHOWN]!r}")
            answer = {"ok": True, **act(**request)}
        except (OSError, ValueError, subprocess.SubprocessError) as fault:
            answer = {"ok": False, "error": str(fault)}
        except Exception as fault:  # noqa: BLE001 - other arguments than it has, or of other types
            answer = _refusal(f"wrong arguments for {verb}", fault)
        _send(client, answer)

    def do_start(self, **spec: object) -> Message:
        """Run a program under a name that no running program has."""
        name = str(spec["name"])
        if name in self.running:
            raise ValueError(f"{name} already runs")
        return self._run(name, spec)

    def do_again(self, name: str) -> Message:
        """Run a program as it was started last."""
        if name in self.running:
            raise ValueError(f"{name} already runs")
        if name not in self.specs:
            raise ValueError(f"{name} was never started; there are: {', '.join(sorted(self.specs)) or 'none'}")
        return self._run(name, self.specs[name])

    def _run(self, name: str, spec: Message) -> Message:
        process = self._spawn(spec)
        self.specs[name] = spec
        self.running[name] = process
        self.ended.pop(name, None)
        return {"pid": process.pid}

    def _spawn(self, spec: Message) -> subprocess.Popen[bytes]:
        supervisor, hostname = os.getpid(), spec["hostname"]

        def between_fork_and_exec() -> None:
            linux.die_with_parent(supervisor)
            if hostname is not None:
                linux.own_hostname(hostname)

        with (self.directory / "logs" / f"{spec['name']}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - argv comes from the client that started us
                spec["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=spec["cwd"] or self.directory,
                env={**os.environ, **spec["env"]},
                start_new_session=True,
                preexec_fn=between_fork_and_exec,  # noqa: PLW1509 - there is one thread
            )

    def do_signal(self, name: str, number: int) -> Message:
        """Send a signal to a running program."""
        if name not in self.running:
            raise ValueError(f"{name} does not run")
        os.kill(self.running[name].pid, number)
        return {}

    def do_status(self) -> Message:
        """Tell of every program that was ever started."""
        programs: dict[str, Message] = {}
        for name in self.specs:
            process = self.running.get(name)
            programs[name] = {
                "pid": process.pid if process else None,
                "returncode": self.ended.get(name),
                "resident_mib": _resident_mib(process.pid) if process else 0,
                "health": self.specs[name].get("health"),
            }
        return {"programs": programs, "supervisor": os.getpid(), "stays": self.stays}

    def do_stay(self, *, on: bool) -> Message:
        """Live on without clients, or no longer."""
        self.stays = on
        return {}

    def do_keep(self) -> Message:
        """Copy the logs aside at the end."""
        self.keeps_logs = True
        return {}

    def do_end(self) -> Message:
        """Nothing is left to be done."""
        return {}


def _refusal(what: str, fault: Exception) -> Message:
    return {"ok": False, "error": f"{what}: {type(fault).__name__} {str(fault)[:SHOWN]}"}


def _send(client: socket.socket, answer: Message) -> None:
    with contextlib.suppress(ConnectionError):
        client.sendall(json.dumps(answer).encode() + b"\n")


def _resident_mib(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def main(arguments: list[str]) -> None:
    """Supervise until nobody wants it any more."""
    directory, descriptor, isolated = Path(arguments[0]), int(arguments[1]), "--isolated" in arguments
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The clients decide, by staying or leaving. A handler, as programs would inherit SIG_IGN.
        signal.signal(number, lambda *_: None)
    linux.adopt_orphans()
    if isolated:
        isolation.enter(directory)
    supervisor = Supervisor(directory, isolated=isolated)
    try:
        supervisor.serve(socket.socket(fileno=descriptor))
    finally:
        if not supervisor.ends:
            supervisor.take_down()
    os._exit(0)  # at once: clients take the closing of their connection for our end


if __name__ == "__main__":
    main(sys.argv[1:])
