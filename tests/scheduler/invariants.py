"""What must hold of all claims of a cluster, whatever has happened: an oracle that shares no code with the scheduler.

Written from the API's own rules (k8s.io/api/resource/v1): who may have a device beside whom, what counters and
capacities allow, and that devices belong to somebody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple, Self

from kubernetes.utils.quantity import parse_quantity

from sandbox import objects
from sandbox.api import Api, Manifest
from sandbox.waiting import NotYet, wait_for

ORPHANED_S = 60.0
"""Devices that nobody owns must be free after so long."""
FINALIZER = "resource.kubernetes.io/delete-protection"
EXTENDED_PREFIX = "deviceclass.resource.kubernetes.io/"


class Device(NamedTuple):
    """Name of a device in the cluster."""

    driver: str
    pool: str
    name: str

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(frozen=True, slots=True)
class Held:
    """One result of a claim's allocation that takes a device."""

    claim: str
    result: Manifest

    @property
    def device(self) -> Device:
        """Whose it is."""
        return Device(self.result["driver"], self.result["pool"], self.result["device"])


@dataclass(frozen=True)
class Picture:
    """All that is looked at, as the API server has it."""

    claims: Sequence[Manifest]
    slices: Sequence[Manifest]
    pods: Sequence[Manifest]
    classes: Sequence[Manifest] = ()
    nodes: Sequence[Manifest] = ()

    @classmethod
    def take(cls, api: Api) -> Self:
        """Read the pods before and after the claims: one that had a node before has its devices now, if it is there."""
        before = api.list("v1", "Pod")
        claims, slices, classes = (
            api.list(objects.RESOURCE_API, kind) for kind in ("ResourceClaim", "ResourceSlice", "DeviceClass")
        )
        nodes, after = api.list("v1", "Node"), {pod["metadata"]["uid"]: pod for pod in api.list("v1", "Pod")}
        pods = [_older(pod, after[pod["metadata"]["uid"]]) for pod in before if pod["metadata"]["uid"] in after]
        return cls(claims, slices, pods, classes, nodes)

    # What must never be, not for a moment

    def broken(self) -> list[str]:
        """Return what breaks the rules of devices."""
        return sorted([*self._twice(), *self._unpublished(), *self._overdrawn(), *self._overfull(), *self._bare()])

    def _twice(self) -> Iterator[str]:
        for device, held in self.holders.items():
            claims = sorted({each.claim for each in held})
            shares = [each.result.get("shareID") for each in held]
            if len(held) > 1 and (None in shares or len(set(shares)) < len(shares)):
                yield f"{device} is given {len(held)} times: {', '.join(claims)}"

    def _unpublished(self) -> Iterator[str]:
        for device, held in self.holders.items():
            if device not in self.devices and self._has_pool(device):
                yield f"{device} of {held[0].claim} is published by nobody"

    def _overdrawn(self) -> Iterator[str]:
        """Shared counters, of which a device takes its part once, however many share it."""
        taken: dict[tuple[str, str, str, str], Decimal] = defaultdict(Decimal)
        for device in self.holders:
            for consumed in self.devices.get(device, {}).get("consumesCounters", []):
                for name, counter in consumed["counters"].items():
                    taken[device.driver, device.pool, consumed["counterSet"], name] += _amount(counter["value"])
        for key, amount in taken.items():
            there = self.counters.get(key, Decimal(0))
            if amount > there:
                yield f"counter {'/'.join(key)} is {there}, and {amount} are taken"

    def _overfull(self) -> Iterator[str]:
        """Capacities of devices that several claims share."""
        for device, held in self.holders.items():
            consumed: dict[str, Decimal] = defaultdict(Decimal)
            for each in held:
                for name, amount in each.result.get("consumedCapacity", {}).items():
                    consumed[name] += _amount(amount)
            capacity = self.devices.get(device, {}).get("capacity", {})
            for name, amount in consumed.items():
                there = capacity.get(name) or capacity.get(name.removeprefix(f"{device.driver}/"), {"value": "0"})
                if device in self.devices and amount > _amount(there["value"]):
                    yield f"{device} has {name} {there['value']}, and {amount} are consumed"

    def _bare(self) -> Iterator[str]:
        """Bound pods have their devices, all on their node. Named claims may be gone again when a pod ends."""
        for pod in self.pods:
            if pod["spec"].get("nodeName") and not _is_over(pod) and "deletionTimestamp" not in pod["metadata"]:
                yield from self._lacking(pod)

    def _lacking(self, pod: Manifest) -> Iterator[str]:
        namespace, node = pod["metadata"]["namespace"], pod["spec"]["nodeName"]
        names = _claims_of(pod)
        if len(names) < len(pod["spec"].get("resourceClaims", ())) + self._asks_extended(pod):
            yield f"{_name(pod)} is on {node} and has no claim for what it asks"
        for name in names:
            claim = self.by_name.get((namespace, name), {})
            allocation = claim.get("status", {}).get("allocation")
            users = [user["uid"] for user in claim.get("status", {}).get("reservedFor", [])]
            if allocation is None or pod["metadata"]["uid"] not in users:
                yield f"{_name(pod)} is on {node} without the devices of claim {name}"
            elif (_node_of(allocation) or node) != node:
                yield f"{_name(pod)} is on {node}, and claim {name} on {_node_of(allocation)}"

    def _asks_extended(self, pod: Manifest) -> bool:
        """Whether the pod asks for resources of a DeviceClass that no device plugin offers on its node."""
        served = {each["spec"].get("extendedResourceName") for each in self.classes}
        node = next((each for each in self.nodes if each["metadata"]["name"] == pod["spec"]["nodeName"]), {})
        offered = node.get("status", {}).get("allocatable", {})
        containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
        asked = {name for each in containers for name in each.get("resources", {}).get("requests", {})}
        return any(
            (name in served or name.startswith(EXTENDED_PREFIX)) and offered.get(name, "0") == "0" for name in asked
        )

    # What must not last

    def orphaned(self) -> list[str]:
        """Return the claims that hold devices for nobody: no user, or users that are gone or over."""
        alive = {pod["metadata"]["uid"] for pod in self.pods if not _is_over(pod)}
        waiting = {
            (pod["metadata"]["namespace"], name) for pod in self.pods if not _is_over(pod) for name in _claims_of(pod)
        }
        found = []
        for claim in self.claims:
            key = (claim["metadata"]["namespace"], claim["metadata"]["name"])
            users = claim.get("status", {}).get("reservedFor", [])
            if "allocation" in claim.get("status", {}) and not any(user["uid"] in alive for user in users):
                found.append(f"{_name(claim)} holds devices for nobody{' yet' if key in waiting else ''}")
        return sorted(found)

    # Tables

    @cached_property
    def holders(self) -> Mapping[Device, Sequence[Held]]:
        """Who has which device; access for administration takes none."""
        found: dict[Device, list[Held]] = defaultdict(list)
        for claim in self.claims:
            allocation = claim.get("status", {}).get("allocation") or {}
            for result in allocation.get("devices", {}).get("results", []):
                if not result.get("adminAccess"):
                    held = Held(_name(claim), result)
                    found[held.device].append(held)
        return found

    @cached_property
    def devices(self) -> Mapping[Device, Manifest]:
        """Device -> as published in the newest generation of its pool."""
        return {
            Device(spec["driver"], spec["pool"]["name"], device["name"]): device
            for spec in self._newest
            for device in spec.get("devices") or ()
        }

    @cached_property
    def counters(self) -> Mapping[tuple[str, str, str, str], Decimal]:
        """(driver, pool, counter set, counter) -> what there is."""
        return {
            (spec["driver"], spec["pool"]["name"], counters["name"], name): _amount(counter["value"])
            for spec in self._newest
            for counters in spec.get("sharedCounters") or ()
            for name, counter in counters["counters"].items()
        }

    @cached_property
    def by_name(self) -> Mapping[tuple[str, str], Manifest]:
        """(namespace, name) -> claim."""
        return {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in self.claims}

    @cached_property
    def _newest(self) -> Sequence[Manifest]:
        newest: dict[tuple[str, str], int] = {}
        for each in self.slices:
            key = (each["spec"]["driver"], each["spec"]["pool"]["name"])
            newest[key] = max(newest.get(key, 0), each["spec"]["pool"]["generation"])
        return [
            each["spec"]
            for each in self.slices
            if each["spec"]["pool"]["generation"] == newest[each["spec"]["driver"], each["spec"]["pool"]["name"]]
        ]

    def _has_pool(self, device: Device) -> bool:
        """Whether the pool is there: that of a node that has gone is not, and its claims outlive it."""
        return any((each["driver"], each["pool"]["name"]) == device[:2] for each in self._newest)


