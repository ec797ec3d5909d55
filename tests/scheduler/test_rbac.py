"""The scheduler's account may do what its roles list, and nothing more: asked of a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from sandbox import kustomize
from sandbox.api import Api
from sandbox.controlplane import ControlPlane
from sandbox.pki import kubeconfig_text, write_private

pytestmark = pytest.mark.cluster

NAMESPACE, ACCOUNT = "dovetail", "dovetail-scheduler"
LEASES = "coordination.k8s.io"
RESOURCES = {
    "": [
        *("bindings", "configmaps", "endpoints", "events", "namespaces", "nodes", "nodes/status"),
        *("persistentvolumeclaims", "persistentvolumes", "pods", "pods/binding", "pods/ephemeralcontainers"),
        *(
            "pods/eviction",
            "pods/exec",
            "pods/status",
            "secrets",
            "serviceaccounts",
            "serviceaccounts/token",
            "services",
        ),
    ],
    "resource.k8s.io": [
        *("deviceclasses", "devicetaintrules", "resourceclaims", "resourceclaims/binding", "resourceclaims/driver"),
        *("resourceclaims/status", "resourceclaimtemplates", "resourceslices"),
    ],
    "apps": ["daemonsets", "deployments"],
    LEASES: ["leases"],
    "admissionregistration.k8s.io": ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
    "rbac.authorization.k8s.io": ["clusterroles", "clusterrolebindings", "roles", "rolebindings"],
}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
WRITES = frozenset(VERBS) - {"get", "list", "watch"}
READS = {
    *product(["namespaces", "nodes", "pods"], ["list", "watch"]),
    *product(["deviceclasses", "devicetaintrules", "resourceclaims", "resourceslices"], ["list", "watch"]),
}
ALLOCATES = {
    ("pods", "get"),
    ("pods", "delete"),
    ("pods/binding", "create"),
    ("pods/status", "patch"),
    ("events", "create"),
    ("events", "patch"),
    ("resourceclaims", "get"),
    ("resourceclaims", "patch"),
    ("resourceclaims", "create"),
    ("resourceclaims/status", "patch"),
    ("resourceclaims/binding", "patch"),
}
"""Cluster-wide, in mode allocate, of the extender's own role."""


class Caller:
    """A user who asks what he may do."""

    def __init__(self, kubeconfig: Path) -> None:
        self.api = Api(kubeconfig)

    @classmethod
    def account(cls, plane: ControlPlane, name: str) -> Caller:
        """A ServiceAccount, with a token of its own."""
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": NAMESPACE, "name": name}}
        path = plane.directory / f"{name}.kubeconfig"
        access = {"token": plane.api.token(account, seconds=600)}
        write_private(path, kubeconfig_text(plane.server, plane.authority.certificate, access).encode())
        return cls(path)

    def may(self, verb: str, group: str, resource: str, namespace: str = "", name: str = "") -> bool:
        base, _, subresource = resource.partition("/")
        asked = {"verb": verb, "group": group, "resource": base, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": {**asked, "namespace": namespace, "name": name}},
        }
        return bool(self.api.create(review)["status"]["allowed"])

    def matrix(self) -> set[tuple[str, str]]:
        """All that he may do cluster-wide, of RESOURCES times VERBS."""
        return {
            (resource, verb)
            for group, resources in RESOURCES.items()
            for resource, verb in product(resources, VERBS)
            if self.may(verb, group, resource)
        }


@pytest.fixture
def applied(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[None]:
    """The accounts and roles of the mode that the test names; the policy is others' business."""
    kinds = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    manifests = [each for each in request.getfixturevalue(request.param) if each["kind"] in kinds]
    try:
        kustomize.apply(control_plane.kubeconfig, manifests)
        yield
    finally:
        kustomize.delete(control_plane.kubeconfig, manifests)


@pytest.fixture
def account(control_plane: ControlPlane, applied: None) -> Iterator[Caller]:
    caller = Caller.account(control_plane, ACCOUNT)
    yield caller
    caller.api.close()


@pytest.mark.parametrize("applied", ["score"], indirect=True)
def test_mode_score_reads_and_writes_nothing(account: Caller) -> None:
    may = account.matrix()
    assert {each for each in may if each[1] in WRITES} == set()
    assert may == READS


@pytest.mark.parametrize("applied", ["allocate"], indirect=True)
def test_the_extenders_roles_give_exactly_what_it_writes(control_plane: ControlPlane, applied: None) -> None:
    """Asked of an account that has no role of a kube-scheduler, which the real one has too."""
    metadata = {"namespace": NAMESPACE, "name": "extender-alone"}
    control_plane.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    for role in ("dovetail-scheduler-read", "dovetail-scheduler-allocate"):
        kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": role}}
        (subject,) = control_plane.api.get(kind)["subjects"]
        control_plane.api.patch(kind, {"subjects": [subject, {**subject, **metadata}]})
    alone = Caller.account(control_plane, "extender-alone")
    try:
        assert alone.matrix() == READS | ALLOCATES
    finally:
        alone.api.close()


@pytest.mark.parametrize("applied", ["allocate"], indirect=True)
def test_the_account_adds_to_these_what_any_kube_scheduler_may_and_a_lease(
    control_plane: ControlPlane, account: Caller
) -> None:
    default = Caller(control_plane.credentials("system:kube-scheduler"))
    try:
        assert account.matrix() == READS | ALLOCATES | default.matrix()
    finally:
        default.api.close()
    assert account.may("update", LEASES, "leases", NAMESPACE, ACCOUNT)
    assert not account.may("update", LEASES, "leases", NAMESPACE, "another")
    assert not account.may("update", LEASES, "leases", "kube-system", ACCOUNT)
