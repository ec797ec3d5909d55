"""The driver of a real node in a sandbox, on a simulated GPU machine, with the rights that its manifests give it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail import extras
from dovetail.shipped import shipped
from sandbox import kustomize
from sandbox.controlplane import ControlPlane
from sandbox.deployed import account_kubeconfig
from sandbox.errors import SandboxError
from sandbox.node import Node
from sandbox.nodepod import HostPrograms
from sandbox.ports import LOOPBACK, free_ports

NAME = "driver"
"""Of the program; its log is `real-1/driver`."""
READY_S = 60.0
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class SimulatedGpus:
    """A simulated GPU machine in a node's folder."""

    state: Path
    """Where it keeps what the GPUs are; any process may open it."""
    tree: Path
    """What the host would have of the GPUs: /dev, /proc, /sys, libraries and programs of NVIDIA's driver."""

    @classmethod
    def create(cls, node: Node, machine: str) -> SimulatedGpus:
        """Make the machine with all GPUs unused. Raises SandboxError with the words of what failed."""
        gpus = cls(node.paths.directory / "gpus", node.paths.directory / "host")
        _twin("new", gpus.state, "--machine", machine, "--node", node.name, "--tree", gpus.tree)
        return gpus

    def run(self, *words: str | Path) -> list[str | Path]:
        """Return the command that runs a Python module on the machine."""
        return [sys.executable, "-m", "twin", "run", self.state, "--", *words]

    def ask(self, verb: str, *words: str | Path) -> str:
        """Do something to the machine, as `python -m twin VERB` does. Returns what it says."""
        return _twin(verb, self.state, *words)


def lacks() -> list[str]:
    """Return the packages without which the driver does not run here."""
    return [name for name in extras.DRIVER if importlib.util.find_spec(name) is None]


def manifests(form: str = "base") -> list[dict[str, Any]]:
    """Return a form of the driver's manifests, rendered: a folder of manifests/driver."""
    return kustomize.render(shipped("manifests", "driver", form))


def start(plane: ControlPlane, node: Node, gpus: SimulatedGpus, *options: str, name: str = NAME) -> int:
    """Run the driver as a process on the node until it ends; returns the port of its probes when it is ready.

    What its account may do is on the API server already. Raises StartError with the end of its log.
    """
    stored = {**node.reference, **plane.api.get(node.reference)}
    kubeconfig = account_kubeconfig(plane, manifests(), node.paths.directory / "driver.kubeconfig", node=stored)
    (port,) = free_ports(1)
    argv = gpus.run("dovetail", "driver", *arguments(node, gpus, port), *options)
    environment = {"KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT)}
    node.programs.start(name, argv, environment=environment, health=f"http://{LOOPBACK}:{port}/readyz")
    node.programs.wait_healthy(name, plane.authority.certificate, timeout_s=READY_S)
    return port


def arguments(node: Node, gpus: SimulatedGpus, port: int) -> list[str]:
    """Return how the driver is told where it is; the kubelet's folder and that of CDI files are the usual ones."""
    return [
        f"--node-name={node.name}",
        f"--listen={LOOPBACK}:{port}",
        f"--driver-root={gpus.tree}",
        f"--dev-root={gpus.tree}",
        f"--proc-root={gpus.tree / 'proc'}",
        f"--sys-root={gpus.tree / 'sys'}",
    ]


def in_pod(gpus: SimulatedGpus) -> HostPrograms:
    """Return what the pod of the manifests runs here: the same program on the same machine, through the host's `/`."""
    return HostPrograms(
        programs={"dovetail": gpus.run("dovetail")},
        reads=sorted({ROOT, Path(sys.base_prefix), Path(sys.prefix)}),
        writes=[gpus.state, gpus.tree],
        environment={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        exchange={
            "--driver-root=/host": f"--driver-root=/host{gpus.tree}",
            "--dev-root=/host": f"--dev-root=/host{gpus.tree}",
            "--proc-root=/host": f"--proc-root=/host{gpus.tree}",
            "--sys-root=/host": f"--sys-root=/host{gpus.tree}",
        },
    )


def _twin(verb: str, state: Path, *words: str | Path) -> str:
    argv = [sys.executable, "-m", "twin", verb, state, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode != 0:
        raise SandboxError(f"simulated GPUs: {verb}: {done.stderr.strip()[-2000:]}")
    return done.stdout
