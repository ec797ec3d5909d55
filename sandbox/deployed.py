"""A pod of a Deployment or DaemonSet as processes: what its manifests say, on this machine, with its account's token.

    manifests = kustomize.render(folder)
    kustomize.apply(plane.kubeconfig, kustomize.without_workloads(manifests))
    pod = DeployedPod.start(plane, manifests, {"dovetail": [sys.executable, "-m", "dovetail"]})

Images are replaced by programs: kube-scheduler is the sandbox's own, others are given by the caller by the first word
of their command. There is no second copy of flags or configuration: a change of the manifests changes what runs.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import yaml

from sandbox import podspec, tools
from sandbox.controlplane import ControlPlane
from sandbox.objects import Manifest
from sandbox.pki import KeyPair, kubeconfig_text, write_private
from sandbox.podspec import Place, Process
from sandbox.ports import free_ports

TOKEN_S = 30 * 24 * 3600
"""A sandbox may live long, and no kubelet renews tokens here."""
KUBE_SCHEDULER = "kube-scheduler"
READY_S = 120.0
"""Kernels may have to be compiled first."""

Programs = Mapping[str, Sequence[str | Path]]
"""First word of a container's command -> words that run it here."""


class DeployedPod:
    """One replica; its containers are programs called `<pod>-<container>`."""

    def __init__(self, control_plane: ControlPlane, name: str, containers: Sequence[Process]) -> None:
        self.control_plane = control_plane
        self.name = name
        self.containers = tuple(containers)

    @classmethod
    def start(
        cls,
        control_plane: ControlPlane,
        manifests: Sequence[Manifest],
        programs: Programs,
        *,
        name: str | None = None,
        hostname: str | None = None,
        kubeconfig: Path | None = None,
        kept: Mapping[str, Path] | None = None,
    ) -> Self:
        """Start all containers and wait until they are ready.

        `name` tells replicas apart, `hostname` gives this one a host name of its own, `kubeconfig` leads it another way
        to the API server than by its account's token, `kept` are folders of empty volumes that outlive it.
        Raises StartError with the log of a container that ends instead.
        """
        workload = podspec.workload(manifests)
        name = name or workload["metadata"]["name"]
        template = workload["spec"]["template"]
        ports = podspec.declared_ports(template)
        here = dict(zip(ports, free_ports(len(ports)), strict=True))
        place = Place(control_plane.directory / name, name, here, kept or {})
        place.folder.mkdir(mode=0o700, exist_ok=True)
        if kubeconfig is None:
            kubeconfig = account_kubeconfig(control_plane, manifests, place.folder / "kubeconfig")
        _write(podspec.files(template, manifests, place), kubeconfig)
        pod = cls(control_plane, name, podspec.processes(template, manifests, place))
        serving = control_plane.authority.server(name)
        for each in pod.containers:
            argv = [*_program(each, programs), *each.argv, *_access(each, kubeconfig, serving)]
            environment = {**each.environment, "KUBECONFIG": str(kubeconfig)}
            control_plane.programs.start(
                pod.program(each), argv, environment=environment, hostname=hostname, health=each.probe or None
            )
        pod.wait_ready()
        return pod

    def program(self, container: Process) -> str:
        """Name a container among the programs of the sandbox."""
        return f"{self.name}-{container.container}"

    def wait_ready(self) -> None:
        """Wait until the readiness probes of all containers are good."""
        authority = self.control_plane.authority.certificate
        for each in self.containers:
            if each.probe:
                self.control_plane.programs.wait_healthy(self.program(each), authority, timeout_s=READY_S)

    def stop(self) -> None:
        """End it as the kubelet ends a pod: all containers at the same time, each after its preStop sleep."""
        programs, began_s = self.control_plane.programs, time.monotonic()
        for each in sorted(self.containers, key=lambda container: container.sleeps_s):
            time.sleep(max(0.0, began_s + each.sleeps_s - time.monotonic()))
            if programs.status()[self.program(each)].pid is not None:
                programs.signal(self.program(each), signal.SIGTERM)
        for each in self.containers:
            programs.stop(self.program(each), grace_s=READY_S)

    @property
    def is_whole(self) -> bool:
        """Whether all its containers run."""
        status = self.control_plane.programs.status()
        return all(status[self.program(each)].pid is not None for each in self.containers)

    def kill(self) -> None:
        """SIGKILL all containers, as when a machine is lost."""
        for each in self.containers:
            if self.control_plane.programs.status()[self.program(each)].pid is not None:
                self.control_plane.programs.kill(self.program(each))


def account_kubeconfig(
    control_plane: ControlPlane, manifests: Sequence[Manifest], path: Path, *, node: Manifest | None = None
) -> Path:
    """Write a kubeconfig with a token of the account that the manifests give their pods, those on `node` if given."""
    workload = podspec.workload(manifests)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "namespace": workload["metadata"]["namespace"],
            "name": workload["spec"]["template"]["spec"]["serviceAccountName"],
        },
    }
    token = control_plane.api.token(account, seconds=TOKEN_S, bound_to=node)
    content = kubeconfig_text(control_plane.server, control_plane.authority.certificate, {"token": token})
    write_private(path, content.encode())
    return path


def _write(files: Mapping[Path, str | None], kubeconfig: Path) -> None:
    for path, content in files.items():
        (path if content is None else path.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        if content is not None:
            path.write_text(_connected(content, kubeconfig))


def _connected(content: str, kubeconfig: Path) -> str:
    """Tell a KubeSchedulerConfiguration the way to the API server, which in a cluster is that of any pod."""
    document = yaml.safe_load(content) if "KubeSchedulerConfiguration" in content else None
    if not isinstance(document, dict) or document.get("kind") != "KubeSchedulerConfiguration":
        return content
    document["clientConnection"] = {**document.get("clientConnection", {}), "kubeconfig": str(kubeconfig)}
    return yaml.safe_dump(document, sort_keys=False)


def _program(container: Process, programs: Programs) -> Iterable[str | Path]:
    if container.program in programs:
        return programs[container.program]
    return [tools.provide([container.program])[container.program]]


def _access(container: Process, kubeconfig: Path, serving: KeyPair) -> list[str]:
    """Return what kube-scheduler needs beside its configuration outside of a cluster."""
    if container.program != KUBE_SCHEDULER:
        return []
    return [
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
    ]
