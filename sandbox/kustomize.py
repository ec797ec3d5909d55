"""Manifests as a user renders and applies them: `kubectl kustomize`, `kubectl apply --server-side`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from sandbox import tools
from sandbox.errors import SandboxError
from sandbox.objects import Manifest

WORKLOADS = frozenset({"Deployment", "DaemonSet", "StatefulSet"})
"""Simulated nodes would run their pods without any program."""


def render(folder: Path) -> list[Manifest]:
    """Return the objects of a kustomization. Raises SandboxError with kubectl's words."""
    return [each for each in yaml.safe_load_all(_kubectl(["kustomize", folder])) if each]


def apply(kubeconfig: Path, manifests: Iterable[Manifest], *options: str) -> None:
    """Create the objects or make them so, in the given order; no field may be unknown.

    Raises SandboxError with kubectl's words.
    """
    content = yaml.safe_dump_all(manifests, sort_keys=False)
    _kubectl(_command(kubeconfig, "apply", "--server-side", "--validate=strict", "-f", "-", *options), content)


def delete(kubeconfig: Path, manifests: Iterable[Manifest]) -> None:
    """Delete the objects and wait until they are gone; those that are not there are fine."""
    _kubectl(_command(kubeconfig, "delete", "--ignore-not-found", "-f", "-"), yaml.safe_dump_all(manifests))


def without_workloads(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Leave out what makes pods."""
    return [each for each in manifests if each["kind"] not in WORKLOADS]


def _command(kubeconfig: Path, *words: str) -> list[str | Path]:
    return ["--kubeconfig", kubeconfig, "--cache-dir", kubeconfig.parent / "kubectl-cache", *words]


def _kubectl(words: Sequence[str | Path], content: str | None = None) -> str:
    program = tools.provide(["kubectl"])["kubectl"]
    done = subprocess.run([program, *words], input=content, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise SandboxError(f"kubectl {words[0]}: {done.stderr.strip()[:2000]}")
    return done.stdout
