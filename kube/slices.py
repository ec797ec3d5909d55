"""One ResourceSlice as `kube.pools` keeps it: decoded, its devices shared with their like, the API object let go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kube.devices import DeviceShapes, OwnAttributes, decode_counters
from kube.objects import Device, NodeSelector, ResourceSlice
from packing.dra.model import Amount, Attribute, DeviceShape, Taint


@dataclass(frozen=True, slots=True)
class Where:
    """The nodes that can use a device: one, those a selector admits, or (neither) all."""

    node: str = ""
    selector: NodeSelector | None = None


EVERYWHERE = Where()
NOWHERE = Where(selector=NodeSelector())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice:
    """Devices, or counters, of one pool. Lists are in order of the devices; `where` has one entry if all are alike."""

    name: str
    driver: str
    pool: str
    generation: int
    slices_of_pool: int
    devices: tuple[DeviceShape, ...] = ()
    own: tuple[Mapping[str, Attribute], ...] = ()
    tainted: Mapping[int, tuple[Taint, ...]]
    where: tuple[Where, ...] = ()
    counters: Mapping[str, Mapping[str, Amount]]
    beyond_us: Mapping[int, str]
    """Devices that ask of a scheduler what we cannot do, and what that is."""
    fault: str = ""
    """Why the slice, and with it the pool, cannot be used."""


def decode_slice(found: ResourceSlice, shapes: DeviceShapes) -> Slice:
    """Return a slice; one that holds a quantity which is none has a fault in place of devices."""
    spec = found.spec
    alike: OwnAttributes = {}
    try:
        decoded = [shapes.decode(spec.driver, device, alike) for device in spec.devices]
        counters = {each.name: decode_counters(each.counters) for each in spec.shared_counters}
        fault = "" if len(counters) == len(spec.shared_counters) else "a counter set is listed twice"
    except ValueError as error:
        decoded, counters, fault = [], {}, str(error)
    return Slice(
        name=found.metadata.name,
        driver=spec.driver,
        pool=spec.pool.name,
        generation=spec.pool.generation,
        slices_of_pool=spec.pool.resource_slice_count,
        devices=tuple([each.shape for each in decoded]),
        own=tuple([each.own for each in decoded]),
        tainted={at: each.taints for at, each in enumerate(decoded) if each.taints},
        where=_where(found),
        counters=counters,
        beyond_us={at: why for at, device in enumerate(spec.devices) if (why := _beyond_us(found, device))},
        fault=f"resource slice {found.metadata.name}: {fault}" if fault else "",
    )


def _where(found: ResourceSlice) -> tuple[Where, ...]:
    spec = found.spec
    if spec.per_device_node_selection:
        return tuple(_choice(each.node_name, each.node_selector, all_nodes=each.all_nodes) for each in spec.devices)
    return (_choice(spec.node_name, spec.node_selector, all_nodes=spec.all_nodes),)


def _choice(node: str, selector: NodeSelector | None, *, all_nodes: bool) -> Where:
    if node:
        return Where(node=node)
    if selector is not None:
        return Where(selector=selector)
    return EVERYWHERE if all_nodes else NOWHERE


def _beyond_us(found: ResourceSlice, device: Device) -> str:
    """Return the alpha feature of 1.37 that a device needs and we do not have; empty for all others."""
    if found.spec.skip_node_operations:
        return "skipNodeOperations"
    if device.node_allocatable_resources:
        return "nodeAllocatableResources"
    grouped = any(use.compatibility_groups for use in device.consumes_counters)
    return "compatibilityGroups" if grouped else ""
