"""The driver as a pod from the manifests, with its node-bound token and no right beyond them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dovetail import sandbox_cmd_driver as driver_program
from sandbox import kustomize, objects
from sandbox.controlplane import ControlPlane
from sandbox.nodepod import hosted
from sandbox.objects import Manifest
from sandbox.ports import free_ports
from sandbox.pytest_plugin import had_or_skipped
from sandbox.waiting import NotYet, wait_for
from tests.driver_node.box import Bed, Box, bare_box, claim, request, uses

pytestmark = pytest.mark.node
NAMESPACE, NAME = "dovetail-driver", "dovetail-driver"
LABEL = {"metadata": {"labels": {"gpu.dovetail.dev/driver": "true"}}}
ROLL_S = 90.0


@pytest.fixture(scope="module", params=["base", "confined"])
def deployed(request: pytest.FixtureRequest, control_plane: ControlPlane) -> Iterator[Box]:
    """A box whose driver is a pod of the DaemonSet."""
    with ExitStack() as ends:
        here = had_or_skipped(lambda: ends.enter_context(bare_box(control_plane, "hgx-h100-8", "pod-1")))
        here.plane.api.patch(here.node.reference, LABEL)
        # A file system of its own, as on any host: writable where the pod has the host's / to read.
        here.node.programs.start("shm", ["mount", "-t", "tmpfs", "tmpfs", here.gpus.tree / "dev" / "shm"])
        assert here.node.programs.wait_end("shm") == 0
        apply(here, request.param)
        ends.callback(kustomize.delete, here.plane.kubeconfig, [here.workload()])
        wait_for("the driver's pod", lambda: rolled_out(here), timeout_s=ROLL_S, account=lambda: said(here))
        yield here


@pytest.fixture
def bed(deployed: Box) -> Iterator[Bed]:
    bed = deployed.bed()
    yield bed
    bed.close()


def apply(here: Box, form: str, **annotations: str) -> None:
    """Apply the DaemonSet of a form of the manifests; another annotation makes another revision of it."""
    (port,) = free_ports(1)
    programs = driver_program.in_pod(here.gpus)
    rendered = hosted(driver_program.manifests(form), programs, here.plane.server, port)
    (workload,) = [each for each in rendered if each["kind"] == "DaemonSet"]
    workload["spec"]["template"]["metadata"]["annotations"] = annotations
    kustomize.apply(here.plane.kubeconfig, [workload])


def pods(here: Box) -> list[Manifest]:
    return here.plane.api.list("v1", "Pod", NAMESPACE)


def said(here: Box) -> str:
    lines = []
    for pod in pods(here):
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}/log"
        lines.append(f"{pod['metadata']['name']}: {objects.is_running(pod)}")
        lines.append(here.plane.api.raw(path)[-3000:])
    return "\n".join(lines)


def rolled_out(here: Box) -> bool | NotYet:
    stored = here.plane.api.get(here.workload())
    status = stored.get("status", {})
    seen = {key: status.get(key) for key in ("observedGeneration", "updatedNumberScheduled", "numberReady")}
    if seen["observedGeneration"] != stored["metadata"]["generation"] or len(pods(here)) != 1:
        return NotYet(f"{seen}, {len(pods(here))} pods")
    return True if seen["updatedNumberScheduled"] == seen["numberReady"] == 1 else NotYet(str(seen))


def test_pods_get_their_devices(deployed: Box, bed: Bed) -> None:
    bed.create(claim(bed.namespace, "one", request("gpu", "gpu")), claim(bed.namespace, "part", request("gpu", "mig")))
    whole = deployed.run(bed, deployed.probing(bed.namespace, "whole", {"gpu": "one"}, uses("main")))["main"]
    part = deployed.run(bed, deployed.probing(bed.namespace, "part", {"gpu": "part"}, uses("main")))["main"]
    assert len(whole.gpus) == 1
    assert whole.passed == set(whole.nodes.values())
    assert whole.libraries, "found through the host's / in the driver's pod, mounted by their paths on the host"
    assert part.capabilities == 2
    assert part.passed == set(part.nodes.values())


def test_an_mps_daemon_runs_in_the_drivers_pod(deployed: Box, bed: Bed) -> None:
    bed.create(claim(bed.namespace, "share", request("gpu", "mps", capacity={"memory": "8Gi"})))
    view = deployed.run(bed, deployed.probing(bed.namespace, "share", {"gpu": "share"}, uses("main")))["main"]
    assert view.environment["CUDA_MPS_PIPE_DIRECTORY"]
    assert view.passed == set(view.nodes.values())


def test_a_rolling_update_leaves_pods_and_slices_alone(deployed: Box, bed: Bed) -> None:
    """The new instance is ready before the old one ends; it unprepares what the old one prepared."""
    bed.create(
        claim(bed.namespace, "before", request("gpu", "gpu")), claim(bed.namespace, "after", request("gpu", "mig"))
    )
    user = deployed.probing(bed.namespace, "before", {"gpu": "before"}, uses("main"))
    deployed.run(bed, user)
    (old,) = pods(deployed)
    slices = deployed.slices()
    form = "confined" if "privileged" not in str(old["spec"]["containers"][0]["securityContext"]) else "base"
    apply(deployed, form, revision="2")
    wait_for("the new pod alone", lambda: rolled_out(deployed), timeout_s=ROLL_S, account=lambda: said(deployed))
    (new,) = pods(deployed)
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert deployed.slices() == slices, "byte for byte, resourceVersion included"
    assert bed.api.get(user)["status"]["containerStatuses"][0]["restartCount"] == 0
    deployed.run(bed, deployed.probing(bed.namespace, "after", {"gpu": "after"}, uses("main")))
    bed.remove_workload()
    assert deployed.records() == []
