"""Extended resources that device classes serve: the special claim, where it is needed, and who uses its requests.

The tables are those of kube-scheduler 1.36 (extendeddynamicresources_test.go) and more of its kind; that the real
scheduler makes the same claims is shown in test_encode_cluster.py.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kube.extended import class_of_resource, special_claim, special_manifest, special_status
from kube.objects import DeviceClass, Pod, ResourceClaim
from kube.podresources import DEVICE_CLASS_PREFIX
from tests.kube.asking import GPU, OTHER, claim_of, device_class, exactly, refused, resolve, shelf
from tests.kube.builders import DRIVER, claim, decoded, machine_slices, node, result

R, S = "example.com/gpu", "example.com/other"
Asked = dict[str, str]


def container(name: str, asked: Asked, **fields: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": asked}, **fields}


def pod_of(containers: list[Asked], inits: list[tuple[Asked, bool]] | None = None, **status: Any) -> Pod:
    """Init containers are given with whether they are sidecars."""
    body = {
        "metadata": {"name": "pod-1", "namespace": "default", "uid": "uid-pod-1"},
        "spec": {
            "containers": [container(f"con{at}", asked) for at, asked in enumerate(containers)],
            "initContainers": [
                container(f"init{at}", asked, **({"restartPolicy": "Always"} if sidecar else {}))
                for at, (asked, sidecar) in enumerate(inits or [])
            ],
        },
        "status": status,
    }
    return decoded(body, Pod)


def requests_of(special: ResourceClaim) -> dict[str, tuple[str, int]]:
    found = {}
    for request in special.spec.devices.requests:
        assert request.exactly is not None
        found[request.name] = (request.exactly.device_class_name, request.exactly.count)
    return found


@pytest.mark.parametrize(
    ("containers", "inits", "requests", "mappings"),
    [
        pytest.param(
            [{R: "1", S: "2"}],
            [],
            {"container-0-request-0": ("r", 1), "container-0-request-1": ("s", 2)},
            [("con0", R, "container-0-request-0"), ("con0", S, "container-0-request-1")],
            id="two resources are numbered in the order of their names",
        ),
        pytest.param(
            [{"cpu": "1", R: "1", "memory": "1Gi"}],
            [],
            {"container-0-request-1": ("r", 1)},
            [("con0", R, "container-0-request-1")],
            id="cores and memory count in the number",
        ),
        pytest.param(
            [{R: "1"}, {"cpu": "1"}, {R: "2"}],
            [],
            {"container-0-request-0": ("r", 1), "container-2-request-0": ("r", 2)},
            [("con0", R, "container-0-request-0"), ("con2", R, "container-2-request-0")],
            id="T30: each container has a request of its own",
        ),
        pytest.param(
            [{"cpu": "1"}],
            [({R: "2"}, False)],
            {"container-0-request-0": ("r", 2)},
            [("init0", R, "container-0-request-0")],
            id="T25: an init container alone",
        ),
        pytest.param(
            [{R: "1"}],
            [({R: "2"}, False)],
            {"container-0-request-0": ("r", 1), "container-1-request-0": ("r", 1)},
            [
                ("con0", R, "container-1-request-0"),
                ("init0", R, "container-1-request-0"),
                ("init0", R, "container-0-request-0"),
            ],
            id="T25: an init container uses what the containers after it have, and asks for the rest",
        ),
        pytest.param(
            [{R: "3"}],
            [({R: "2"}, False)],
            {"container-1-request-0": ("r", 3)},
            [("con0", R, "container-1-request-0"), ("init0", R, "container-1-request-0")],
            id="T25: an init container that needs no more",
        ),
        pytest.param(
            [{R: "1"}],
            [({R: "2"}, False), ({R: "3"}, False), ({R: "2"}, False)],
            {"container-1-request-0": ("r", 2), "container-3-request-0": ("r", 1)},
            [
                ("con0", R, "container-3-request-0"),
                ("init0", R, "container-3-request-0"),
                ("init0", R, "container-1-request-0"),
                ("init1", R, "container-3-request-0"),
                ("init1", R, "container-1-request-0"),
                ("init2", R, "container-3-request-0"),
                ("init2", R, "container-1-request-0"),
            ],
            id="T25: init containers share what the largest needs",
        ),
        pytest.param(
            [{R: "1"}],
            [({R: "1"}, False), ({R: "1"}, True), ({R: "2"}, False)],
            {
                "container-1-request-0": ("r", 1),
                "container-2-request-0": ("r", 1),
                "container-3-request-0": ("r", 1),
            },
            [
                ("init1", R, "container-1-request-0"),
                ("con0", R, "container-3-request-0"),
                ("init0", R, "container-1-request-0"),
                ("init2", R, "container-3-request-0"),
                ("init2", R, "container-2-request-0"),
            ],
            id="T25: a sidecar lasts, so an init container after it cannot use its devices",
        ),
        pytest.param([{R: "0"}], [], {}, [], id="none"),
    ],
)
def test_requests_and_mappings(
    containers: list[Asked],
    inits: list[tuple[Asked, bool]],
    requests: dict[str, tuple[str, int]],
    mappings: list[tuple[str, str, str]],
):
    special, found = special_claim(pod_of(containers, inits), {R: "r", S: "s"})
    assert requests_of(special) == requests
    assert list(requests_of(special)) == sorted(requests)
    assert [(each.container_name, each.resource_name, each.request_name) for each in found] == mappings


def gpu_class(resource: str = "", name: str = DRIVER, **fields: Any) -> DeviceClass:
    return device_class(name, GPU, **({"extendedResourceName": resource} if resource else {}), **fields)


@pytest.mark.parametrize("resource", [R, DEVICE_CLASS_PREFIX + "gpus"])
def test_a_pod_that_asks_for_an_extended_resource(resource: str):
    around = shelf(classes=(gpu_class(R, "gpus"),))
    wanted = pod_of([{"cpu": "1", resource: "2"}])
    (way,) = resolve(around, wanted).ways
    (asked,) = way.ask.claims
    (request,) = asked.requests
    assert (request.alternatives[0].count, request.alternatives[0].selection.mask(around.pools()[0])) == (2, 0xFF)
    assert way.special is not None
    assert not way.special.exists
    manifest = special_manifest(wanted, way.special.claim)
    assert manifest["metadata"] == {
        "generateName": "pod-1-extended-resources-",
        "namespace": "default",
        "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "pod-1", "uid": "uid-pod-1", "controller": True}
        ],
    }
    made = decoded({**manifest, "metadata": {**manifest["metadata"], "name": "made"}}, ResourceClaim)
    assert made.spec == way.special.claim.spec
    assert made.metadata.controller == way.special.claim.metadata.controller
    assert special_status("made", way.special.mappings)["requestMappings"] == [
        {"containerName": "con0", "resourceName": resource, "requestName": request.name}
    ]


def test_a_limit_alone_is_a_request_too():
    body = {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {R: 1}}}]},
    }
    assert resolve(shelf(classes=(gpu_class(R),)), decoded(body, Pod)).ways[0].special is not None


@pytest.mark.parametrize("resource", ["cpu", "nvidia.com/unknown", "example.com/gpu-of-nobody", "hugepages-2Mi"])
def test_resources_that_no_class_serves_are_not_ours(resource: str):
    found = resolve(shelf(classes=(gpu_class(R),)), pod_of([{resource: "1"}]))
    assert not found.has_devices


def test_t25_ephemeral_containers_get_nothing():
    body = {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": [], "ephemeralContainers": [container("debug", {R: "1"})]},
    }
    assert not resolve(shelf(classes=(gpu_class(R),)), decoded(body, Pod)).has_devices


def test_a_class_of_a_driver_that_we_do_not_allocate_for_is_refused():
    nics = device_class("nics", driver=OTHER, extendedResourceName=R)
    assert f"needs driver {OTHER}" in refused(shelf(classes=(nics,)), pod_of([{R: "1"}])).text


class TestDevicePlugins:
    """A node whose device plugin offers the resource needs no claim for it."""

    @staticmethod
    def around(*classes: DeviceClass, **offers: dict[str, str]) -> Any:
        nodes = [node(name) for name in ("node-1", "node-2")]
        for at, each in enumerate(nodes):
            extra = offers.get(each.metadata.name.replace("-", ""), {})
            status = msgspec.structs.replace(each.status, allocatable={**each.status.allocatable, **extra})
            nodes[at] = msgspec.structs.replace(each, status=status)
        return shelf(classes=classes or (gpu_class(R), gpu_class(S, "other")), nodes=nodes)

    def test_no_claim_where_it_is_offered(self):
        found = resolve(self.around(node2={R: "8"}), pod_of([{R: "2"}]))
        assert [(way.ask.nodes, len(way.claims)) for way in found.ways] == [({"node-1"}, 1), ({"node-2"}, 0)]

    def test_none_of_it_is_no_offer(self):
        (way,) = resolve(self.around(node2={R: "0"}), pod_of([{R: "2"}])).ways
        assert (way.ask.nodes, len(way.claims)) == (None, 1)

    def test_each_resource_for_itself(self):
        found = resolve(self.around(node1={S: "1"}, node2={R: "8"}), pod_of([{R: "2", S: "1"}]))
        asked = {tuple(way.ask.nodes or ()): list(requests_of(way.claims[0].claim)) for way in found.ways}
        assert asked == {("node-1",): ["container-0-request-0"], ("node-2",): ["container-0-request-1"]}

    def test_a_class_that_we_cannot_serve_leaves_the_plugins_nodes(self):
        nics = device_class("nics", driver=OTHER, extendedResourceName=R)
        (way,) = resolve(self.around(nics, node2={R: "8"}), pod_of([{R: "1"}])).ways
        assert (way.ask.nodes, way.special) == ({"node-2"}, None)


class TestExisting:
    """The special claim that an earlier attempt made is used again, if it asks for the right thing."""

    @staticmethod
    def made(name: str = "made", uid: str = "uid-pod-1", count: int = 2, **status: Any) -> ResourceClaim:
        wanted = pod_of([{R: "2"}])
        special, _ = special_claim(wanted, {R: DRIVER})
        manifest = special_manifest(wanted, special)
        manifest["metadata"] |= {"name": name, "uid": f"uid-{name}"}
        manifest["metadata"]["ownerReferences"][0]["uid"] = uid
        manifest["spec"]["devices"]["requests"][0]["exactly"]["count"] = count
        return decoded({**manifest, "status": status}, ResourceClaim)

    @staticmethod
    def way(*claims: ResourceClaim, **status: Any) -> Any:
        (way,) = resolve(shelf(*claims, classes=(gpu_class(R),)), pod_of([{R: "2"}], **status)).ways
        return way

    def test_it_is_allocated(self):
        way = self.way(self.made())
        assert way.special.exists
        assert [each.ask.uid for each in way.claims] == ["uid-made"]

    def test_it_ties_the_pod_once_it_is_allocated(self):
        allocation = msgspec.to_builtins(claim("x", [result("gpu-0")], on="node-7").status.allocation, enc_hook=dict)
        way = self.way(self.made(allocation=allocation))
        assert (way.special.exists, way.claims, way.ask.nodes) == (True, (), {"node-7"})

    def test_the_one_that_the_status_names(self):
        claims = [self.made("a"), self.made("b")]
        assert self.way(*claims).special.claim.metadata.name == "a"
        status = {"resourceClaimName": "b", "requestMappings": []}
        assert self.way(*claims, extendedResourceClaimStatus=status).special.claim.metadata.name == "b"

    def test_of_another_pod(self):
        assert not self.way(self.made(uid="uid-other")).special.exists

    def test_t26_one_that_asks_for_something_else_is_not_believed(self):
        around = shelf(self.made(count=1), classes=(gpu_class(R),))
        refusal = refused(around, pod_of([{R: "2"}]))
        assert "default/made does not ask for what the pod asks" in refusal.text


def test_of_two_classes_for_a_resource_the_newest_counts_then_the_first_by_name():
    def of(name: str, created: str) -> DeviceClass:
        metadata = {"name": name, "creationTimestamp": created}
        return decoded({"metadata": metadata, "spec": {"extendedResourceName": R}}, DeviceClass)

    old, new, other = of("a", "2025-01-01T00:00:00Z"), of("c", "2026-01-01T00:00:00Z"), of("b", "2026-01-01T00:00:00Z")
    for order in ([old, new, other], [other, new, old], [new, old, other]):
        found = class_of_resource(order)
        assert found[R].metadata.name == "b"
        assert found[DEVICE_CLASS_PREFIX + "a"].metadata.name == "a"


def test_special_claims_come_after_the_pods_own():
    body = {
        "metadata": {"name": "pod-1", "namespace": "default", "uid": "u"},
        "spec": {
            "containers": [container("main", {R: "1"})],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "claim-1"}],
        },
    }
    around = shelf(claim_of([exactly()]), classes=(gpu_class(R),), slices=machine_slices("hgx-h100-8"))
    (way,) = resolve(around, decoded(body, Pod)).ways
    assert [each.name for each in way.ask.claims] == ["default/claim-1", "default/(extended resources)"]
