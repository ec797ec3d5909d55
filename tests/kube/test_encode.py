"""Devices given to a claim become its `status.allocation`; what an allocation holds is read back."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from kube.allocated import given_to
from kube.encode import FROM_CLAIM, FROM_CLASS, GoneDeviceError, encode_allocation
from kube.objects import DeviceClass, ResourceClaim, ResourceSlice
from kube.resolved import ToAllocate
from packing.dra.model import NANO, Amount, DeviceId, Given
from packing.model import NodeName
from tests.kube.asking import claim_of, exactly, resolve
from tests.kube.builders import DRIVER, claim, decoded, device, result, slice_of
from tests.kube.shelf import Shelf

HERE = DeviceId(DRIVER, "here", "gpu-0")
ZONE = [{"key": "zone", "operator": "In", "values": ["a"]}]
RACK = [{"key": "rack", "operator": "Exists"}]


def selecting(*expressions: dict[str, Any]) -> dict[str, Any]:
    return {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}


def slices() -> list[ResourceSlice]:
    return [
        slice_of("here", [device("gpu-0"), device("gpu-1")], pool="here"),
        slice_of(
            "zone", [device("net-0"), device("net-1", bindsToNode=True)], pool="zone", nodeSelector=selecting(*ZONE)
        ),
        slice_of("rack", [device("net-0")], pool="rack", nodeSelector=selecting(*RACK, *ZONE)),
        slice_of("all", [device("lic-0")], pool="all", allNodes=True),
        slice_of(
            "each",
            [device("a", nodeName="node-2"), device("b", nodeSelector=selecting(*RACK)), device("c", allNodes=True)],
            pool="each",
            perDeviceNodeSelection=True,
        ),
    ]


def classes(*names: str) -> list[DeviceClass]:
    configs = [{"opaque": {"driver": DRIVER, "parameters": {"of": name, "n": None}}} for name in names]
    return [
        decoded({"metadata": {"name": name}, "spec": {"config": [config] * 2}}, DeviceClass)
        for name, config in zip(names, configs, strict=True)
    ] + [decoded({"metadata": {"name": DRIVER}}, DeviceClass)]


def encoded(wanted: ResourceClaim, *given: Given, now: datetime | None = None) -> dict[str, Any]:
    around = Shelf(slices(), [wanted], classes("x", "y"))
    (to_allocate,) = resolve(around).ways[0].claims
    assert isinstance(to_allocate, ToAllocate)
    ids = iter(f"share-{at}" for at in range(9))
    return encode_allocation(
        to_allocate, given, NodeName("node-1"), around.whereabouts, new_share_id=lambda: next(ids), now=now
    )


def test_one_device():
    assert encoded(claim(), Given("gpu", HERE)) == {
        "devices": {"results": [{"request": "gpu", "driver": DRIVER, "pool": "here", "device": "gpu-0"}]},
        "nodeSelector": {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]},
            ]
        },
    }


@pytest.mark.parametrize(
    ("devices", "selector"),
    [
        (["all/lic-0"], None),
        (["zone/net-0"], selecting(*ZONE)),
        (["zone/net-0", "rack/net-0"], selecting(*ZONE, *RACK)),
        (["rack/net-0", "zone/net-0", "all/lic-0"], selecting(*RACK, *ZONE)),
        (["zone/net-0", "here/gpu-1"], "node-1"),
        (["zone/net-1"], "node-1"),
        (["each/a"], "node-1"),
        (["each/b"], selecting(*RACK)),
        (["each/c"], None),
        (["each/c", "each/b"], selecting(*RACK)),
    ],
)
def test_node_selectors(devices: list[str], selector: object):
    given = [Given("gpu", DeviceId(DRIVER, *name.split("/"))) for name in devices]
    found = encoded(claim_of([exactly("gpu", count=len(given))]), *given).get("nodeSelector")
    if selector == "node-1":
        selector = encoded(claim(), Given("gpu", HERE))["nodeSelector"]
    assert found == selector


def test_a_device_that_is_no_longer_published_is_told():
    around = Shelf(slices())
    with pytest.raises(GoneDeviceError, match=f"device {DRIVER}/here/gpu-9 is no longer published"):
        around.whereabouts(DeviceId(DRIVER, "here", "gpu-9"))


def test_tolerations_and_admin_access_are_copied():
    tolerations = [
        {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 0},
        {"operator": "Exists"},
    ]
    subs = [
        {"name": "x", "deviceClassName": DRIVER},
        {"name": "y", "deviceClassName": DRIVER, "tolerations": tolerations},
    ]
    wanted = claim_of([exactly("a", tolerations=tolerations), {"name": "b", "firstAvailable": subs}])
    found = encoded(wanted, Given("a", HERE, admin=True), Given("b/y", HERE))["devices"]["results"]
    assert [(each["request"], each.get("tolerations"), each.get("adminAccess")) for each in found] == [
        ("a", tolerations, True),
        ("b/y", tolerations, None),
    ]


def test_shares_have_an_id_each_and_what_they_consume():
    amounts = {"memory": Amount(10 * 2**30 * NANO), "computeMilli": Amount(250 * NANO), "half": Amount(NANO // 2)}
    wanted = claim_of([exactly("a"), exactly("b")])
    found = encoded(wanted, Given("a", HERE, consumed=amounts), Given("b", HERE, consumed={}))["devices"]["results"]
    assert found[0]["shareID"] == "share-0"
    assert found[0]["consumedCapacity"] == {"memory": "10Gi", "computeMilli": "250", "half": "500m"}
    assert found[1]["shareID"] == "share-1"
    assert "consumedCapacity" not in found[1]


def opaque(of: str) -> dict[str, Any]:
    return {"driver": DRIVER, "parameters": {"of": of, "n": None}}


def test_class_configurations_come_first_each_class_once():
    subs = [{"name": "s", "deviceClassName": "y"}, {"name": "t", "deviceClassName": "x"}]
    wanted = claim_of(
        [exactly("a", "x"), {"name": "b", "firstAvailable": subs}, exactly("c")], config=[{"opaque": opaque("all")}]
    )
    given = (Given("a", HERE), Given("b/t", HERE), Given("c", HERE))
    of_class = {"source": FROM_CLASS, "requests": ["a", "b/t"], "opaque": opaque("x")}
    of_claim = {"source": FROM_CLAIM, "opaque": opaque("all")}
    assert encoded(wanted, *given)["devices"]["config"] == [of_class, of_class, of_claim]
    of_y = {"source": FROM_CLASS, "requests": ["b/s"], "opaque": opaque("y")}
    of_x = of_class | {"requests": ["a"]}
    assert encoded(wanted, Given("a", HERE), Given("b/s", HERE), Given("c", HERE))["devices"]["config"] == [
        of_x,
        of_x,
        of_y,
        of_y,
        of_claim,
    ]


def test_claim_configurations_are_those_of_what_was_chosen():
    subs = [{"name": "s", "deviceClassName": DRIVER}, {"name": "t", "deviceClassName": DRIVER}]
    config = [
        {"requests": ["b/s"], "opaque": opaque("not chosen")},
        {"requests": ["b/t"], "opaque": opaque("chosen")},
        {"requests": ["b"], "opaque": opaque("whole request")},
        {"requests": ["a"], "opaque": opaque("other")},
    ]
    wanted = claim_of([exactly("a"), {"name": "b", "firstAvailable": subs}], config=config)
    found = encoded(wanted, Given("a", HERE), Given("b/t", HERE))["devices"]["config"]
    assert [(each["source"], each["requests"], each["opaque"]["parameters"]["of"]) for each in found] == [
        (FROM_CLAIM, ["b/t"], "chosen"),
        (FROM_CLAIM, ["b"], "whole request"),
        (FROM_CLAIM, ["a"], "other"),
    ]


def test_more_configurations_than_the_api_takes_lose_their_repetitions():
    requests = [exactly(f"r{at}") for at in range(10)]
    config = [{"requests": [f"r{at}" for at in range(10)], "opaque": opaque(f"{each}")} for each in range(7)]
    found = encoded(claim_of(requests, config=config), *(Given(f"r{at}", HERE) for at in range(10)))
    assert [each["opaque"]["parameters"]["of"] for each in found["devices"]["config"]] == [str(at) for at in range(7)]


def test_the_timestamp_is_written_where_it_is_given():
    now = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    assert encoded(claim(), Given("gpu", HERE), now=now)["allocationTimestamp"] == "2026-01-02T03:04:05Z"


def test_t30_every_request_keeps_its_devices():
    """HAMi #2380: the second container read what the first was given."""
    wanted = claim_of([exactly("a"), exactly("b")])
    first, second = HERE, HERE._replace(name="gpu-1")
    found = encoded(wanted, Given("a", first), Given("b", second))["devices"]["results"]
    assert {each["request"]: each["device"] for each in found} == {"a": "gpu-0", "b": "gpu-1"}


def test_nothing_consumes_less_than_nothing():
    (held,) = given_to(claim("c", [result("gpu-2", shareID=str(uuid.uuid4()), consumedCapacity={"memory": "-1Gi"})]))
    assert held.consumed == {"memory": 0}


def test_what_is_encoded_is_read_back():
    share = str(uuid.uuid4())
    results = [
        result("gpu-0"),
        result("gpu-1", adminAccess=True),
        result("gpu-2", shareID=share, consumedCapacity={"memory": "1Gi"}),
        result("gpu-3", shareID=share),
    ]
    pool = f"node-1/{DRIVER}"
    assert given_to(claim("c", results)) == (
        Given("gpu", DeviceId(DRIVER, pool, "gpu-0")),
        Given("gpu", DeviceId(DRIVER, pool, "gpu-1"), admin=True),
        Given("gpu", DeviceId(DRIVER, pool, "gpu-2"), consumed={"memory": 2**30 * NANO}),
        Given("gpu", DeviceId(DRIVER, pool, "gpu-3"), consumed={}),
    )
    assert given_to(claim("unallocated")) == ()