def check(api: Api) -> None:
    """Assert that no rule of devices is broken at this moment."""
    assert Picture.take(api).broken() == []


def check_settled(api: Api, *, timeout_s: float = ORPHANED_S) -> None:
    """Assert the rules, and wait until no devices are held for nobody."""

    def look() -> bool | NotYet:
        picture = Picture.take(api)
        assert picture.broken() == []
        orphaned = picture.orphaned()
        return NotYet("; ".join(orphaned)) if orphaned else True

    wait_for("nobody to own no devices", look, timeout_s=timeout_s, every_s=0.2)


def _amount(quantity: object) -> Decimal:
    amount: Decimal = parse_quantity(quantity)  # type: ignore[no-untyped-call]
    return amount


def _name(found: Manifest) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"


def _older(before: Manifest, after: Manifest) -> Manifest:
    """Return a pod as it was, unless it is on its way out by now."""
    return after if "deletionTimestamp" in after["metadata"] or _is_over(after) else before


def _is_over(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def _claims_of(pod: Manifest) -> list[str]:
    """Return the names of the claims that a pod has, as far as they are made."""
    status = pod.get("status", {})
    made = {each["name"]: each.get("resourceClaimName") for each in status.get("resourceClaimStatuses", [])}
    wanted = pod["spec"].get("resourceClaims", [])
    names = [each.get("resourceClaimName") or made.get(each["name"]) for each in wanted]
    special = status.get("extendedResourceClaimStatus", {}).get("resourceClaimName")
    return [name for name in [*names, special] if name]


def _node_of(allocation: Manifest) -> str:
    """Return the one node that an allocation selects by name; empty for any other selector."""
    terms = allocation.get("nodeSelector", {}).get("nodeSelectorTerms", [])
    fields = terms[0].get("matchFields", []) if len(terms) == 1 else []
    return fields[0]["values"][0] if len(fields) == 1 and fields[0]["key"] == "metadata.name" else ""
