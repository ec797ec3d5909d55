"""Pods and their claims become asks, or are refused with a reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kube.objects import Namespace, Pod, ResourceClaim
from packing.dra.model import NANO, Toleration
from tests.kube.asking import claim_of, exactly, refused, resolve, shelf
from tests.kube.builders import DRIVER, claim, decoded, pod, result


def test_a_claim_for_one_device_of_a_class():
    around = shelf(claim())
    found = resolve(around)
    (asked,) = found.ask.claims
    assert (asked.uid, asked.name) == ("uid-claim-1", "default/claim-1")
    (request,) = asked.requests
    (only,) = request.alternatives
    assert (request.name, only.name, only.count, only.all_devices, only.admin) == ("gpu", "gpu", 1, False, False)
    (pool,) = around.pools()
    assert [pool.shape.devices[at].name for at in range(8) if only.selection.mask(pool) >> at & 1] == [
        each.name for each in pool.shape.devices
    ]
    assert (found.ask.cpu_milli, found.ask.memory_mib, found.ask.nodes) == (1000, 1024, None)
    assert found.has_devices


def test_a_pod_without_claims_asks_for_no_device():
    found = resolve(shelf(), pod())
    assert found.ask.claims == ()
    assert not found.has_devices


def test_what_a_request_may_say():
    around = shelf(
        claim_of(
            [
                exactly(
                    "a",
                    count=2,
                    tolerations=[{"key": "k", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}],
                    capacity={"requests": {"memory": "10Gi", "computeMilli": 250}},
                ),
                exactly("b", allocationMode="All"),
                {
                    "name": "c",
                    "firstAvailable": [
                        {"name": "x", "deviceClassName": DRIVER},
                        {"name": "y", "deviceClassName": DRIVER, "count": 3},
                    ],
                },
            ],
            constraints=[
                {"requests": ["a", "c/x"], "matchAttribute": "resource.kubernetes.io/pcieRoot"},
                {"distinctAttribute": f"{DRIVER}/index"},
            ],
        )
    )
    (asked,) = resolve(around).ask.claims
    a, b, c = asked.requests
    assert a.alternatives[0].count == 2
    assert a.alternatives[0].tolerations == (Toleration("k", True, "", "NoSchedule", 5),)
    assert a.alternatives[0].capacity == {"memory": 10 * 2**30 * NANO, "computeMilli": 250 * NANO}
    assert b.alternatives[0].all_devices
    assert [(each.name, each.count) for each in c.alternatives] == [("c/x", 1), ("c/y", 3)]
    match, distinct = asked.constraints
    assert (match.attribute, match.distinct) == ("resource.kubernetes.io/pcieRoot", False)
    assert [match.covers(name) for name in ("a", "b", "c/x", "c/y")] == [True, False, True, False]
    assert (distinct.distinct, distinct.requests) == (True, frozenset())


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ([], "claim default/claim-1 does not exist"),
        ([exactly("gpu", "fast")], "claim default/claim-1, request gpu: device class fast does not exist"),
        ([exactly(count=33)], "claim default/claim-1 asks for more than 32 devices"),
        ([exactly("a", count=30), exactly("b", count=3)], "claim default/claim-1 asks for more than 32 devices"),
        ([exactly(adminAccess=True)], "asks for adminAccess in a namespace without the label"),
        ([exactly(allocationMode="Some")], "allocation mode Some is one that this version"),
        ([{"name": "gpu"}], "request gpu is of a type that this version"),
        ([exactly(derivedAttributes=[{"name": "a.b/c", "expression": "1"}])], "derivedAttributes is a field that this"),
        ([exactly(capacity={"requests": {"memory": "-1Gi"}})], "request gpu: capacity memory is negative"),
        ([exactly(count=0)], "claim default/claim-1, request gpu: count is 0"),
        ([exactly("a"), exactly("a")], "claim default/claim-1: request a is there 2 times"),
        ([{"name": "a", "exactly": {"deviceClassName": DRIVER, "selectors": [{}]}}], "selector 0 is of a type that"),
    ],
)
def test_refusals(claims: list[dict[str, Any]], text: str):
    around = shelf(*([claim_of(claims)] if claims else []))
    refusal = refused(around, pod(claims=["claim-1"]))
    assert text in refusal.text
    assert refusal.remedy
    assert refusal.detail.startswith(refusal.text)


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        (
            {"constraints": [{"requests": ["b"], "matchAttribute": "a.b/c"}]},
            "constraint 0 is for request b, which is not",
        ),
        ({"config": [{"requests": ["gpu/x"]}]}, "config 0 is for request gpu/x, which is not there"),
        ({"config": [{}]}, "config 0 is of a type that this version"),
        ({"constraints": [{}]}, "constraint 0 is of a type that this version"),
        ({"constraints": [{"matchAttribute": "numa"}]}, "constraint 0: attribute numa has no domain"),
    ],
)
def test_refusals_of_constraints_and_configuration(devices: dict[str, Any], text: str):
    assert text in refused(shelf(claim_of([exactly()], **devices))).text


def test_t25_a_claim_that_an_init_container_alone_uses():
    """HAMi #2640: a GPU of an init container alone was not seen. The pod's list counts, whoever uses its claims."""
    body = {
        "metadata": {"name": "pod-1", "namespace": "default", "uid": "u"},
        "spec": {
            "containers": [{"name": "main"}],
            "initContainers": [{"name": "init", "resources": {"claims": [{"name": "gpu"}]}}],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "claim-1"}],
        },
    }
    assert len(resolve(shelf(claim()), decoded(body, Pod)).ask.claims) == 1


