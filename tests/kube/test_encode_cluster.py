"""The same devices, encoded by us and written by the in-tree scheduler, make the same allocation; so do special claims.

A real kube-scheduler allocates claims of many shapes on simulated slices. What it wrote is decoded, its devices are
encoded anew from the claim and its classes, and both must agree. Then the other way round: the API server stores what
we encode unchanged, and the in-tree scheduler lets another pod join it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from kube.allocated import given_to
from kube.claims import Claims
from kube.encode import encode_allocation
from kube.extended import special_manifest, special_status
from kube.objects import DeviceClass, Namespace, Node, Pod, ResourceClaim, ResourceSlice
from kube.quantity import parse_quantity
from kube.refusal import Refusal
from kube.resolved import Resolved
from packing.dra.model import DeviceId, Given
from packing.model import NodeName
from sandbox import objects
from sandbox.testbed import Testbed
from tests.kube.builders import decoded
from tests.kube.shelf import Shelf

Json = dict[str, Any]

GPU, NET = "gpu.example.com", "net.example.com"
NODE = "dense-1"
ADMIN = {"resource.kubernetes.io/admin-access": "true"}
ROOT = "resource.kubernetes.io/pcieRoot"
DEFAULTS = {"operator": "Equal"}


def device(name: str, kind: str, root: str = "", **fields: Any) -> Json:
    attributes = {"kind": {"string": kind}} | ({ROOT: {"string": root}} if root else {})
    return {"name": name, "attributes": attributes, **fields}


def resource_slice(name: str, driver: str, devices: list[Json], **where: Any) -> Json:
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    return {
        "apiVersion": objects.RESOURCE_API,
        "kind": "ResourceSlice",
        "metadata": {"name": f"{name}-{driver}"},
        "spec": {"driver": driver, "pool": pool, "devices": devices, **where},
    }


def selecting(**labels: str) -> Json:
    terms = [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()]
    return {"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": terms}]}}


def inventory() -> list[Json]:
    policy = {"default": "1Gi", "validRange": {"min": "1Gi", "max": "80Gi", "step": "1Gi"}}
    values = {"default": "10", "validValues": ["10", "50", "100"]}
    share = {
        "allowMultipleAllocations": True,
        "capacity": {
            "memory": {"value": "80Gi", "requestPolicy": policy},
            "percent": {"value": "100", "requestPolicy": values},
            "slots": {"value": "7500m"},
        },
    }
    taint = {"taints": [{"key": "kept", "value": "off", "effect": "NoSchedule"}]}
    return [
        resource_slice(
            "local",
            GPU,
            [*(device(f"gpu-{at}", "gpu", f"pci{at // 2}") for at in range(8)), device("kept-0", "kept", **taint)],
            nodeName=NODE,
        ),
        resource_slice("shares", GPU, [device("share-0", "share", **share)], nodeName=NODE),
        resource_slice(
            "zone", NET, [device("zonal-0", "zonal"), device("tied-0", "tied", bindsToNode=True)], **selecting(zone="a")
        ),
        resource_slice("rack", NET, [device("racked-0", "racked")], **selecting(zone="a", rack="r")),
        resource_slice("all", NET, [device("free-0", "free")], allNodes=True),
        resource_slice(
            "each",
            NET,
            [
                device("own-0", "own", nodeName=NODE),
                device("some-0", "some", **selecting(rack="r")),
                device("any-0", "any", allNodes=True),
            ],
            perDeviceNodeSelection=True,
        ),
        resource_slice("cards", NET, [device(f"nic-{at}", "nic", f"pci{at}") for at in range(4)], nodeName=NODE),
    ]


def kind_class(kind: str, driver: str, **spec: Any) -> Json:
    made = objects.device_class(kind, driver, f'device.attributes["{driver}"].kind == "{kind}"')
    made["spec"] |= spec
    return made


def opaque(of: str, driver: str = GPU) -> Json:
    return {"opaque": {"driver": driver, "parameters": {"of": of, "list": [1, {"a": None}], "number": 1.5}}}


def classes() -> list[Json]:
    found = [kind_class(kind, GPU) for kind in ("kept", "share")]
    found += [kind_class(kind, NET) for kind in ("zonal", "tied", "racked", "free", "own", "some", "any", "nic")]
    found.append(kind_class("gpu", GPU, config=[opaque("class, first"), opaque("class, second")]))
    alias = kind_class("gpu", GPU, config=[opaque("alias")], extendedResourceName="example.com/gpu")
    alias["metadata"]["name"] = "alias"
    return [*found, alias]


def exactly(name: str, kind: str, **fields: Any) -> Json:
    return {"name": name, "exactly": {"deviceClassName": kind, **fields}}


def sub(name: str, kind: str, **fields: Any) -> Json:
    return {"name": name, "deviceClassName": kind, **fields}


TOLERATIONS = [
    {"key": "kept", "operator": "Equal", "value": "off", "effect": "NoSchedule"},
    {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
]
MEMORY = {"capacity": {"requests": {"memory": "2500Mi", "percent": "20", "slots": "1500m"}}}

SHAPES: dict[str, Json] = {
    "one": {"requests": [exactly("gpu", "gpu")]},
    "several": {
        "requests": [exactly("a", "gpu", count=2), exactly("b", "nic"), exactly("c", "alias"), exactly("d", "gpu")],
        "config": [
            opaque("all"),
            {"requests": ["a", "b"], **opaque("two")},
            {"requests": ["b"], **opaque("one", NET)},
        ],
    },
    "together": {
        "requests": [exactly("gpu", "gpu", count=2), exactly("nic", "nic")],
        "constraints": [{"matchAttribute": ROOT}],
    },
    "apart": {
        "requests": [exactly("a", "nic"), exactly("b", "nic")],
        "constraints": [{"distinctAttribute": ROOT}],
    },
    "second alternative": {
        "requests": [
            {
                "name": "any",
                "firstAvailable": [
                    sub("many", "gpu", count=9),
                    sub("few", "alias", count=2, tolerations=TOLERATIONS[1:]),
                ],
            },
            exactly("free", "gpu"),
        ],
        "config": [
            {"requests": ["any/many"], **opaque("not chosen")},
            {"requests": ["any/few", "free"], **opaque("chosen")},
            {"requests": ["any"], **opaque("either")},
        ],
    },
    "every": {"requests": [exactly("all", "nic", allocationMode="All")]},
    "tolerated": {"requests": [exactly("kept", "kept", tolerations=TOLERATIONS)]},
    "watching": {"requests": [exactly("all", "gpu", allocationMode="All", adminAccess=True)]},
    "a share": {"requests": [exactly("share", "share", **MEMORY)]},
    "a share as it comes": {"requests": [exactly("share", "share", capacity={"requests": {"slots": "1"}})]},
    "zonal": {"requests": [exactly("net", "zonal")]},
    "zonal and racked": {"requests": [exactly("r", "racked"), exactly("z", "zonal")]},
    "everywhere": {"requests": [exactly("net", "free")]},
    "tied": {"requests": [exactly("net", "tied")]},
    "own": {"requests": [exactly("net", "own")]},
    "some": {"requests": [exactly("net", "some"), exactly("any", "any")]},
    "any": {"requests": [exactly("any", "any")]},
    "zonal and local": {"requests": [exactly("z", "zonal"), exactly("g", "gpu")]},
}


class Bed:
    """A node with all kinds of devices, and the state of the cluster as we see it."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.api = testbed.api
        self.namespace = testbed.namespace
        self.api.patch(objects.namespace(self.namespace), {"metadata": {"labels": ADMIN}})
        testbed.add_nodes(objects.node(NODE, labels={"zone": "a", "rack": "r"}))
        testbed.create(*inventory(), *classes())

    def around(self) -> Shelf:
        def stored(kind: str, api: str = objects.RESOURCE_API, *of: str) -> Iterable[Json]:
            return self.api.list(api, kind, *of)

        return Shelf(
            [decoded(each, ResourceSlice) for each in stored("ResourceSlice")],
            [decoded(each, ResourceClaim) for each in stored("ResourceClaim", objects.RESOURCE_API, self.namespace)],
            [decoded(each, DeviceClass) for each in stored("DeviceClass")],
            [decoded(each, Namespace) for each in stored("Namespace", "v1")],
            [decoded(each, Node) for each in stored("Node", "v1")],
            drivers=[GPU, NET],
        )

    def claim(self, spec: Json, name: str = "claim") -> Json:
        body = {
            "apiVersion": objects.RESOURCE_API,
            "kind": "ResourceClaim",
            "metadata": {"namespace": self.namespace, "name": name},
            "spec": {"devices": spec},
        }
        return self.testbed.create(body)[0]

    def resolve(self, around: Shelf, pod: Json) -> Resolved:
        return Claims().resolve(decoded(pod, Pod), around)

    def encode(self, around: Shelf, resolved: Resolved, given: Iterable[Given], **more: Any) -> Json:
        (wanted,) = resolved.ways[0].claims
        return encode_allocation(
            wanted, tuple(given), NodeName(NODE), around.whereabouts, new_share_id=lambda: str(uuid.uuid4()), **more
        )


