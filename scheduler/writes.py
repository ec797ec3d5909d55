"""The scheduler's writes as calls of the API server: merge patches under the resourceVersion of what was read.

A patch carries what it changes alone, so that fields of newer servers, which we do not read, stay as they are.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kube.client import ApiClient
from kube.decoding import decoder
from kube.events import About, Events
from kube.kinds import CLAIMS, LEASES, PODS
from kube.objects import Lease, Pod, ResourceClaim
from kube.transport import within
from scheduler.settings import LeaseName
from scheduler.view import FINALIZER

REPORTER = "dovetail-scheduler"
"""Who tells, in events."""


class ApiWrites:
    """Implements `scheduler.seams.Writes`."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._events = Events(client, reporter=REPORTER, clock=time.monotonic, instance=socket.gethostname())

    async def read_claim(self, namespace: str, name: str, *, timeout_s: float) -> ResourceClaim:
        """Return a claim as it is now."""
        return await within(timeout_s, self._client.get(CLAIMS, namespace, name))

    async def list_claims(self, *, timeout_s: float) -> Sequence[ResourceClaim]:
        """Return all claims as they are now."""
        return await within(timeout_s, self._client.list_all(CLAIMS))

    async def read_pod(self, namespace: str, name: str, *, timeout_s: float) -> Pod:
        """Return a pod as it is now."""
        return await within(timeout_s, self._client.get(PODS, namespace, name))

    async def finalize(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        """Add the finalizer."""
        return await self._patch(claim, {"finalizers": [*claim.metadata.finalizers, FINALIZER]}, None, timeout_s)

    async def allocate(
        self, claim: ResourceClaim, allocation: Mapping[str, Any], pod: Pod, *, timeout_s: float
    ) -> ResourceClaim:
        """Write allocation and reservation in one."""
        status = {"allocation": allocation, "reservedFor": [*_consumers(claim), _consumer(pod)]}
        return await self._patch(claim, {}, status, timeout_s)

    async def join(self, claim: ResourceClaim, pod: Pod, *, timeout_s: float) -> ResourceClaim:
        """Add the pod to those the claim is reserved for."""
        return await self._patch(claim, {}, {"reservedFor": [*_consumers(claim), _consumer(pod)]}, timeout_s)

    async def release(self, claim: ResourceClaim, pods: Sequence[str], *, timeout_s: float) -> ResourceClaim:
        """Remove pods from its users, and the allocation where none is left."""
        left = [each for each in _consumers(claim) if each["uid"] not in pods]
        status: dict[str, Any] = {"reservedFor": left} if left else {"reservedFor": None, "allocation": None}
        return await self._patch(claim, {}, status, timeout_s)

    async def touch(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        """Give the claim a new resourceVersion whatever its state."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        metadata = {"uid": claim.metadata.uid, "annotations": {"dovetail.dev/touched": now}}
        found = await within(timeout_s, self._client.patch(CLAIMS, *_where(claim), {"metadata": metadata}))
        return _decoded(found)

    async def unfinalize(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        """Remove the finalizer."""
        left = [each for each in claim.metadata.finalizers if each != FINALIZER]
        return await self._patch(claim, {"finalizers": left}, None, timeout_s)

    async def create_claim(self, claim: Mapping[str, Any], *, timeout_s: float) -> ResourceClaim:
        """Create a claim."""
        return _decoded(await within(timeout_s, self._client.create(CLAIMS, claim)))

    async def set_special(self, pod: Pod, status: Mapping[str, Any], *, timeout_s: float) -> None:
        """Write the pod's extendedResourceClaimStatus."""
        change = {"metadata": {"uid": pod.metadata.uid}, "status": {"extendedResourceClaimStatus": status}}
        where = (pod.metadata.namespace, pod.metadata.name)
        await within(timeout_s, self._client.patch(PODS, *where, change, subresource="status"))

    async def bind(self, pod: Pod, node: str, *, timeout_s: float) -> None:
        """Bind a pod of this uid."""
        metadata = pod.metadata
        await within(timeout_s, self._client.bind(metadata.namespace, metadata.name, metadata.uid, node))

    async def delete_pod(self, pod: Pod, *, timeout_s: float) -> None:
        """Delete the pod if it has not changed since it was read."""
        at = pod.metadata
        call = self._client.delete(PODS, at.namespace, at.name, uid=at.uid, resource_version=at.resource_version)
        await within(timeout_s, call)

    async def event(self, pod: Pod, reason: str, text: str, *, timeout_s: float) -> None:
        """Tell the pod's owner; an event that cannot be written is logged."""
        await self._events.warn(About.of(PODS, pod.metadata), reason, text, timeout_s=timeout_s)

    async def _patch(
        self, claim: ResourceClaim, metadata: Mapping[str, Any], status: Mapping[str, Any] | None, timeout_s: float
    ) -> ResourceClaim:
        at = claim.metadata
        change: dict[str, Any] = {"metadata": {"uid": at.uid, "resourceVersion": at.resource_version, **metadata}}
        subresource = ""
        if status is not None:
            change["status"], subresource = status, "status"
        call = self._client.patch(CLAIMS, *_where(claim), change, subresource=subresource)
        return _decoded(await within(timeout_s, call))


class LeaseOf:
    """Reads one Lease, and marks it."""

    def __init__(self, client: ApiClient, name: LeaseName) -> None:
        self._client = client
        self._name = name

    async def read_lease(self, *, timeout_s: float) -> Lease:
        """Return it as it is now."""
        return await within(timeout_s, self._client.get(LEASES, *self._name))

    async def mark_lease(self, lease: Lease, key: str, value: str | None, *, timeout_s: float) -> None:
        """Set an annotation, or remove it."""
        change = {"metadata": {"resourceVersion": lease.metadata.resource_version, "annotations": {key: value}}}
        await within(timeout_s, self._client.patch(LEASES, *self._name, change))


_decoded = decoder(CLAIMS).converted
"""Reads what the API server stored; null is the same as nothing, and what is malformed is a ClusterError."""


def _where(claim: ResourceClaim) -> tuple[str, str]:
    return claim.metadata.namespace, claim.metadata.name


def _consumers(claim: ResourceClaim) -> list[dict[str, Any]]:
    return [
        {"apiGroup": each.api_group, "resource": each.resource, "name": each.name, "uid": each.uid}
        if each.api_group
        else {"resource": each.resource, "name": each.name, "uid": each.uid}
        for each in claim.status.reserved_for
    ]


def _consumer(pod: Pod) -> dict[str, str]:
    return {"resource": "pods", "name": pod.metadata.name, "uid": pod.metadata.uid}
