"""Brings one claim of a pod to its devices: joins it where it is allocated, else writes what was promised.

Every write is made under the resourceVersion of what was read, and a write of an allocation that gets no answer is
reported as lost: its devices stay held until the claim is known to have moved on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kube.encode import GoneDeviceError
from kube.errors import ClusterError, ConflictError, NotFoundError, UnavailableError
from kube.nodeselect import selects
from kube.objects import Pod, ResourceClaim
from kube.podclaims import MAX_RESERVED
from packing.dra.model import ClaimUid
from packing.model import NodeName
from scheduler.faults import BindFault, FinalFault, VoidFault
from scheduler.ledger import Ledger
from scheduler.portions import Portion
from scheduler.seams import Writes
from scheduler.view import FINALIZER, is_allocated, reserved_pods, version_of

MAX_ATTEMPTS = 5
"""Reads after a conflict: others who write the claim are the claim controller and users, seldom and never for long."""

Encode = Callable[[Portion], Mapping[str, Any]]
"""What a claim was promised -> its `status.allocation`."""
Labels = Callable[[NodeName], Mapping[str, str] | None]
"""Labels of a node; None where it is gone."""
Window = Callable[[], float]
"""Seconds that the next write may take; raises BindFault where there is no time for one."""


@dataclass(frozen=True, slots=True)
class Written:
    """A claim to which a call of `bind` has added the pod."""

    claim: ResourceClaim


class ClaimWriter:
    """Writes claims. Its callers hold the lock of the claim."""

    def __init__(self, ledger: Ledger, writes: Writes, encode: Encode, labels: Labels) -> None:
        self.ledger = ledger
        self.view = ledger.view
        self.writes = writes
        self.encode = encode
        self.labels = labels

    async def bring(self, uid: ClaimUid, pod: Pod, node: NodeName, window: Window) -> Written | None:
        """Give the pod the claim on `node`; None where it has it. Raises BindFault with the reason."""
        name = ""
        for _ in range(MAX_ATTEMPTS):
            self.see(node)
            claim = self.view.claims.get(uid)
            if claim is None:
                raise FinalFault(f"a claim of the pod was deleted after node {node} was chosen")
            name = claim.metadata.full_name
            if uid in self.ledger.reservations.writes:
                await self._settled(claim, window)
                continue
            if is_allocated(claim) and pod.metadata.uid in reserved_pods(claim):
                self._check(claim, node)
                return None
            fresh = await self._advance(claim, pod, node, window)
            if fresh is not None and pod.metadata.uid in reserved_pods(fresh):
                return Written(fresh)
        raise BindFault(f"claim {name} keeps changing; another attempt follows")

    def see(self, node: NodeName) -> None:
        """Raise FinalFault where the node is gone: the API server would bind to it all the same."""
        if self.labels(node) is None:
            raise FinalFault(f"node {node} was deleted; another one is chosen")

    async def settle(self, claim: ResourceClaim, window: Window) -> None:
        """Touch a claim: a write of it that got no answer has landed, or can only get a conflict from now on.

        Raises ClusterError or BindFault where that is not known yet.
        """
        try:
            self.view.answered(await self.writes.touch(claim, timeout_s=window()))
        except NotFoundError:
            self._gone(claim)
        except ConflictError:
            if not await self._is_replaced(claim, window):
                raise
            self._gone(claim)

    async def take_back(self, written: Written, pod: Pod, window: Window) -> None:
        """Remove the pod from a claim, and the devices where nobody else uses it. Raises BindFault or ClusterError."""
        claim = self.view.claims.get(ClaimUid(written.claim.metadata.uid))
        if claim is not None and pod.metadata.uid in reserved_pods(claim):
            self.view.answered(await self.writes.release(claim, [pod.metadata.uid], timeout_s=window()))

    async def _settled(self, claim: ResourceClaim, window: Window) -> None:
        try:
            await self.settle(claim, window)
        except ClusterError as error:
            raise BindFault(
                f"nobody knows yet whether claim {claim.metadata.full_name} was written: {error}"
            ) from error

    async def _is_replaced(self, claim: ResourceClaim, window: Window) -> bool:
        try:
            name = (claim.metadata.namespace, claim.metadata.name)
            fresh = await self.writes.read_claim(*name, timeout_s=window())
        except NotFoundError:
            return True
        return fresh.metadata.uid != claim.metadata.uid

    def _gone(self, claim: ResourceClaim) -> None:
        self.ledger.apply(self.ledger.reservations.gone(ClaimUid(claim.metadata.uid)))

    async def _advance(self, claim: ResourceClaim, pod: Pod, node: NodeName, window: Window) -> ResourceClaim | None:
        """Do the next write that the claim needs; None where it has changed and must be looked at again."""
        try:
            if is_allocated(claim):
                self._check(claim, node)
                return self.view.answered(await self.writes.join(claim, pod, timeout_s=window()))
            if FINALIZER not in claim.metadata.finalizers:
                return self.view.answered(await self.writes.finalize(claim, timeout_s=window()))
            return await self._allocate(claim, pod, node, window)
        except ConflictError:
            await self._again(claim, window)
            return None
        except NotFoundError as error:
            raise FinalFault(f"claim {claim.metadata.full_name} was deleted") from error
        except UnavailableError as error:
            raise BindFault(f"claim {claim.metadata.full_name} could not be written: {error}") from error
        except ClusterError as error:
            raise FinalFault(f"claim {claim.metadata.full_name} was refused by the API server: {error}") from error

    async def _allocate(self, claim: ResourceClaim, pod: Pod, node: NodeName, window: Window) -> ResourceClaim:
        uid = ClaimUid(claim.metadata.uid)
        portion = self.ledger.reservations.what(uid, node)
        if not isinstance(portion, Portion):
            raise VoidFault(
                f"the devices of claim {claim.metadata.full_name} on node {node} were given up; they are chosen anew"
            )
        try:
            content, timeout_s = self.encode(portion), window()
        except GoneDeviceError as gone:
            raise VoidFault(f"claim {claim.metadata.full_name}: {gone}; devices are chosen anew") from gone
        self.ledger.reservations.write(uid, node, version_of(claim))
        try:
            fresh = await self.writes.allocate(claim, content, pod, timeout_s=timeout_s)
        except BaseException as error:
            refused = isinstance(error, ClusterError) and not is_unknown(error)
            end = self.ledger.reservations.refused if refused else self.ledger.reservations.lost
            self.ledger.apply(end(uid))
            raise
        return self.view.answered(fresh)

    async def _again(self, claim: ResourceClaim, window: Window) -> None:
        """Read a claim that has moved on."""
        fresh = await self._guarded(self.writes.read_claim, claim, window)
        if fresh.metadata.uid != claim.metadata.uid:
            raise FinalFault(f"claim {claim.metadata.full_name} was deleted, and another of its name was made")
        self.view.answered(fresh)

    async def _guarded(
        self, read: Callable[..., Awaitable[ResourceClaim]], claim: ResourceClaim, window: Window
    ) -> ResourceClaim:
        try:
            return await read(claim.metadata.namespace, claim.metadata.name, timeout_s=window())
        except NotFoundError as error:
            raise FinalFault(f"claim {claim.metadata.full_name} was deleted") from error
        except ClusterError as error:
            raise BindFault(f"claim {claim.metadata.full_name} could not be read: {error}") from error

    def _check(self, claim: ResourceClaim, node: NodeName) -> None:
        allocation = claim.status.allocation
        assert allocation is not None
        if not selects(allocation.node_selector, node, self.labels(node) or {}):
            raise FinalFault(
                f"claim {claim.metadata.full_name} was allocated in the meantime, and its devices are not on {node}"
            )
        if len(reserved_pods(claim)) >= MAX_RESERVED:
            raise FinalFault(f"claim {claim.metadata.full_name} is used by {MAX_RESERVED} pods, no more can")


def is_unknown(error: ClusterError) -> bool:
    """Whether a write that failed so may have been done: no answer, or one that does not say."""
    return isinstance(error, UnavailableError) and error.status != 429
