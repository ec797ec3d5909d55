"""Mode score on a real cluster: one kube-scheduler that allocates, our extender beside it from the manifests."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from dovetail import sandbox_cmd_gpus as gpus
from dra_driver.publish import DRIVER_NAME
from sandbox import kustomize, objects
from sandbox.controlplane import ControlPlane
from sandbox.deployed import DeployedPod
from sandbox.objects import Manifest
from sandbox.schedulers import SchedulerOptions, SecondScheduler
from sandbox.testbed import Testbed
from tests.manifests.fixtures import SCHEDULER, allocated, run
from tests.scheduler.harness import devices_of

pytestmark = pytest.mark.cluster

SCORED = "scored"
"""spec.schedulerName of pods of the kube-scheduler that asks us."""
MACHINE = "a100-8-pcie-nvlink-pairs"
PAIRS = 4


class Scored:
    """The extender as its manifests say, with its account's token, and a kube-scheduler that asks it."""

    def __init__(self, plane: ControlPlane, manifests: list[Manifest]) -> None:
        self.pod: DeployedPod = run(plane, manifests)
        (extender,) = self.pod.containers
        self.url = extender.probe.rpartition("/")[0]
        asked = yaml.safe_load((SCHEDULER / "score" / "kube-scheduler.yaml").read_text())
        configuration = {key: asked[key] for key in ("percentageOfNodesToScore", "extenders")}
        configuration["extenders"][0]["urlPrefix"] = self.url
        configuration["profiles"] = [{"schedulerName": SCORED}]
        options = SchedulerOptions(configuration=configuration)
        self.scheduler = SecondScheduler.start(plane, f"{SCORED}-kube-scheduler", options)

    def calls(self) -> dict[tuple[str, str], float]:
        """Verb and resource -> calls of kube-apiserver, as the extender counts them."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found: dict[tuple[str, str], float] = {}
        for labels, count in re.findall(r"^dovetail_api_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE):
            named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            key = named["verb"], named["resource"]
            found[key] = found.get(key, 0) + float(count)
        return found

    def close(self) -> None:
        self.scheduler.stop()
        self.pod.kill()


@pytest.fixture
def scored(testbed: Testbed, score: list[Manifest]) -> Iterator[Scored]:
    """Three nodes with pairs of GPUs; on two of them somebody has gpu-0."""
    plane, api = testbed.control_plane, testbed.api
    wanted = {MACHINE: 3}
    names = testbed.add_nodes(*gpus.node_manifests(wanted))
    uids = {node["metadata"]["name"]: node["metadata"]["uid"] for node in api.list("v1", "Node")}
    testbed.create(*gpus.slice_manifests(wanted, uids, (1, 34)))
    others = kustomize.without_workloads(score)
    kustomize.apply(plane.kubeconfig, others)
    for name in names[:2]:
        claim = api.create(objects.claim(testbed.namespace, f"taken-{name}", DRIVER_NAME))
        api.patch(claim, allocated(DRIVER_NAME, f"{name}/{DRIVER_NAME}", "gpu-0"), subresource="status")
    scored = Scored(plane, score)
    try:
        yield scored
    finally:
        scored.close()
        kustomize.delete(plane.kubeconfig, [each for each in others if each["kind"] != "DeviceClass"])


def running(testbed: Testbed, name: str, template: str) -> tuple[str, list[int]]:
    """Return the node of a pod once it runs, and its GPUs."""
    pod = testbed.api.wait(objects.pod(testbed.namespace, name), objects.is_running, timeout_s=60, what="to run")
    (status,) = pod["status"]["resourceClaimStatuses"]
    claim = testbed.api.get(objects.claim(testbed.namespace, status["resourceClaimName"], template))
    return pod["spec"]["nodeName"], sorted(int(device.removeprefix("gpu-")) for _, device in devices_of(claim))


def test_pods_go_where_first_fit_gives_true_pairs_nothing_is_written_and_without_us_it_goes_on(
    testbed: Testbed, scored: Scored
) -> None:
    testbed.create(objects.claim_template(testbed.namespace, "pair", DRIVER_NAME, count=2))
    names = [f"p{number}" for number in range(PAIRS)]
    for name in names:
        testbed.api.create(objects.pod(testbed.namespace, name, template="pair", scheduler=SCORED))
    got = sorted(running(testbed, name, "pair") for name in names)
    assert got == [(f"{MACHINE}-2", [2 * pair, 2 * pair + 1]) for pair in range(PAIRS)]
    refused = objects.claim(testbed.namespace, "linked", DRIVER_NAME, count=2)
    link = {"apiVersion": "gpu.dovetail.dev/v1alpha1", "kind": "GpuConfig", "link": {"wish": "require"}}
    refused["spec"]["devices"]["config"] = [{"opaque": {"driver": DRIVER_NAME, "parameters": link}}]
    testbed.api.create(refused)
    pod = testbed.api.create(objects.pod(testbed.namespace, "linked", claim="linked", scheduler=SCORED))
    wanted = f"add the constraint matchAttribute {DRIVER_NAME}/nvlinkDomain"
    testbed.api.wait(pod, lambda _: wanted in testbed.api.events(pod) or testbed.api.events(pod))
    calls = scored.calls()
    assert {verb for verb, _ in calls} == {"get"}
    assert {resource for _, resource in calls} >= {"pods", "resourceclaims", "resourceslices", "nodes"}

    scored.pod.kill()  # from now on kube-scheduler is alone, and goes on
    testbed.api.create(objects.pod(testbed.namespace, "alone", template="pair", scheduler=SCORED))
    node, devices = running(testbed, "alone", "pair")
    assert (node == f"{MACHINE}-2", len(devices)) == (False, 2)