def test_alternatives_count_by_the_smallest():
    request = {
        "name": "gpu",
        "firstAvailable": [
            {"name": "many", "deviceClassName": DRIVER, "count": 40},
            {"name": "few", "deviceClassName": DRIVER, "count": 2},
        ],
    }
    assert len(resolve(shelf(claim_of([request]))).ask.claims[0].requests[0].alternatives) == 2


def test_admin_access_needs_the_label_of_the_namespace():
    def labelled(value: str) -> Namespace:
        labels = {"resource.kubernetes.io/admin-access": value}
        return decoded({"metadata": {"name": "default", "labels": labels}}, Namespace)

    wanted = claim_of([exactly(adminAccess=True, allocationMode="All")])
    assert resolve(shelf(wanted, namespaces=[labelled("true")])).ask.claims[0].requests[0].alternatives[0].admin
    assert "adminAccess" in refused(shelf(wanted, namespaces=[labelled("yes")])).text


def test_a_claim_being_deleted_is_not_used():
    gone = claim_of([exactly()])
    gone = msgspec.structs.replace(
        gone, metadata=msgspec.structs.replace(gone.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    )
    assert refused(shelf(gone)).text == "claim default/claim-1 is being deleted"


class TestTemplates:
    @staticmethod
    def pod_of(statuses: list[dict[str, Any]]) -> Pod:
        body = {
            "metadata": {"name": "pod-1", "namespace": "default", "uid": "uid-pod-1"},
            "spec": {"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": statuses},
        }
        return decoded(body, Pod)

    @staticmethod
    def owned(uid: str, kind: str = "Pod", *, controller: bool = True) -> ResourceClaim:
        owner = {"apiVersion": "v1", "kind": kind, "name": "pod-1", "uid": uid, "controller": controller}
        metadata = {"name": "pod-1-gpu-abc", "namespace": "default", "uid": "u", "ownerReferences": [owner]}
        return decoded({"metadata": metadata, "spec": {"devices": {"requests": [exactly()]}}}, ResourceClaim)

    MADE = ({"name": "gpu", "resourceClaimName": "pod-1-gpu-abc"},)

    def test_the_status_names_the_claim(self):
        assert (
            resolve(shelf(self.owned("uid-pod-1")), self.pod_of([*self.MADE])).ask.claims[0].name
            == "default/pod-1-gpu-abc"
        )

    def test_an_entry_without_a_name_needs_no_claim(self):
        assert resolve(shelf(), self.pod_of([{"name": "gpu"}])).ask.claims == ()

    def test_not_made_yet(self):
        assert refused(shelf(), self.pod_of([])).text == "claim gpu of the pod is not made yet"

    @pytest.mark.parametrize(
        "claim", [owned("uid-other"), owned("uid-pod-1", "Job"), owned("uid-pod-1", controller=False), owned("")]
    )
    def test_a_claim_that_the_pod_does_not_control_is_refused(self, claim: ResourceClaim):
        assert "was not made for this pod" in refused(shelf(claim), self.pod_of([*self.MADE])).text


class TestJoined:
    def test_an_allocated_claim_ties_the_pod_to_its_node(self):
        around = shelf(claim("a", [result("gpu-0")], on="node-7"), claim("b"))
        found = resolve(around)
        assert found.ask.nodes == {"node-7"}
        assert [each.name for each in found.ask.claims] == ["default/b"]
        (joined,) = found.joined
        assert (joined.claim.metadata.name, joined.reserved) == ("a", False)

    def test_claims_on_two_nodes_leave_none(self):
        around = shelf(claim("a", [result("gpu-0")], on="node-1"), claim("b", [result("gpu-0")], on="node-2"))
        assert resolve(around).ask.nodes == frozenset()

    def test_a_pod_that_is_reserved_already(self):
        around = shelf(claim("a", [result("gpu-0")], reserved_for=["pod-1"]))
        assert resolve(around, pod(claims=["a"])).joined[0].reserved

    @pytest.mark.parametrize(("others", "joins"), [(255, True), (256, False)])
    def test_256_pods_at_the_most(self, others: int, joins: bool):
        around = shelf(claim("a", [result("gpu-0")], reserved_for=[f"other-{at}" for at in range(others)]))
        if joins:
            assert not resolve(around).joined[0].reserved
        else:
            assert refused(around).text == "claim default/a is used by 256 pods, no more can"

    def test_binding_conditions_are_not_waited_for(self):
        around = shelf(claim("a", [result("gpu-0", bindingConditions=["ready"])]))
        assert "binding conditions, for which Dovetail does not wait" in refused(around).text

    def test_no_selector_is_every_node(self):
        allocated = claim("a", [result("gpu-0")])
        anywhere = msgspec.structs.replace(allocated.status.allocation, node_selector=None)
        status = msgspec.structs.replace(allocated.status, allocation=anywhere)
        assert resolve(shelf(msgspec.structs.replace(allocated, status=status))).ask.nodes is None


def test_t26_annotations_and_labels_are_never_authoritative():
    """HAMi #3041: a user who wrote a device's UUID into an annotation got it."""
    wanted = claim()
    forged = {"gpu.dovetail.dev/devices": "gpu-7", "resource.kubernetes.io/extended-resource-claim": "true"}
    metadata = msgspec.structs.replace(wanted.metadata, annotations=forged, labels=forged)
    annotated = msgspec.structs.replace(wanted, metadata=metadata)
    plain, other = resolve(shelf(wanted)), resolve(shelf(annotated))
    assert plain.ask.signature == other.ask.signature
    assert [way.special for way in other.ways] == [None]
    body = {
        "metadata": {"name": "pod-1", "namespace": "default", "uid": "uid-pod-1", "annotations": forged},
        "spec": {"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimName": "claim-1"}]},
    }
    unannotated = {**body, "metadata": {**body["metadata"], "annotations": {}}}
    signatures = {resolve(shelf(wanted), decoded(each, Pod)).ask.signature for each in (body, unannotated)}
    assert len(signatures) == 1


def test_t30_each_request_of_a_claim_keeps_its_own_name():
    """HAMi #2380: the second container read what the first was given."""
    around = shelf(claim_of([exactly("a"), exactly("b", count=2)]))
    names = [request.alternatives[0].name for request in resolve(around).ask.claims[0].requests]
    assert names == ["a", "b"]


def test_a_claim_named_twice_by_a_pod_is_one():
    assert len(resolve(shelf(claim()), pod(claims=["claim-1", "claim-1"])).ask.claims) == 1
