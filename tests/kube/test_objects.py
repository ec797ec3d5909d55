"""Objects are decoded as the API means them, whatever else they carry, and faulty ones are told apart and named."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import objects
from kube.allocated import given_to
from kube.decoding import Event, decoder
from kube.errors import ClusterError, MalformedObjectError
from kube.kinds import CLAIMS, KINDS, PODS, SLICES, TAINT_RULES, Kind
from kube.nodeselect import selects
from packing.dra.model import DeviceId, Given
from tests.kube.samples import CLAIM, OPAQUE, POD, RULE, SLICE

SAMPLES: list[tuple[Kind[Any], dict[str, Any]]] = [(SLICES, SLICE), (PODS, POD), (CLAIMS, CLAIM), (TAINT_RULES, RULE)]


def one(kind: Kind[Any], stored: dict[str, Any]) -> Any:
    return decoder(kind).one(json.dumps(stored).encode())


def read_fields(value: Any, read: Any, path: str = "$") -> Iterator[str]:
    """Paths of a stored object that were read otherwise than they are stored."""
    if isinstance(read, msgspec.Struct):
        names = dict(zip(read.__struct_encode_fields__, read.__struct_fields__, strict=True))
        for key, inner in value.items():
            if key in names:
                yield from read_fields(inner, getattr(read, names[key]), f"{path}.{key}")
    elif isinstance(read, tuple):
        if len(read) != len(value):
            yield path
        for index, (inner, found) in enumerate(zip(value, read, strict=False)):
            yield from read_fields(inner, found, f"{path}[{index}]")
    elif isinstance(value, dict) and read and isinstance(next(iter(read.values())), msgspec.Struct):
        if list(value) != list(read):
            yield path
        for key, inner in value.items():
            yield from read_fields(inner, read[key], f"{path}.{key}")
    elif isinstance(read, datetime):
        if datetime.fromisoformat(value) != read:
            yield path
    elif value != read:
        yield path


@pytest.mark.parametrize(("kind", "stored"), SAMPLES, ids=lambda each: getattr(each, "name", ""))
def test_every_field_is_read_as_it_is_stored(kind: Kind[Any], stored: dict[str, Any]) -> None:
    wrong = list(read_fields(stored, one(kind, stored)))
    assert wrong == (["$.status.conditions", "$.status.conditions[0].type"] if kind is PODS else [])  # one of two


def test_a_slice_says_what_the_table_of_its_fields_says() -> None:
    """Names where Python's spelling is no mere change of case."""
    (device, *_) = one(SLICES, SLICE).spec.devices
    assert device.attributes["a"].int_value == 1
    assert device.attributes["b"].bool_value is False
    assert device.attributes["b"].int_value is None
    assert device.attributes["g"].strings == ("x", "y")
    assert device.taints[0].time_added == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert one(CLAIMS, CLAIM).status.allocation.devices.results[0].share_id == "share"
    assert one(SLICES, SLICE).metadata.controller.kind == "Node"


def test_of_a_pods_conditions_the_one_that_matters_is_kept() -> None:
    assert one(PODS, POD).status.scheduled == objects.PodCondition(
        type="PodScheduled", status="False", reason="Unschedulable"
    )
    assert one(PODS, {"metadata": {"name": "p"}, "spec": {"containers": []}}).status.scheduled is None


