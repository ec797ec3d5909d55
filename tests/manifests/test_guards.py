"""T39: neither a label on one's own namespace nor a static pod is a way to devices, on a real API server.

The driver's manifests guard the label; without them the same test must fail. Static pods the API server guards itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from dovetail.shipped import shipped
from sandbox import kustomize, objects
from sandbox.api import Api, ApiFault
from sandbox.objects import Manifest
from sandbox.pytest_plugin import had_or_skipped
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for

pytestmark = pytest.mark.cluster

LABEL = "resource.kubernetes.io/admin-access"
LABELLED = {"metadata": {"labels": {LABEL: "true"}}}
MIRROR = {"kubernetes.io/config.mirror": "0123456789abcdef"}
TENANT = "tenant"


@pytest.fixture(scope="module")
def guards() -> list[Manifest]:
    rendered = had_or_skipped(lambda: kustomize.render(shipped("manifests", "driver", "base")))
    return [each for each in rendered if each["metadata"]["name"] == "dovetail-admin-access"]


@pytest.fixture
def tenant(testbed: Testbed) -> Iterator[Api]:
    """Somebody who may change any namespace and make pods, and administers no devices."""
    rights = [
        {"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]},
    ]
    role: Manifest = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    role |= {"metadata": {"name": TENANT}, "rules": rights}
    binding: Manifest = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
    binding |= {"metadata": {"name": TENANT}, "subjects": [{"kind": "User", "name": TENANT}]}
    binding |= {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": TENANT}}
    testbed.create(role, binding)
    api = Api(testbed.control_plane.credentials(TENANT))
    wait_for("the tenant's rights", lambda: _may(api, testbed) or NotYet("403"))
    yield api
    api.close()
    for each in (binding, role):
        testbed.api.delete(each)


def _may(api: Api, testbed: Testbed) -> bool:
    with suppress(ApiFault):
        api.patch(objects.namespace(testbed.namespace), {})
        return True
    return False


@contextmanager
def in_force(testbed: Testbed, tenant: Api, guards: list[Manifest]) -> Iterator[None]:
    """Apply the policy and wait for it, and for its end: the API server takes both in its own time."""
    kubeconfig = testbed.control_plane.kubeconfig
    try:
        kustomize.apply(kubeconfig, guards)
        wait_for("the policy", lambda: _label_is_refused(testbed, tenant) or NotYet("it was set"))
        yield
    finally:
        kustomize.delete(kubeconfig, guards)
        wait_for("the policy's end", lambda: NotYet("refused") if _label_is_refused(testbed, tenant) else True)


def _label_is_refused(testbed: Testbed, tenant: Api) -> bool:
    mine = objects.namespace(testbed.namespace)
    try:
        tenant.patch(mine, LABELLED)
    except ApiFault as fault:
        return fault.status == 403
    testbed.api.patch(mine, {"metadata": {"labels": {LABEL: None}}})
    return False


def label_by_a_tenant(testbed: Testbed, tenant: Api) -> None:
    """Through whichever subresource, at the start or later (k/k #141293)."""
    mine = objects.namespace(testbed.namespace)
    for subresource in (None, "status", "finalize"):
        stored = tenant.get(mine)
        labelled = {**stored["metadata"]["labels"], LABEL: "true"}
        with pytest.raises(ApiFault, match="403"):
            tenant.replace({**stored, "metadata": {**stored["metadata"], "labels": labelled}}, subresource=subresource)
    new = objects.namespace(f"{testbed.namespace}-new")
    new["metadata"] |= LABELLED["metadata"]
    try:
        with pytest.raises(ApiFault, match="403"):
            tenant.create(new)
    finally:
        testbed.api.delete(new)


def test_t39_nobody_administers_devices_by_a_label(testbed: Testbed, tenant: Api, guards: list[Manifest]) -> None:
    with in_force(testbed, tenant, guards):
        label_by_a_tenant(testbed, tenant)


def test_t39_is_found_when_it_is_planted(testbed: Testbed, tenant: Api) -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        label_by_a_tenant(testbed, tenant)


def test_t39_static_pods_have_no_claims(testbed: Testbed, tenant: Api) -> None:
    """CVE-2025-4563, closed in the API server, whoever makes the pod; the same pod without a claim is fine."""
    for api in (tenant, testbed.api):
        with pytest.raises(ApiFault, match="static pods do not support resource claims"):
            api.create(static(testbed.namespace, "one"))
        api.create(static(testbed.namespace, None))
        api.delete(static(testbed.namespace, None), grace_s=0)


def static(namespace: str, claim: str | None) -> Manifest:
    """Return the mirror pod of a static one."""
    pod = objects.pod(namespace, "static", claim=claim, nodeName="its-node")
    pod["metadata"]["annotations"] = MIRROR
    return pod


def test_administrators_label_and_tenants_go_on(testbed: Testbed, tenant: Api, guards: list[Manifest]) -> None:
    """They change what is labelled, and take the label away."""
    mine = objects.namespace(testbed.namespace)
    with in_force(testbed, tenant, guards):
        testbed.api.patch(mine, LABELLED)
        changed = tenant.patch(mine, {"metadata": {"labels": {"team": "x"}}})
        assert changed["metadata"]["labels"][LABEL] == "true"
        assert LABEL not in tenant.patch(mine, {"metadata": {"labels": {LABEL: None}}})["metadata"]["labels"]
