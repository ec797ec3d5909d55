"""Extended resources that a DeviceClass serves: the special claim of a pod, and which containers use its requests.

As kube-scheduler 1.36 does it (dynamicresources/extendeddynamicresources.go, createRequestsAndMappings): a request per
container that runs on, named by its place among init containers and containers and by the place of the resource among
those it asks for. Init containers that end use the devices of the containers after them, and share what they need more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kube.objects import (
    Container,
    ContainerExtendedResourceRequest,
    DeviceClaim,
    DeviceClass,
    DeviceRequest,
    ExactDeviceRequest,
    Metadata,
    OwnerReference,
    Pod,
    ResourceClaim,
    ResourceClaimSpec,
)
from kube.podresources import DEVICE_CLASS_PREFIX, asked, is_sidecar, may_be_device
from packing.dra.model import NANO, Amount

ANNOTATION = "resource.kubernetes.io/extended-resource-claim"
_EARLIEST = datetime.min.replace(tzinfo=UTC)

Mapped = ContainerExtendedResourceRequest


def class_of_resource(classes: Iterable[DeviceClass]) -> dict[str, DeviceClass]:
    """Return which class serves each extended resource: of several the newest, then the first by name."""
    found: dict[str, DeviceClass] = {}
    for each in sorted(classes, key=lambda each: each.metadata.name, reverse=True):
        found[DEVICE_CLASS_PREFIX + each.metadata.name] = each
        name = each.spec.extended_resource_name
        if name and (name not in found or _created(each) >= _created(found[name])):
            found[name] = each
    return found


def _created(device_class: DeviceClass) -> datetime:
    return device_class.metadata.creation_timestamp or _EARLIEST


def served_resources(requests: Mapping[str, Amount], classes: Iterable[DeviceClass]) -> dict[str, str]:
    """Return the resources among a pod's requests that a class serves, with the name of the class."""
    names = [name for name, amount in requests.items() if amount and may_be_device(name)]
    if not names:
        return {}
    by_resource = class_of_resource(classes)
    return {name: by_resource[name].metadata.name for name in names if name in by_resource}


def special_claim(pod: Pod, resources: Mapping[str, str]) -> tuple[ResourceClaim, tuple[Mapped, ...]]:
    """Return the claim for `resources` (with the class of each) as it is to be created, and who uses its requests."""
    requests: list[DeviceRequest] = []
    mappings: list[Mapped] = []
    for resource in sorted(resources):
        more, mapped = _of_resource(pod, resource, resources[resource])
        requests += more
        mappings += mapped
    requests.sort(key=lambda request: request.name)
    owner = OwnerReference(uid=pod.metadata.uid, kind="Pod", name=pod.metadata.name, api_version="v1", controller=True)
    metadata = Metadata(
        name="",
        namespace=pod.metadata.namespace,
        uid=f"extended-resources/{pod.metadata.uid}",
        annotations={ANNOTATION: "true"},
        owner_references=(owner,),
    )
    spec = ResourceClaimSpec(devices=DeviceClaim(requests=tuple(requests)))
    return ResourceClaim(metadata=metadata, spec=spec), tuple(mappings)


def special_manifest(pod: Pod, claim: ResourceClaim) -> dict[str, Any]:
    """Return what to create for a special claim that does not exist yet."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid, "controller": True}
    requests = []
    for request in claim.spec.devices.requests:
        assert request.exactly is not None
        exactly = {
            "deviceClassName": request.exactly.device_class_name,
            "allocationMode": request.exactly.allocation_mode,
            "count": request.exactly.count,
        }
        requests.append({"name": request.name, "exactly": exactly})
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "generateName": f"{pod.metadata.name}-extended-resources-",
            "namespace": pod.metadata.namespace,
            "annotations": {ANNOTATION: "true"},
            "ownerReferences": [owner],
        },
        "spec": {"devices": {"requests": requests}},
    }


def special_status(name: str, mappings: Iterable[Mapped]) -> dict[str, Any]:
    """Return `extendedResourceClaimStatus` of a pod whose special claim is called `name`."""
    return {
        "resourceClaimName": name,
        "requestMappings": [
            {
                "containerName": each.container_name,
                "resourceName": each.resource_name,
                "requestName": each.request_name,
            }
            for each in mappings
        ],
    }


def _of_resource(pod: Pod, resource: str, class_name: str) -> tuple[list[DeviceRequest], list[Mapped]]:
    init_count = len(pod.spec.init_containers)
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    lasting: list[DeviceRequest | None] = [None] * len(containers)
    mappings: list[Mapped] = []
    ending = [at for at in range(init_count) if not is_sidecar(containers[at])]
    for at, container in enumerate(containers):
        if at not in ending:
            lasting[at], mapped = _of_container(at, container, resource, class_name, ())
            mappings += mapped
    extra: list[DeviceRequest] = []
    brief: list[Mapped] = []
    for at in ending:
        more, mapped = _of_container(at, containers[at], resource, class_name, lasting[at:])
        extra += [more] if more is not None else []
        brief += mapped
    largest = max(extra, key=_count, default=None)  # the first of equals
    if largest is not None:
        replaced = {each.name for each in extra}
        brief = [_renamed(each, largest.name) if each.request_name in replaced else each for each in brief]
    requests = [each for each in (largest, *lasting) if each is not None]
    return requests, mappings + brief


def _of_container(
    at: int, container: Container, resource: str, class_name: str, usable: Iterable[DeviceRequest | None]
) -> tuple[DeviceRequest | None, list[Mapped]]:
    """Return the request that a container needs beside those it may use, and the requests it uses."""
    needs = asked(container.resources)
    count, fraction = divmod(needs.get(resource, 0), NANO)
    mappings: list[Mapped] = []
    if count == 0 or fraction:
        return None, mappings
    missing = count
    for request in usable:
        if request is not None:
            missing -= _count(request)
            mappings.append(_mapped(container, resource, request.name))
            if missing <= 0:
                return None, mappings
    name = f"container-{at}-request-{sorted(needs).index(resource)}"
    mappings.append(_mapped(container, resource, name))
    return DeviceRequest(name=name, exactly=ExactDeviceRequest(device_class_name=class_name, count=missing)), mappings


def _count(request: DeviceRequest) -> int:
    assert request.exactly is not None
    return request.exactly.count


def _mapped(container: Container, resource: str, request: str) -> Mapped:
    return Mapped(container_name=container.name, resource_name=resource, request_name=request)


def _renamed(mapped: Mapped, request: str) -> Mapped:
    return Mapped(container_name=mapped.container_name, resource_name=mapped.resource_name, request_name=request)
