"""Devices given to a claim -> its `status.allocation`, field for field as kube-scheduler's own allocator writes it.

Source: kubernetes/dynamic-resource-allocation v0.36, structured/internal/incubating/allocator_incubating.go, the end of
`Allocate` and `createNodeSelector`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kube.nodeselect import NODE_NAME_FIELD
from kube.objects import (
    DeviceRequest,
    DeviceToleration,
    NodeSelectorRequirement,
    OpaqueDeviceConfiguration,
    ResourceClaim,
)
from kube.pools import PoolKey, Pools
from kube.quantity import format_quantity
from kube.resolved import ToAllocate
from kube.slices import Where
from packing.dra.model import DeviceId, Given
from packing.model import NodeName

Json = dict[str, Any]

FROM_CLASS, FROM_CLAIM = "FromClass", "FromClaim"
MAX_CONFIGS = 64
"""Configurations of an allocation (ResourceClaim validation)."""


class Whereabouts(NamedTuple):
    """Which nodes can use a device, and whether an allocation of it is good on the node it was made for alone."""

    where: Where
    binds_to_node: bool = False


class GoneDeviceError(LookupError):
    """A device was given, and is no longer published."""


def whereabouts_in(pools: Pools, device: DeviceId) -> Whereabouts:
    """Return where a device of a usable pool can be used. Raises GoneDeviceError when it is no longer there."""
    state = pools.states.get(PoolKey(device.driver, device.pool))
    if state is not None and state.pool is not None:
        for at, shape in enumerate(state.pool.shape.devices):
            if shape.name == device.name:
                return Whereabouts(state.of(at), shape.binds_to_node)
    raise GoneDeviceError(f"device {'/'.join(device)} is no longer published")


def encode_allocation(
    wanted: ToAllocate,
    given: Sequence[Given],
    node: NodeName,
    whereabouts: Callable[[DeviceId], Whereabouts],
    *,
    new_share_id: Callable[[], str],
    now: datetime | None = None,
) -> Json:
    """Return `status.allocation` of a claim that gets `given` on `node`.

    `new_share_id` returns a fresh UUID for each share of a device. `now` becomes the allocationTimestamp: without one,
    a kube-scheduler with DRADeviceBindingConditions (on from 1.36) cannot let another pod join the claim; servers
    without the gate drop it.
    """
    chosen = _chosen(wanted.claim, given)
    devices: Json = {"results": [_result(wanted.claim, each, new_share_id) for each in given]}
    config = [*_class_configs(wanted, chosen), *_claim_configs(wanted.claim, chosen)]
    if len(config) > MAX_CONFIGS:
        config = [each for at, each in enumerate(config) if each not in config[:at]]
    if config:
        devices["config"] = config
    allocation: Json = {"devices": devices}
    selector = _node_selector((whereabouts(each.device) for each in given), node)
    if selector is not None:
        allocation["nodeSelector"] = selector
    if now is not None:
        allocation["allocationTimestamp"] = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return allocation


def _chosen(claim: ResourceClaim, given: Iterable[Given]) -> dict[str, str]:
    """Return per request what it was met by: its own name, or `request/subrequest`."""
    found = {each.request.partition("/")[0]: each.request for each in given}
    return {request.name: found.get(request.name, request.name) for request in claim.spec.devices.requests}


def _result(claim: ResourceClaim, given: Given, new_share_id: Callable[[], str]) -> Json:
    result: Json = {"request": given.request, "driver": given.device.driver, "pool": given.device.pool}
    result["device"] = given.device.name
    if given.admin:
        result["adminAccess"] = True
    tolerations = [_toleration(each) for each in _tolerations(claim, given.request)]
    if tolerations:
        result["tolerations"] = tolerations
    if given.consumed is not None:
        result["shareID"] = new_share_id()
        if given.consumed:
            result["consumedCapacity"] = {
                name: format_quantity(amount, binary=True) for name, amount in given.consumed.items()
            }
    return result


def _tolerations(claim: ResourceClaim, name: str) -> tuple[DeviceToleration, ...]:
    base, _, sub = name.partition("/")
    request = next(each for each in claim.spec.devices.requests if each.name == base)
    if request.exactly is not None:
        return request.exactly.tolerations
    return next(each for each in request.first_available if each.name == sub).tolerations


def _toleration(toleration: DeviceToleration) -> Json:
    texts = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
    }
    found: Json = {name: text for name, text in texts.items() if text}
    if toleration.toleration_seconds is not None:
        found["tolerationSeconds"] = toleration.toleration_seconds
    return found


def _class_configs(wanted: ToAllocate, chosen: Mapping[str, str]) -> Iterable[Json]:
    """Return the configurations of each class that was used, once, with the requests that used it."""
    users: dict[str, list[str]] = {}
    for request in wanted.claim.spec.devices.requests:
        users.setdefault(_class_of(request, chosen[request.name]), []).append(chosen[request.name])
    for class_name, requests in users.items():
        for config in wanted.classes[class_name].spec.config:
            yield _config(FROM_CLASS, requests, config.opaque)


def _class_of(request: DeviceRequest, chosen: str) -> str:
    if request.exactly is not None:
        return request.exactly.device_class_name
    sub = chosen.partition("/")[2]
    return next(each for each in request.first_available if each.name == sub).device_class_name


def _claim_configs(claim: ResourceClaim, chosen: Mapping[str, str]) -> Iterable[Json]:
    """Return the claim's own configurations: those for all requests, and once per request those that name it.

    One that names a subrequest counts where that was chosen. (So does kube-scheduler, repetitions included.)
    """
    for config in claim.spec.devices.config:
        if not config.requests:
            yield _config(FROM_CLAIM, (), config.opaque)
        for request in claim.spec.devices.requests:
            if request.name in config.requests or chosen[request.name] in config.requests:
                yield _config(FROM_CLAIM, config.requests, config.opaque)


def _config(source: str, requests: Sequence[str], opaque: OpaqueDeviceConfiguration | None) -> Json:
    config: Json = {"source": source}
    if requests:
        config["requests"] = list(requests)
    if opaque is not None:
        config["opaque"] = {"driver": opaque.driver, "parameters": opaque.parameters}
    return config


def _node_selector(devices: Iterable[Whereabouts], node: NodeName) -> Json | None:
    """Return the nodes on which all devices can be used; None: on all."""
    fields: list[NodeSelectorRequirement] = []
    labels: list[NodeSelectorRequirement] = []
    for where, binds_to_node in devices:
        if where.node or binds_to_node:
            only = {"key": NODE_NAME_FIELD, "operator": "In", "values": [node]}
            return {"nodeSelectorTerms": [{"matchFields": [only]}]}
        for selected in where.selector.node_selector_terms if where.selector is not None else ():
            fields += [each for each in selected.match_fields if each not in fields]
            labels += [each for each in selected.match_expressions if each not in labels]
    found: Json = {"matchExpressions": list(map(_requirement, labels)), "matchFields": list(map(_requirement, fields))}
    term = {name: requirements for name, requirements in found.items() if requirements}
    return {"nodeSelectorTerms": [term]} if term else None


def _requirement(requirement: NodeSelectorRequirement) -> Json:
    found: Json = {"key": requirement.key, "operator": requirement.operator}
    if requirement.values:
        found["values"] = list(requirement.values)
    return found