@pytest.fixture
def bed(testbed: Testbed) -> Bed:
    return Bed(testbed)


def alike(allocation: Json) -> Json:
    """Return an allocation without what differs each time, and amounts in place of their spelling."""
    results = [
        {
            **each,
            **({"shareID": "some"} if "shareID" in each else {}),
            **({"consumedCapacity": amounts(each["consumedCapacity"])} if "consumedCapacity" in each else {}),
        }
        for each in allocation["devices"]["results"]
    ]
    rest = {key: value for key, value in allocation.items() if key != "allocationTimestamp"}
    return {**rest, "devices": {**allocation["devices"], "results": results}}


def amounts(quantities: dict[str, str]) -> dict[str, int]:
    return {name: parse_quantity(text) for name, text in quantities.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_in_tree_scheduler_writes_what_we_encode(bed: Bed, shape: str):
    claim = bed.claim(SHAPES[shape])
    pod = objects.pod(bed.namespace, "pod", claim="claim")
    around = bed.around()
    resolved = bed.resolve(around, bed.testbed.create(pod)[0])
    written = bed.api.wait(claim, lambda stored: "allocation" in stored.get("status", {}))
    allocation = written["status"]["allocation"]
    given = given_to(decoded(written, ResourceClaim))
    assert alike(bed.encode(around, resolved, given)) == alike(allocation)


def test_an_extended_resource_makes_the_claim_that_the_in_tree_scheduler_makes(bed: Bed):
    resource = "example.com/gpu"

    def container(name: str, count: int, **fields: Any) -> Json:
        resources = {"limits": {resource: str(count), "cpu": "1"}}
        return {"name": name, "image": objects.IMAGE, "imagePullPolicy": "Never", "resources": resources, **fields}

    pod = objects.pod(
        bed.namespace,
        "pod",
        containers=[container("one", 1), container("two", 2)],
        initContainers=[
            container("before", 1),
            container("beside", 1, restartPolicy="Always"),
            container("most", 5),
            container("last", 4),
        ],
    )
    around = bed.around()
    stored = bed.testbed.create(pod)[0]
    resolved = bed.resolve(around, stored)
    made = bed.api.wait(pod, lambda found: "extendedResourceClaimStatus" in found["status"])
    status = made["status"]["extendedResourceClaimStatus"]
    claim = {"apiVersion": objects.RESOURCE_API, "kind": "ResourceClaim"}
    claim = bed.api.get({**claim, "metadata": {"namespace": bed.namespace, "name": status["resourceClaimName"]}})
    special = resolved.ways[0].special
    assert special is not None
    ours = special_manifest(decoded(stored, Pod), special.claim)
    assert ours["spec"] == claim["spec"]
    for field in ("generateName", "namespace", "annotations", "ownerReferences"):
        assert ours["metadata"][field] == claim["metadata"][field]
    assert special_status(status["resourceClaimName"], special.mappings) == status
    given = given_to(decoded(claim, ResourceClaim))
    assert alike(bed.encode(around, resolved, given)) == alike(claim["status"]["allocation"])


SHARED = (
    Given("a", DeviceId(GPU, "local", "gpu-7")),
    Given("b", DeviceId(GPU, "shares", "share-0"), consumed={"memory": parse_quantity("3Gi")}),
)


def test_what_we_write_is_stored_unchanged_and_may_be_joined(bed: Bed):
    """Without allocationTimestamp, a pod of the in-tree scheduler could never join (contracts 2.6)."""
    claim = bed.claim(
        {"requests": [exactly("a", "gpu"), exactly("b", "share", tolerations=TOLERATIONS)], "config": [opaque("x")]}
    )
    around = bed.around()
    resolved = bed.resolve(around, {**objects.pod(bed.namespace, "pod", claim="claim")})
    ours = bed.encode(around, resolved, SHARED, now=datetime.now(UTC))
    claim["metadata"]["finalizers"] = ["resource.kubernetes.io/delete-protection"]
    claim = bed.api.replace(claim)
    claim["status"] = {"allocation": ours}
    written = bed.api.replace(claim, subresource="status")
    assert written["status"]["allocation"] == ours
    running = bed.testbed.run(objects.pod(bed.namespace, "joins", claim="claim"))
    assert running["spec"]["nodeName"] == NODE
    assert bed.api.get(claim)["status"]["allocation"] == ours


def test_the_api_server_takes_negative_capacity_requests(bed: Bed):
    """Hence we refuse them: consumed as asked, they would make room for others on a device that is full."""
    claim = bed.claim({"requests": [exactly("share", "share", capacity={"requests": {"slots": "-5"}})]})
    with pytest.raises(Refusal, match="capacity slots is negative"):
        bed.resolve(bed.around(), objects.pod(bed.namespace, "pod", claim=claim["metadata"]["name"]))