def test_pods_that_are_alike_share_what_they_have_in_common() -> None:
    first, second = one(PODS, POD), one(PODS, POD)
    other = copy.deepcopy(POD)
    other["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = 3
    assert first.spec.containers is second.spec.containers
    assert first.spec.node_name is second.spec.node_name
    assert one(PODS, other).spec.containers[0].resources.limits == {"nvidia.com/gpu": 3}


def optional_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All fields of an object but those within what is kept as sent."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            if key not in {"parameters", "nodeAllocatableResources"}:
                yield from optional_paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from optional_paths(inner, (*path, index))


def changed(stored: dict[str, Any], path: tuple[Any, ...], *, absent: bool) -> dict[str, Any]:
    """The object with one field null, or without it."""
    result = copy.deepcopy(stored)
    inner: Any = result
    for step in path[:-1]:
        inner = inner[step]
    if absent:
        del inner[path[-1]]
    else:
        inner[path[-1]] = None
    return result


def outcome(kind: Kind[Any], stored: dict[str, Any]) -> object:
    try:
        return one(kind, stored)
    except MalformedObjectError as fault:
        return str(fault)


@pytest.mark.parametrize(("kind", "stored"), SAMPLES, ids=lambda each: getattr(each, "name", ""))
def test_null_means_the_same_as_nothing(kind: Kind[Any], stored: dict[str, Any]) -> None:
    for path in optional_paths(stored):
        assert outcome(kind, changed(stored, path, absent=False)) == outcome(kind, changed(stored, path, absent=True))


def test_nulls_in_a_drivers_parameters_stay() -> None:
    stored = changed(CLAIM, ("status",), absent=False)
    assert one(CLAIMS, stored).spec.devices.config[0].opaque.parameters == OPAQUE["parameters"]


@pytest.mark.parametrize(
    ("kind", "stored", "told"),
    [
        (SLICES, changed(SLICE, ("spec", "driver"), absent=True), "missing required field `driver` at $.spec"),
        (SLICES, {"metadata": {"name": "x"}}, "missing required field `spec` at $"),
        (SLICES, {"spec": SLICE["spec"]}, "missing required field `metadata` at $"),
        (PODS, {"metadata": {"name": "x", "namespace": "ns"}, "spec": {"containers": 1}}, "at $.spec.containers"),
        (CLAIMS, {"metadata": {"name": 7}}, "at $.metadata.name"),
        (CLAIMS, {"metadata": 7}, "ResourceClaim (no name): "),
    ],
)
def test_a_malformed_object_is_named_with_its_field(kind: Kind[Any], stored: dict[str, Any], told: str) -> None:
    with pytest.raises(MalformedObjectError) as fault:
        one(kind, stored)
    assert told in str(fault.value)
    assert kind.name in str(fault.value)


def test_a_page_with_malformed_objects_has_the_others() -> None:
    page = {"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [CLAIM, {"metadata": {}}, 3, CLAIM]}
    found = decoder(CLAIMS).page(json.dumps(page).encode())
    assert [each.metadata.name for each in found.objects] == ["claim", "claim"]
    assert len(found.malformed) == 2
    assert (found.metadata.resource_version, found.metadata.continue_token) == ("7", "next")
    empty = decoder(CLAIMS).page(b'{"metadata":{"resourceVersion":"7"},"items":null}')
    assert (empty.objects, empty.malformed) == ((), ())


def event(type: str, stored: object) -> Any:  # noqa: A002
    return decoder(CLAIMS).event(json.dumps({"type": type, "object": stored}).encode())


def test_events_of_all_types() -> None:
    claim = {**CLAIM, "metadata": {**CLAIM["metadata"], "resourceVersion": "12"}}
    for name in ("ADDED", "MODIFIED", "DELETED"):
        assert event(name, claim) == Event(name, "12", one(CLAIMS, claim))
    bookmark = {"kind": "ResourceClaim", "metadata": {"resourceVersion": "13", "creationTimestamp": None}, "spec": {}}
    assert event("BOOKMARK", bookmark) == Event("BOOKMARK", "13")
    assert event("BOOKMARK", {"metadata": {"resourceVersion": "13", "name": ""}}) == Event("BOOKMARK", "13")
    assert event("ERROR", {"kind": "Status", "code": 410})["code"] == 410


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_of_a_malformed_object_that_is_deleted_the_metadata_is_told(kind: Kind[Any]) -> None:
    """Else who keeps objects would keep it for ever."""
    metadata = {"name": "x", "uid": "u", "resourceVersion": "14"}
    event = {"type": "DELETED", "object": {"metadata": metadata, "spec": 1, "status": 1}}
    gone = decoder(kind).event(json.dumps(event).encode())
    assert isinstance(gone, Event)
    assert isinstance(gone.object, kind.type)
    assert (gone.object.metadata.name, gone.object.metadata.uid, gone.resource_version) == ("x", "u", "14")
    if kind.name != "Namespace":  # of which nothing else is read
        assert isinstance(gone.malformed, MalformedObjectError)
    worse = decoder(kind).event(b'{"type": "DELETED", "object": {"metadata": {"name": 7}}}')
    assert isinstance(worse, Event)
    assert worse.object is None
    assert isinstance(worse.malformed, MalformedObjectError)


def test_a_malformed_claim_still_holds_its_devices() -> None:
    """Another scheduler's, say; nobody can join it, and what of a share cannot be read counts as the whole device."""
    results = [
        {"request": "r", "driver": "d", "pool": "p", "device": "gpu-0", "consumedCapacity": 7, "shareID": "s"},
        {"request": "r", "driver": "d", "pool": "p", "device": "gpu-1", "adminAccess": True},
        {"request": "r", "driver": "d", "pool": 3, "device": "gpu-2"},
    ]
    metadata = {"name": "x", "namespace": "ns", "uid": "u", "resourceVersion": "14", "labels": 3}
    stored = {"metadata": metadata, "spec": {"devices": 1}, "status": {"allocation": {"devices": {"results": results}}}}
    told = event("ADDED", stored)
    page = decoder(CLAIMS).page(json.dumps({"metadata": {}, "items": [stored]}).encode())
    assert isinstance(told.malformed, MalformedObjectError)
    assert len(page.malformed) == 1
    for found in (told.object, *page.objects):
        assert (found.metadata.uid, found.metadata.resource_version) == ("u", "14")
        assert given_to(found) == (Given("", DeviceId("d", "p", "gpu-0")),)
        assert not selects(found.status.allocation.node_selector, "node-1", {})
    status = {"allocation": {"devices": {"results": results[1:]}}}
    assert given_to(event("ADDED", {**stored, "status": status}).object) == ()


def test_a_malformed_claim_keeps_its_users_and_all_of_its_metadata_that_decodes() -> None:
    """Else it looks idle: the janitor would take the devices from a running pod."""
    users = [{"resource": "pods", "name": "a", "uid": "u-a"}, {"name": 7}]
    metadata = {**CLAIM["metadata"], "deletionTimestamp": "2026-11-21T20:00:00Z", "creationTimestamp": None}
    stored = {"metadata": metadata, "spec": {"devices": 1}, "status": {"reservedFor": users}}
    found = event("MODIFIED", stored).object
    assert [each.uid for each in found.status.reserved_for] == ["u-a"]
    assert found.metadata.deletion_timestamp is not None
    assert found.metadata.owner_references == one(CLAIMS, CLAIM).metadata.owner_references


FIELDS = (
    "metadata",
    "spec",
    "status",
    "name",
    "devices",
    "requests",
    "containers",
    "type",
    "object",
    "items",
    "driver",
)
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=30,
)


@given(st.sampled_from(sorted(KINDS)), odd | st.binary(max_size=20))
def test_whatever_comes_is_read_or_refused_as_our_own_error(name: str, value: object) -> None:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    for read in (decoder(KINDS[name]).one, decoder(KINDS[name]).page, decoder(KINDS[name]).event):
        try:
            read(text)
        except ClusterError:
            continue
