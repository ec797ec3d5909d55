"""A real API server takes the manifests as they are, pods are confined, and nothing is said twice differently."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import kustomize
from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.objects import Manifest
from sandbox.podspec import workload
from tests.manifests.fixtures import SCHEDULER, on_server

MODES = ["allocate", "score"]


@pytest.fixture
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    manifests: list[Manifest] = request.getfixturevalue(request.param)
    return manifests


def find(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    (found,) = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"].startswith(name)]
    return found


def pod_of(manifests: list[Manifest]) -> Manifest:
    template = workload(manifests)["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "dovetail"},
        "spec": template["spec"],
    }


def configuration(manifests: list[Manifest]) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(find(manifests, "ConfigMap")["data"]["kube-scheduler.yaml"])
    return content


@pytest.mark.cluster
@pytest.mark.parametrize("rendered", MODES, indirect=True)
def test_a_real_api_server_takes_every_object_and_the_pods(
    control_plane: ControlPlane, rendered: list[Manifest]
) -> None:
    """Fields are known, and pods pass the Pod Security level of their namespace."""
    kept = kustomize.without_workloads(rendered)
    try:
        kustomize.apply(control_plane.kubeconfig, kept)
        kustomize.apply(control_plane.kubeconfig, [workload(rendered), pod_of(rendered)], "--dry-run=server")
    finally:
        kustomize.delete(control_plane.kubeconfig, kept)


@pytest.mark.cluster
def test_a_pod_that_is_less_confined_is_refused(control_plane: ControlPlane, allocate: list[Manifest]) -> None:
    """The level is enforced: the test above can fail."""
    pod = pod_of(allocate)
    pod = {**pod, "spec": {**pod["spec"], "hostNetwork": True}}
    with on_server(control_plane, allocate), pytest.raises(SandboxError, match="violates PodSecurity"):
        kustomize.apply(control_plane.kubeconfig, [pod], "--dry-run=server")


@pytest.mark.parametrize("rendered", MODES, indirect=True)
def test_containers_write_to_their_volumes_alone_and_have_no_privilege(rendered: list[Manifest]) -> None:
    spec = pod_of(rendered)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"livenessProbe", "readinessProbe", "startupProbe"} <= set(container)
        assert "memory" in container["resources"]["limits"]


def test_what_both_containers_and_the_roles_are_told_is_the_same(allocate: list[Manifest]) -> None:
    _, extender = pod_of(allocate)["spec"]["containers"]
    content = configuration(allocate)
    (called,) = content["extenders"]
    assert f"--listen={called['urlPrefix'].removeprefix('http://')}" in extender["args"]
    lease = content["leaderElection"]
    assert f"--lease={lease['resourceNamespace']}/{lease['resourceName']}" in extender["args"]
    role = find(allocate, "Role")
    assert role["metadata"]["namespace"] == lease["resourceNamespace"]
    assert [rule["resourceNames"] for rule in role["rules"] if "update" in rule["verbs"]] == [[lease["resourceName"]]]
    account = find(allocate, "ServiceAccount")["metadata"]
    assert pod_of(allocate)["spec"]["serviceAccountName"] == account["name"]
    (condition,) = find(allocate, "ValidatingAdmissionPolicy", "dovetail")["spec"]["matchConditions"]
    assert f"'system:serviceaccount:{account['namespace']}:{account['name']}'" in condition["expression"]


def test_a_replica_keeps_its_lease_until_its_extender_has_ended(allocate: list[Manifest]) -> None:
    from scheduler.app import DRAIN_S
    from scheduler.bind import BindSettings

    spec = pod_of(allocate)["spec"]
    scheduler, extender = spec["containers"]
    held_s = scheduler["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert "lifecycle" not in extender
    assert BindSettings().answer_s < held_s < BindSettings().answer_s + 5, "long enough to write all, and no longer"
    last_s = spec["terminationGracePeriodSeconds"] - configuration_s(configuration(allocate))
    assert max(held_s, DRAIN_S) < last_s


def configuration_s(content: dict[str, Any]) -> int:
    """How long kube-scheduler may take to give its lease back."""
    return int(content["leaderElection"]["retryPeriod"].removesuffix("s"))


def test_mode_score_allocates_nothing_and_cannot_stop_the_clusters_scheduler(score: list[Manifest]) -> None:
    (called,) = yaml.safe_load((SCHEDULER / "score" / "kube-scheduler.yaml").read_text())["extenders"]
    (extender,) = pod_of(score)["spec"]["containers"]
    assert called["ignorable"] is True
    assert not {"bindVerb", "preemptVerb"} & set(called)
    assert "--mode=score" in extender["args"]
    assert f"--listen={called['urlPrefix'].removeprefix('http://')}" in extender["args"]
    assert not [each for each in score if each["kind"].startswith("ValidatingAdmission")]


def test_the_overlay_of_the_readme_changes_the_drivers_everywhere(tmp_path: Path) -> None:
    text = (SCHEDULER / "README.md").read_text()
    (overlay,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "drivers=" in block]
    here = os.path.relpath(SCHEDULER, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(overlay.replace("- manifests/scheduler\n", f"- {here}\n"))
    manifests = kustomize.render(tmp_path)
    drivers = "gpu.dovetail.dev nic.example.com"
    config = find(manifests, "ConfigMap")
    assert config["data"]["drivers"] == drivers
    assert "kube-scheduler.yaml" in config["data"]
    (variable,) = [
        each
        for each in find(manifests, "ValidatingAdmissionPolicy", "dovetail")["spec"]["variables"]
        if each["name"] == "drivers"
    ]
    assert variable["expression"] == f"'{drivers}'.split(' ')"
    _, extender = pod_of(manifests)["spec"]["containers"]
    (given,) = [each for each in extender["env"] if each["name"] == "DOVETAIL_DRIVER"]
    assert given["valueFrom"]["configMapKeyRef"] == {"name": config["metadata"]["name"], "key": "drivers"}
