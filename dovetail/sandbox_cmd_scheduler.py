"""The scheduler of a sandbox: from the manifests that a cluster gets, with the token of its own account."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from dovetail import extras
from dovetail.shipped import shipped
from sandbox import kustomize
from sandbox.controlplane import ControlPlane
from sandbox.deployed import DeployedPod

NAME = "dovetail"
"""spec.schedulerName of the pods that it places."""
PROGRAM = (sys.executable, "-m", "dovetail")
CACHE = "cache"
"""The volume for compiled kernels, which take a minute to make."""


def lacks() -> list[str]:
    """Return the packages without which the scheduler does not run here."""
    return [name for name in extras.CLUSTER if importlib.util.find_spec(name) is None]


def manifests() -> list[dict[str, Any]]:
    """Return mode allocate, rendered."""
    return kustomize.render(shipped("manifests", "scheduler"))


def start(plane: ControlPlane) -> DeployedPod:
    """Create what the manifests have and run one replica; returns when it is ready.

    Raises StartError with the end of a log when a part of it ends.
    """
    rendered = manifests()
    kustomize.apply(plane.kubeconfig, kustomize.without_workloads(rendered))
    return DeployedPod.start(plane, rendered, {"dovetail": PROGRAM}, kept={CACHE: cache_folder()})


def cache_folder() -> Path:
    """Return where compiled kernels are kept on this machine."""
    return Path(os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
