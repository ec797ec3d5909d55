"""The driver's manifests: least privilege, one account, and a policy that really fences slices to their node."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from dovetail import sandbox_cmd_driver as driver_program
from dra_driver.publish.names import pool_name
from sandbox import kustomize, objects
from sandbox.api import Api, ApiFault
from sandbox.controlplane import ControlPlane
from sandbox.deployed import account_kubeconfig
from sandbox.objects import Manifest
from sandbox.podspec import workload
from sandbox.pytest_plugin import had_or_skipped
from sandbox.waiting import NotYet, wait_for

FORMS = ["base", "confined"]
DRIVER = "gpu.dovetail.dev"
NODES = ("fence-1", "fence-2")


@pytest.fixture(scope="module", params=FORMS)
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    return had_or_skipped(lambda: driver_program.manifests(request.param))


def find(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    (found,) = [each for each in manifests if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    return found


def test_the_account_of_the_policy_is_the_daemonsets(rendered: list[Manifest]) -> None:
    """NVIDIA's chart names another (their issue 1317), and so fences nobody."""
    pod = workload(rendered)
    account = find(rendered, "ServiceAccount")["metadata"]
    assert pod["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]
    assert pod["metadata"]["namespace"] == account["namespace"] == find(rendered, "Namespace")["metadata"]["name"]
    policy = find(rendered, "ValidatingAdmissionPolicy", "dovetail-driver-slices")
    (condition,) = policy["spec"]["matchConditions"]
    user = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    assert condition["expression"] == f"request.userInfo.username == '{user}'"
    (subject,) = find(rendered, "ClusterRoleBinding")["subjects"]
    assert (subject["namespace"], subject["name"]) == (account["namespace"], account["name"])


def test_the_driver_has_exactly_these_rights(rendered: list[Manifest]) -> None:
    granted = {
        (group, resource, verb)
        for rule in find(rendered, "ClusterRole")["rules"]
        for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }
    slices = {("resource.k8s.io", "resourceslices", verb) for verb in ("list", "watch", "create", "update", "delete")}
    events = {("", "events", verb) for verb in ("create", "patch")}
    assert granted == {("", "nodes", "get"), ("resource.k8s.io", "resourceclaims", "get")} | slices | events
    assert not [each for each in rendered if each["kind"] in {"Role", "RoleBinding", "Secret"}]


def test_the_container_writes_to_its_volumes_alone(rendered: list[Manifest]) -> None:
    spec = workload(rendered)["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    if not security.get("privileged"):
        added = ["SYS_ADMIN", "SYS_CHROOT", "SETGID", "SETUID", "KILL"]
        assert security["capabilities"] == {"drop": ["ALL"], "add": added}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    folders = {each["name"]: each["hostPath"]["path"] for each in spec["volumes"]}
    written = {folders[each["name"]] for each in container["volumeMounts"] if not each.get("readOnly")}
    plugin = f"/var/lib/kubelet/plugins/{DRIVER}"
    assert written == {plugin, "/var/lib/kubelet/plugins_registry", "/var/run/cdi"}
    assert {"livenessProbe", "readinessProbe"} <= set(container)
    assert "memory" in container["resources"]["limits"]


def test_two_instances_live_side_by_side_in_an_update(rendered: list[Manifest]) -> None:
    spec = workload(rendered)["spec"]
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (container,) = spec["template"]["spec"]["containers"]
    assert "--pod-uid=$(POD_UID)" in container["args"]
    assert not any("hostPort" in port for port in container["ports"])


def test_the_pod_ends_after_what_is_under_way(rendered: list[Manifest]) -> None:
    from dra_driver.app import END_S

    grace_s = workload(rendered)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > END_S


@pytest.fixture(scope="module")
def fenced(control_plane: ControlPlane, rendered: list[Manifest]) -> Iterator[dict[str, Api]]:
    """Have two nodes and the policy in force; give a client for the driver on each, and for one without a node."""
    manifests = kustomize.without_workloads(rendered)
    api = control_plane.api
    nodes = [api.create(objects.node(name)) for name in NODES]
    try:
        kustomize.apply(control_plane.kubeconfig, manifests)
        users = {}
        for name, node in [*zip(NODES, nodes, strict=True), ("nowhere", None)]:
            path = control_plane.directory / f"driver-{name}.kubeconfig"
            users[name] = Api(account_kubeconfig(control_plane, rendered, path, node=node))
        wait_for("the policy to be in force", lambda: bool(refusal(users[NODES[0]], NODES[1])) or NotYet("accepted"))
        yield users
    finally:
        kustomize.delete(control_plane.kubeconfig, manifests)
        for node in nodes:
            api.delete(node)


def slice_of(node: str, driver: str = DRIVER, pool: str | None = None) -> Manifest:
    manifest = objects.resource_slice(node, driver, [objects.device("gpu-0")])
    manifest["spec"]["pool"]["name"] = pool or pool_name(DRIVER, node)
    return manifest


def refusal(api: Api, node: str, driver: str = DRIVER, pool: str | None = None) -> str:
    """Return why the API server refuses a slice, nothing when it takes it; it does not stay."""
    try:
        stored = api.create(slice_of(node, driver, pool))
    except ApiFault as fault:
        return str(fault)
    with suppress(ApiFault):
        api.delete(stored)
    return ""


@pytest.mark.cluster
def test_a_driver_writes_slices_of_its_own_node_and_driver_alone(fenced: dict[str, Api]) -> None:
    own, other = NODES
    assert refusal(fenced[own], own) == ""
    assert f"a driver on node {own} may not write slices of node" in refusal(fenced[own], other)
    assert "a driver on node" in refusal(fenced[own], "no-such-node")
    assert "may not write slices of driver nic.example.com" in refusal(fenced[own], own, "nic.example.com")
    assert "the token names no node" in refusal(fenced["nowhere"], own)


@pytest.mark.cluster
def test_a_driver_adds_to_no_other_nodes_pool(fenced: dict[str, Api]) -> None:
    """A slice of one's own node in another's pool, of a higher generation, would take that node's devices away."""
    own, other = NODES
    for pool in (pool_name(DRIVER, other), other, own):
        assert f"may not write slices of pool {pool}" in refusal(fenced[own], own, pool=pool)


@pytest.mark.cluster
@pytest.mark.usefixtures("fenced")
def test_a_node_of_a_long_name_publishes_its_pool(control_plane: ControlPlane, rendered: list[Manifest]) -> None:
    """Its pool's name is shortened, by what the policy cannot compute."""
    name = ".".join(["n" * 62] * 4)
    assert pool_name(DRIVER, name) != f"{name}/{DRIVER}"
    node = control_plane.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    try:
        path = control_plane.directory / "driver-long.kubeconfig"
        api = Api(account_kubeconfig(control_plane, rendered, path, node=node))
        api.delete(api.create({**slice_of(name), "metadata": {"name": "long"}}))
    finally:
        control_plane.api.delete(node)


@pytest.mark.cluster
@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1beta2"])
def test_the_fence_holds_for_changes_and_deletions_in_every_version(
    control_plane: ControlPlane, fenced: dict[str, Api], version: str
) -> None:
    policy = control_plane.api.list("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy")
    (rules,) = [
        each["spec"]["matchConstraints"]["resourceRules"][0]
        for each in policy
        if each["metadata"]["name"] == "dovetail-driver-slices"
    ]
    assert version in rules["apiVersions"]
    assert set(rules["operations"]) == {"CREATE", "UPDATE", "DELETE"}
    own, other = NODES
    stored = control_plane.api.create(slice_of(other))
    try:
        for act in (changed, removed):
            with pytest.raises(ApiFault, match="may not write slices of node"):
                act(fenced[own], stored)
        changed(fenced[other], stored)
        removed(fenced[other], stored)
    finally:
        control_plane.api.delete(stored)


def changed(api: Api, stored: Manifest) -> Any:
    devices = [objects.device("gpu-0"), objects.device("gpu-1")]
    current = {**stored, "spec": {**stored["spec"], "devices": devices}}
    return api.replace(current)


def removed(api: Api, stored: Manifest) -> Any:
    return api.delete(stored)


@pytest.mark.cluster
def test_a_real_api_server_takes_every_object_and_the_pod(
    control_plane: ControlPlane, fenced: dict[str, Api], rendered: list[Manifest]
) -> None:
    """Fields are known, and the pod passes the Pod Security level of its namespace."""
    template = workload(rendered)["spec"]["template"]["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": "dovetail-driver"}}
    runtime: Manifest = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "nvidia"},
        "handler": "nvidia",
    }
    kustomize.apply(control_plane.kubeconfig, [runtime])
    try:
        kustomize.apply(control_plane.kubeconfig, [workload(rendered), {**pod, "spec": template}], "--dry-run=server")
    finally:
        kustomize.delete(control_plane.kubeconfig, [runtime])
