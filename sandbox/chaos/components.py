"""Kill, end, freeze and continue the programs of a cluster, start them again in place, and wait for their health.

    etcd = Component(control_plane, "etcd")
    etcd.kill()
    etcd.restart()
    with Component(node, "kubelet").frozen():
        ...

A program comes back with the same command line, port, certificates and data, as a supervisor such as systemd or a
static pod would bring it back.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from sandbox import fakenodes
from sandbox.controlplane import ControlPlane
from sandbox.errors import SupervisorError
from sandbox.fakenodes import FakeNodes
from sandbox.node import Node

ENDED_S = 70.0
"""An API server that is asked to end lets requests finish for up to 60 s."""


class Component:
    """One program of a control plane (etcd, kube-apiserver, a scheduler, kwok, ...) or of a node."""

    def __init__(self, holder: ControlPlane | Node, name: str) -> None:
        """Take the program `name`. Raises SupervisorError, with the names that there are, when it was never started."""
        self.holder = holder
        self.programs = holder.programs
        self.name = name
        known = self.programs.status()
        if name not in known:
            raise SupervisorError(f"{name} was never started; there are: {', '.join(sorted(known))}")

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not run. A node's programs have PIDs of the node."""
        return self.programs.status()[self.name].pid

    def kill(self) -> None:
        """SIGKILL, as by the out-of-memory killer; returns when it is gone."""
        self.programs.kill(self.name)

    def terminate(self, *, timeout_s: float = ENDED_S) -> int:
        """SIGTERM, as by a rollout; returns its exit code when it is gone.

        Raises WaitTimeoutError when it stays: unlike `Programs.stop` this never kills.
        """
        self.programs.signal(self.name, signal.SIGTERM)
        return self.programs.wait_end(self.name, timeout_s=timeout_s)

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open, and nobody answers."""
        self.programs.signal(self.name, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on, and believes that no time has passed."""
        self.programs.signal(self.name, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it for a block, then wait until it is healthy."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()
        self.wait_healthy()

    def restart(self) -> None:
        """Start it again after its end, and wait until it is healthy."""
        if self.name == fakenodes.PROGRAM and isinstance(self.holder, ControlPlane):
            FakeNodes(self.holder).free_leases()
        self.programs.restart(self.name)
        self.wait_healthy()

    def wait_healthy(self) -> None:
        """Wait until its own health check is good, and the node Ready if it is a node's.

        Raises StartError, with the end of its log, when it ends instead or does not become healthy.
        """
        self.holder.wait_healthy(self.name)
        if isinstance(self.holder, Node):
            self.holder.wait_ready()
