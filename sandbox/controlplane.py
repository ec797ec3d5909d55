"""etcd, kube-apiserver, kube-controller-manager and the default kube-scheduler, as a normal cluster has them.

Loopback only, free ports, one private directory. Node and RBAC authorization, NodeRestriction, service-account
tokens, default admission and all default controllers. Users are client certificates (`credentials`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from sandbox import components, tools
from sandbox.api import Api
from sandbox.errors import SandboxError, SupervisorError
from sandbox.pki import ADMIN, Authority, KeyPair
from sandbox.ports import LOOPBACK, free_ports
from sandbox.programs import Programs

PREFIX = "cp"
FACTS = "control-plane.json"
READY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneOptions:
    """How a control plane differs from the usual one."""

    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    """Beside the defaults of the version, for all components."""
    runtime_config: Mapping[str, bool] = field(default_factory=dict)
    """API groups or versions to serve or not, such as {"resource.k8s.io/v1beta2": True}."""
    fsync: bool = False
    """Whether etcd waits for the disk, as it does in production and no test needs."""
    default_scheduler: bool = True
    node_grace_s: int = 50
    """How long a node may be silent before it counts as lost; thousands of fake nodes renew their leases as often."""
    requests_per_s: int = 500
    """Client limit of the controller-manager and the schedulers."""


class ControlPlane:
    """A running control plane; several processes may hold one, and the last to leave ends it."""

    def __init__(self, programs: Programs, port: int, version: str, options: ControlPlaneOptions) -> None:
        self.programs = programs
        self.options = options
        self.directory = programs.directory
        self.server = f"https://{LOOPBACK}:{port}"
        self.version = version
        self.authority = Authority(programs.directory / "pki")
        self.kubeconfig = self.directory / "admin.kubeconfig"
        self._api: Api | None = None

    @classmethod
    def start(
        cls,
        options: ControlPlaneOptions | None = None,
        *,
        prefix: str = PREFIX,
        progress: tools.Progress = tools.silent,
    ) -> Self:
        """Start a control plane and wait until it is ready. Missing programs are built first.

        Raises UnavailableError when a program cannot be had, StartError when one does not come up.
        """
        options = options or ControlPlaneOptions()
        paths = tools.provide(tools.CONTROL_PLANE, progress=progress)
        version = tools.kubernetes_version(paths["kube-apiserver"])
        programs = Programs.launch(prefix)
        try:
            port = free_ports(1)[0]
            control_plane = cls(programs, port, version, options)
            control_plane.credentials(*ADMIN).rename(control_plane.kubeconfig)
            _Launch(control_plane, paths, options).run(port)
            facts = {"port": port, "version": version, "options": asdict(options)}
            (control_plane.directory / FACTS).write_text(json.dumps(facts))
        except BaseException:
            programs.close()
            raise
        return control_plane

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """Hold a control plane that another process started. Raises SupervisorError when it is gone or not ready."""
        facts = directory / FACTS
        if not facts.exists():
            raise SupervisorError(f"no control plane is ready in {directory}")
        content = json.loads(facts.read_text())
        options = ControlPlaneOptions(**content["options"])
        return cls(Programs.attach(directory), content["port"], content["version"], options)

    def credentials(self, user: str, group: str | None = None) -> Path:
        """Write a kubeconfig file for a user and, if given, a group."""
        return self.authority.kubeconfig(self.server, user, group)

    def wait_healthy(self, name: str) -> None:
        """Wait until a program's health check is good. Raises StartError with its log when it ends instead."""
        self.programs.wait_healthy(name, self.authority.certificate, timeout_s=READY_S)

    @property
    def api(self) -> Api:
        """The administrator's connection, one per process."""
        if self._api is None:
            self._api = Api(self.kubeconfig)
        return self._api

    def close(self) -> None:
        """Leave; the last one to leave ends it."""
        if self._api is not None:
            self._api.close()
        self.programs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if fault is not None:
            with contextlib.suppress(SandboxError):
                self.programs.keep_logs()
        self.close()


@dataclass(frozen=True, slots=True)
class _Launch:
    """The order in which the components come up."""

    of: ControlPlane
    paths: Mapping[str, Path]
    options: ControlPlaneOptions

    def run(self, port: int) -> None:
        """Start all components, the API server at `port`, and wait until they are ready."""
        authority = self.of.authority
        store = self._store()
        argv = components.etcd(self.paths["etcd"], self.of.directory / "etcd", store, fsync=self.options.fsync)
        self.of.programs.start("etcd", argv, health=f"{store.metrics_url}/health")
        serving = authority.server("kube-apiserver", *components.SERVICE_NAMES)
        self._start_apiserver(port, store, serving)  # it waits for etcd by itself
        self.of.wait_healthy("kube-apiserver")
        manager = self._access("kube-controller-manager")
        keys = KeyPair(authority.certificate, authority.key)
        argv = components.controller_manager(
            self.paths["kube-controller-manager"], manager, keys, serving.key, self.options.node_grace_s
        )
        self.of.programs.start("kube-controller-manager", [*argv, *self._gates()], health=f"{manager.url}/healthz")
        if self.options.default_scheduler:
            self._run_scheduler()
        self.of.wait_healthy("kube-controller-manager")

    def _run_scheduler(self) -> None:
        access = self._access("kube-scheduler")
        configuration = self.of.directory / "kube-scheduler.yaml"
        configuration.write_text(yaml.safe_dump(components.scheduler_configuration(access, {})))
        argv = components.scheduler(self.paths["kube-scheduler"], access, configuration)
        self.of.programs.start("kube-scheduler", [*argv, *self._gates()], health=f"{access.url}/healthz")
        self.of.wait_healthy("kube-scheduler")

    def _start_apiserver(self, port: int, store: components.Store, serving: KeyPair) -> None:
        authority = self.of.authority
        kubelet_client = authority.client("kube-apiserver-kubelet-client", ADMIN[1])
        argv = components.apiserver(
            self.paths["kube-apiserver"], store, port, authority.certificate, serving, kubelet_client
        )
        served = components.runtime_flags(self.options.runtime_config)
        health = f"{self.of.server}/readyz"
        self.of.programs.start("kube-apiserver", [*argv, *self._gates(), *served], health=health)

    def _store(self) -> components.Store:
        authority = Authority(self.of.authority.folder / "etcd")
        member = authority.server("member")
        client = authority.client("kube-apiserver")
        return components.Store(authority.certificate, member, client, *free_ports(3))

    def _access(self, name: str) -> components.Access:
        kubeconfig = self.of.credentials(f"system:{name}")
        return components.Access(
            kubeconfig, self.of.authority.server(name), free_ports(1)[0], self.options.requests_per_s
        )

    def _gates(self) -> list[str]:
        return components.gate_flags(self.options.feature_gates)
