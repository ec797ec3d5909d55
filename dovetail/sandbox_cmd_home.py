"""One person's sandboxes by name: which live, how one starts in the background, how it ends.

A sandbox is the directory `up-<name>-<random>` of its control plane's supervisor, below `rundir.base()`; whether it
lives is asked of the kernel (a lock), never of a file with a process id. A real node has a supervisor of its own, whose
directory says in BELONGS whose it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail import extras
from dovetail import sandbox_cmd_driver as driver
from dovetail import sandbox_cmd_gpus as gpus
from dovetail import sandbox_cmd_scheduler as our_scheduler
from dovetail.progress import progress_bar
from sandbox import kustomize, preflight, rundir, tools
from sandbox.api import Api
from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError, SupervisorError
from sandbox.fakenodes import FakeNodes
from sandbox.node import Node
from sandbox.programs import Programs
from sandbox.waiting import NotYet, wait_for
from topology.errors import InvalidInputError

BELONGS = "belongs-to"
FACTS = "sandbox.json"
KUBECONFIG = "admin.kubeconfig"
REAL_NODE = "real-1"
SUPERVISOR = "sandbox.supervisor"
PROGRAMS = (*tools.CONTROL_PLANE, "kwok", "kubectl")
WRITERS = 8
ACCOUNT_S = 30.0

_NAME = re.compile(r"[a-z0-9]{1,20}")

Step = Callable[[str], None]
"""Hears what was just finished."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a sandbox is to have."""

    nodes: Mapping[str, int]
    """Machine -> number of simulated nodes."""
    real_node: str
    """Machine whose GPUs the real node has, simulated; empty: there is no real node."""
    scheduler: bool
    """Whether ours runs, from its manifests."""

    def __str__(self) -> str:
        """Return it as `up` takes it."""
        real = f" --real-node --real-machine {self.real_node}" if self.real_node else ""
        flags = [real, "" if self.scheduler else " --no-scheduler"]
        return f"--nodes '{gpus.nodes_text(self.nodes)}'" + "".join(flags)


