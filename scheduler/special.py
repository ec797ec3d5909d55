"""Makes the special claim of a pod whose extended resources a DeviceClass serves, and names it in the pod's status.

Its name follows from the pod's uid, so that a creation without an answer is found again and never done twice. It is
created with the finalizer, which saves a write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kube.errors import ClusterError, ConflictError, UnavailableError
from kube.extended import special_manifest, special_status
from kube.objects import Pod, ResourceClaim
from kube.podclaims import is_owned
from kube.resolved import SpecialClaim
from packing.dra.model import ClaimUid
from packing.model import NodeName
from scheduler.claimwriter import Window
from scheduler.faults import BindFault, FinalFault
from scheduler.ledger import Ledger
from scheduler.portions import Portion
from scheduler.reservations import PodUid
from scheduler.seams import Writes
from scheduler.view import FINALIZER

MAX_NAME = 253


@dataclass(frozen=True, slots=True)
class Promise:
    """What a pod gets on a node: its claims, allocated ones among them, and which of them is the special one."""

    claims: Sequence[ClaimUid]
    special: SpecialClaim | None = None


class SpecialClaims:
    """Creates special claims."""

    def __init__(self, ledger: Ledger, writes: Writes) -> None:
        self.ledger = ledger
        self.writes = writes

    async def make(self, pod: Pod, node: NodeName, promise: Promise, window: Window) -> Sequence[ClaimUid]:
        """Return the uids of the pod's claims, all of which exist now. Raises BindFault."""
        special = promise.special
        if special is None:
            return promise.claims
        claim = special.claim
        try:
            if not special.exists:
                claim = await self._created(pod, special, window)
            await self._named(pod, claim, special, window)
        except UnavailableError as error:
            raise BindFault(f"the claim for the pod's extended resources could not be made: {error}") from error
        except ClusterError as error:
            raise FinalFault(f"the claim for the pod's extended resources was refused: {error}") from error
        planned, made = ClaimUid(special.claim.metadata.uid), ClaimUid(claim.metadata.uid)
        self._renamed(planned, claim, node)
        return [made if each == planned else each for each in promise.claims]

    async def _created(self, pod: Pod, special: SpecialClaim, window: Window) -> ResourceClaim:
        """Return the claim of this pod, made now or before. What it asks decides what the pod gets: it is checked."""
        manifest = named_manifest(pod, special.claim)
        namespace, name = pod.metadata.namespace, manifest["metadata"]["name"]
        claim = self.ledger.view.claim(namespace, name)
        if claim is None:
            try:
                claim = await self.writes.create_claim(manifest, timeout_s=window())
            except ConflictError:
                claim = await self.writes.read_claim(namespace, name, timeout_s=window())
        if not is_owned(claim, pod):
            raise FinalFault(f"claim {namespace}/{name} exists and is not of this pod; delete it")
        if claim.spec != special.claim.spec:
            raise FinalFault(f"claim {namespace}/{name} exists and asks for something else than the pod; delete it")
        return self.ledger.view.created(claim)

    async def _named(self, pod: Pod, claim: ResourceClaim, special: SpecialClaim, window: Window) -> None:
        known = self.ledger.view.pods.get(PodUid(pod.metadata.uid), pod).status.extended_resource_claim_status
        if known is None or known.resource_claim_name != claim.metadata.name:
            status = special_status(claim.metadata.name, special.mappings)
            await self.writes.set_special(pod, status, timeout_s=window())

    def _renamed(self, planned: ClaimUid, claim: ResourceClaim, node: NodeName) -> None:
        portion = self.ledger.reservations.what(planned, node)
        made = ClaimUid(claim.metadata.uid)
        if made != planned and isinstance(portion, Portion):
            self.ledger.apply(self.ledger.reservations.rename(planned, made, {node: portion.of(claim)}))


def named_manifest(pod: Pod, claim: ResourceClaim) -> dict[str, Any]:
    """Return what to create: with a name that no other pod's claim has, and the finalizer."""
    digest = hashlib.sha256(pod.metadata.uid.encode()).hexdigest()[:10]
    suffix = f"-extended-resources-{digest}"
    manifest = special_manifest(pod, claim)
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "generateName"}
    name = pod.metadata.name[: MAX_NAME - len(suffix)] + suffix
    return {**manifest, "metadata": {**metadata, "name": name, "finalizers": [FINALIZER]}}
