"""A second kube-scheduler beside the default one, with a configuration of the caller's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from sandbox import components, tools
from sandbox.controlplane import ControlPlane
from sandbox.ports import free_ports

USER = "system:kube-scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """How a second kube-scheduler runs."""

    configuration: Mapping[str, Any]
    """Top-level fields of its KubeSchedulerConfiguration: profiles, extenders, leaderElection, ..."""
    kubeconfig: Path | None = None
    """Who it is; by default the user `system:kube-scheduler`, who may take the lease `kube-scheduler` alone."""
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    hostname: str | None = None
    """A host name of its own, as replicas on several machines have: it is part of their lease identity."""
    requests_per_s: int = 500


class SecondScheduler:
    """A kube-scheduler under the supervisor of a control plane."""

    def __init__(self, control_plane: ControlPlane, name: str, url: str) -> None:
        self.programs = control_plane.programs
        self.name = name
        self.url = url
        """Of its health, metrics and configz endpoints."""

    @classmethod
    def start(cls, control_plane: ControlPlane, name: str, options: SchedulerOptions) -> Self:
        """Start a kube-scheduler under the program name `name` and wait until it is healthy.

        Raises StartError with its log when it refuses its configuration.
        """
        program = tools.provide(["kube-scheduler"])["kube-scheduler"]
        kubeconfig = options.kubeconfig or control_plane.credentials(USER)
        serving = control_plane.authority.server(name)
        access = components.Access(kubeconfig, serving, free_ports(1)[0], options.requests_per_s)
        configuration = control_plane.directory / f"{name}.yaml"
        content = components.scheduler_configuration(access, options.configuration)
        configuration.write_text(yaml.safe_dump(content))
        argv = components.scheduler(program, access, configuration)
        gates = components.gate_flags(options.feature_gates)
        health = f"{access.url}/healthz"
        control_plane.programs.start(name, [*argv, *gates], hostname=options.hostname, health=health)
        control_plane.wait_healthy(name)
        return cls(control_plane, name, access.url)

    def stop(self) -> None:
        """End it as a rollout would: SIGTERM, and it gives its lease back."""
        self.programs.stop(self.name)
