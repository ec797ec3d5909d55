"""What the scheduler writes, as a protocol: `scheduler.writes.ApiWrites` is the API server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kube.objects import Pod, ResourceClaim
from packing.dra.model import ClaimUid


class Writes(Protocol):
    """The API server, as far as the scheduler writes. Raises `kube.errors`; no call outlasts its time-out."""

    async def read_claim(self, namespace: str, name: str, *, timeout_s: float) -> ResourceClaim:
        """Return a claim as it is now."""
        ...

    async def list_claims(self, *, timeout_s: float) -> Sequence[ResourceClaim]:
        """Return all claims as they are now."""
        ...

    async def read_pod(self, namespace: str, name: str, *, timeout_s: float) -> Pod:
        """Return a pod as it is now."""
        ...

    async def finalize(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        """Add the finalizer, under the claim's resourceVersion."""
        ...

    async def allocate(
        self, claim: ResourceClaim, allocation: Mapping[str, Any], pod: Pod, *, timeout_s: float
    ) -> ResourceClaim:
        """Write allocation and reservation in one, under the claim's resourceVersion."""
        ...

    async def join(self, claim: ResourceClaim, pod: Pod, *, timeout_s: float) -> ResourceClaim:
        """Add the pod to those the claim is reserved for, under the claim's resourceVersion."""
        ...

    async def release(self, claim: ResourceClaim, pods: Sequence[str], *, timeout_s: float) -> ResourceClaim:
        """Remove pods (uids) from its users, and the allocation where none is left, under its resourceVersion."""
        ...

    async def touch(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        """Give the claim a new resourceVersion whatever its state, and return it. ConflictError: of another uid."""
        ...

    async def unfinalize(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        """Remove the finalizer, under the claim's resourceVersion."""
        ...

    async def create_claim(self, claim: Mapping[str, Any], *, timeout_s: float) -> ResourceClaim:
        """Create a claim. ConflictError: there is one of this name."""
        ...

    async def set_special(self, pod: Pod, status: Mapping[str, Any], *, timeout_s: float) -> None:
        """Write the pod's extendedResourceClaimStatus."""
        ...

    async def bind(self, pod: Pod, node: str, *, timeout_s: float) -> None:
        """Bind a pod of this uid. ConflictError: it has a node, or another uid."""
        ...

    async def delete_pod(self, pod: Pod, *, timeout_s: float) -> None:
        """Delete the pod if it has not changed since it was read."""
        ...

    async def event(self, pod: Pod, reason: str, text: str, *, timeout_s: float) -> None:
        """Tell the pod's owner in an event of type Warning. Never raises: an event stops nothing."""
        ...


def claim_key(claim: ResourceClaim) -> ClaimUid:
    """Return the uid of a claim."""
    return ClaimUid(claim.metadata.uid)
