"""Fixtures of all tests: the scheduler's manifests as a user renders them, and on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dovetail.sandbox_cmd_scheduler import CACHE, PROGRAM, cache_folder
from sandbox import kustomize, objects
from sandbox.api import ApiFault
from sandbox.controlplane import ControlPlane
from sandbox.deployed import DeployedPod
from sandbox.objects import Manifest
from sandbox.pytest_plugin import had_or_skipped
from sandbox.waiting import NotYet, wait_for

SCHEDULER = Path(__file__).parents[2] / "manifests" / "scheduler"
DRIVER = "gpu.dovetail.dev"
FINALIZER = "resource.kubernetes.io/delete-protection"


@pytest.fixture(scope="session")
def allocate() -> list[Manifest]:
    """Mode allocate, rendered."""
    return had_or_skipped(lambda: kustomize.render(SCHEDULER))


@pytest.fixture(scope="session")
def score() -> list[Manifest]:
    """Mode score, rendered."""
    return had_or_skipped(lambda: kustomize.render(SCHEDULER / "score"))


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane, allocate: list[Manifest]) -> Iterator[list[Manifest]]:
    """Mode allocate on the API server, but for the Deployment, with its policy in force; it goes with the module.

    The DeviceClasses go with each test's `testbed`.
    """
    with on_server(control_plane, allocate) as manifests:
        yield manifests


@pytest.fixture(scope="module")
def ours(control_plane: ControlPlane, allocate: list[Manifest], installed: list[Manifest]) -> Iterator[DeployedPod]:
    """One replica of our scheduler, from the manifests and with its account's token."""
    pod = run(control_plane, allocate)
    yield pod
    pod.kill()


def run(control_plane: ControlPlane, manifests: list[Manifest], **options: Any) -> DeployedPod:
    """Start a replica; kernels come from the cache of this machine."""
    return DeployedPod.start(control_plane, manifests, {"dovetail": PROGRAM}, kept={CACHE: cache_folder()}, **options)


@contextmanager
def on_server(control_plane: ControlPlane, allocate: list[Manifest]) -> Iterator[list[Manifest]]:
    """Apply all but what makes pods and wait until the policy is in force; take all away at the end."""
    manifests = kustomize.without_workloads(allocate)
    try:
        kustomize.apply(control_plane.kubeconfig, manifests)
        wait_for("the policy to be in force", lambda: is_fenced(control_plane) or NotYet("an allocation was accepted"))
        yield manifests
    finally:
        kustomize.delete(control_plane.kubeconfig, manifests)


def classes(manifests: list[Manifest]) -> list[Manifest]:
    """Return the DeviceClasses."""
    return [each for each in manifests if each["kind"] == "DeviceClass"]


def is_fenced(control_plane: ControlPlane) -> bool:
    """Whether the API server refuses an allocation by the administrator. It takes new policies in its own time."""
    api = control_plane.api
    claim = api.create(objects.claim("default", "fence-probe", DRIVER))
    try:
        api.patch(claim, allocated(DRIVER, "nowhere", "none"), subresource="status")
    except ApiFault as fault:
        return bool(fault.status == 403)
    finally:
        api.delete(claim)
        with suppress(ApiFault):
            api.patch(claim, {"metadata": {"finalizers": None}})
        api.wait_gone(claim)
    return False


def allocated(driver: str, pool: str, *devices: str, **more: object) -> Manifest:
    """Return a change of a claim's status: these devices are its own. `more` goes into each result."""
    results = [{"request": "gpu", "driver": driver, "pool": pool, "device": device, **more} for device in devices]
    return {"status": {"allocation": {"devices": {"results": results}}}}
