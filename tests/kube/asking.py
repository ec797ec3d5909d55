"""Claims, classes and what they are looked up in, for tests of what pods ask."""

from __future__ import annotations

from typing import Any

import pytest

from kube.claims import Claims
from kube.objects import DeviceClass, Pod, ResourceClaim
from kube.refusal import Refusal
from kube.resolved import Resolved
from tests.kube.builders import DRIVER, decoded, machine_slices, node, pod
from tests.kube.shelf import Shelf

GPU = f'device.attributes["{DRIVER}"].type == "gpu"'
OTHER = "nic.example.com"


def device_class(name: str = DRIVER, *expressions: str, driver: str = DRIVER, **spec: Any) -> DeviceClass:
    selectors = [{"cel": {"expression": each}} for each in (f'device.driver == "{driver}"', *expressions)]
    return decoded({"metadata": {"name": name}, "spec": {"selectors": selectors, **spec}}, DeviceClass)


def exactly(name: str = "gpu", device_class: str = DRIVER, *expressions: str, **fields: Any) -> dict[str, Any]:
    if expressions:
        fields["selectors"] = [{"cel": {"expression": each}} for each in expressions]
    return {"name": name, "exactly": {"deviceClassName": device_class, **fields}}


def claim_of(requests: list[dict[str, Any]], name: str = "claim-1", **devices: Any) -> ResourceClaim:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return decoded({"metadata": metadata, "spec": {"devices": {"requests": requests, **devices}}}, ResourceClaim)


def shelf(*claims: ResourceClaim, classes: tuple[DeviceClass, ...] = (), **objects: Any) -> Shelf:
    objects.setdefault("slices", machine_slices("hgx-h100-8"))
    objects.setdefault("nodes", [node()])
    return Shelf(claims=claims, classes=[device_class(DRIVER, GPU), *classes], **objects)


def resolve(around: Shelf, wanted: Pod | None = None) -> Resolved:
    return Claims().resolve(wanted or pod(claims=[name for _, name in around.claims]), around)


def refused(around: Shelf, wanted: Pod | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        resolve(around, wanted)
    return caught.value