class Home:
    """The sandbox of one name; it may run or not."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidInputError("--name", name[:80], "must be 1 to 20 lower-case letters and digits")
        self.name = name
        self._prefix = f"up-{name}"

    def directory(self) -> Path | None:
        """Return where it lives, or None when it does not run. One that is just starting has no FACTS yet."""
        living = rundir.living(self._prefix)
        return living[0] if living else None

    def is_up(self) -> bool:
        """Whether an `up` reached its end. What lives without is starting, or going since its `up` was killed."""
        directory = self.directory()
        return directory is not None and (directory / FACTS).exists()

    def node_directories(self) -> list[Path]:
        """Where its real nodes live."""
        return [path for path in rundir.living("node") if _text(path / BELONGS) == self.name]

    def living(self) -> list[Path]:
        """Return all directories of it: those of real nodes, then the control plane's."""
        return [*self.node_directories(), *rundir.living(self._prefix)]

    def facts(self) -> dict[str, Any]:
        """Return what `up` wrote at its end. Raises SandboxError when it does not run, or is not up yet."""
        directory = self.directory()
        if directory is None:
            raise SandboxError(f"no sandbox {self.name!r} runs below {rundir.base()}; start one: dovetail sandbox up")
        content = _text(directory / FACTS)
        if content is None:
            raise SandboxError(f"sandbox {self.name!r} is not up yet; its logs are in {directory / 'logs'}")
        facts: dict[str, Any] = json.loads(content)
        return facts

    def wish(self) -> Wish:
        """Return what it was started with."""
        facts = self.facts()
        return Wish(facts["nodes"], facts["real_node"], facts["scheduler"])

    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig. Raises SandboxError when it does not run."""
        self.facts()
        directory = self.directory()
        assert directory is not None
        return directory / KUBECONFIG

    def provide(self, wish: Wish, progress: tools.Progress) -> None:
        """Build what is missing. Raises UnavailableError where this machine cannot have what is wished for."""
        if wish.real_node:
            preflight.check()  # before minutes of building
            preflight.refuse_foreign_runtime()
        tools.provide([*PROGRAMS, *(tools.NODE if wish.real_node else ())], progress=progress)

    def start(self, wish: Wish, step: Step) -> None:
        """Start everything and leave it running; the caller holds its lock.

        Whatever goes wrong on the way, nothing stays.
        """
        self.end()
        start_s = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self.end)  # last of all, as what stays already outlives its clients
            plane = stack.enter_context(ControlPlane.start(prefix=self._prefix))
            step(f"control plane of Kubernetes {plane.version}")
            _fill(plane, wish.nodes, step)
            if wish.scheduler:
                our_scheduler.start(plane)
                step(f"scheduler {our_scheduler.NAME}: kube-scheduler and extender")
            node = stack.enter_context(Node.start(plane, REAL_NODE)) if wish.real_node else None
            if node is not None:
                step(f"real node {REAL_NODE}: kubelet and containerd")
                _drive(plane, node, wish.real_node, step)
            _wait_for_pods_to_be_welcome(plane.api)
            facts = {
                "name": self.name,
                "nodes": dict(wish.nodes),
                "real_node": wish.real_node,
                "scheduler": wish.scheduler,
                "kubernetes": plane.version,
                "start_s": round(time.monotonic() - start_s, 1),
            }
            if node is not None:
                (node.programs.directory / BELONGS).write_text(self.name)
            for programs in (plane.programs, *([node.programs] if node is not None else [])):
                programs.stay()
            (plane.directory / FACTS).write_text(json.dumps(facts))
            stack.pop_all()
            if node is not None:
                node.programs.close()
            plane.close()  # both supervisors stay

    def end(self) -> bool:
        """Take everything of this name away, also what a killed one left. Says whether anything ran."""
        living = self.living()
        for directory in living:
            try:
                Programs.attach(directory).end()
            except SupervisorError:
                _kill(directory)
        with rundir.exclusive("sweep"):
            rundir.sweep()
        return bool(living)


def _drive(plane: ControlPlane, node: Node, machine: str, step: Step) -> None:
    """Run our driver on the real node, on simulated GPUs."""
    if missing := driver.lacks():
        step(f"without our driver, as {', '.join(missing)} is missing; install: {extras.INSTALL_DRIVER}")
        return
    kustomize.apply(plane.kubeconfig, kustomize.without_workloads(driver.manifests()))
    driver.start(plane, node, driver.SimulatedGpus.create(node, machine))
    step(f"driver on {REAL_NODE}: the GPUs of a {machine}, simulated")


def _kill(directory: Path) -> None:
    """Kill a supervisor that cannot be talked to; its programs die with it, and a sweep does the rest."""
    for pid in supervisors(directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def look() -> bool | NotYet:
        return NotYet("it lives") if directory in rundir.living(directory.name.rpartition("-")[0]) else True

    wait_for(f"the supervisor of {directory} to end", look)


def supervisors(directory: Path) -> Iterator[int]:
    """Yield the process ids of a directory's supervisor, and of the unshare(1) around it."""
    words = [b"-m", SUPERVISOR.encode(), str(directory).encode()]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if any(command[at : at + 3] == words for at in range(len(command))):
                yield int(process.name)


def _fill(plane: ControlPlane, nodes: Mapping[str, int], step: Step) -> None:
    """Make the DeviceClasses, and the simulated nodes with their ResourceSlices."""
    plane.api.create_all(gpus.class_manifests())
    simulated = FakeNodes.start(plane)
    simulated.add(gpus.node_manifests(nodes))
    count = sum(nodes.values())
    step(f"{count} simulated {'node' if count == 1 else 'nodes'}")
    stored = plane.api.list("v1", "Node")
    uids = {node["metadata"]["name"]: node["metadata"]["uid"] for node in stored}
    major, minor = map(int, plane.version.split(".")[:2])
    manifests = list(gpus.slice_manifests(nodes, uids, (major, minor)))
    with progress_bar(len(manifests), "resource slices") as written, ThreadPoolExecutor(WRITERS) as writers:
        for _ in writers.map(plane.api.create, manifests):
            written()
    devices = sum(len(one["spec"].get("devices", ())) for one in manifests)
    step(f"{len(manifests)} resource slices with {devices} devices")
    if (major, minor) < gpus.DIVIDED_SINCE:
        step(f"whole GPUs only: Kubernetes {plane.version} does not share counters by default")


def _wait_for_pods_to_be_welcome(api: Api) -> None:
    """Wait for the account that pods of the namespace `default` run under; without it they are refused."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "default", "name": "default"}}
    api.wait(account, lambda _: True, timeout_s=ACCOUNT_S)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
