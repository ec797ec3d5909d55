"""Ends what is unknown: writes that got no answer, Bindings that got none, and what a former leader left on its way.

A claim is touched, which gives it a new resourceVersion whatever its state: the answer tells whether the write landed,
and if it had not, it can only get a conflict from now on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from kube.errors import ClusterError, NotFoundError
from kube.objects import Pod, ResourceClaim
from packing.dra.model import ClaimUid
from scheduler.bind import Binder
from scheduler.faults import BindFault
from scheduler.reservations import PodUid
from scheduler.view import FINALIZER, is_allocated

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Claims that a new leader touches at the same time."""
LIST_S = 60.0
"""How long it may take to list all claims: no write, so it may outlast the fence; the Lease is read meanwhile."""


class Settler:
    """Settles what a binder had to leave open. Every call may fail and be repeated."""

    def __init__(self, binder: Binder) -> None:
        self.binder = binder
        self.ledger = binder.ledger
        self.writes = binder.writes
        self._tasks: set[asyncio.Task[None]] = set()
        self._touched: set[ClaimUid] = set()
        """Claims that a take-over of this term has touched: where it fails, the next one goes on from there."""
        self._touched_in = 0
        self.ledger.on_unknown = self.soon

    def soon(self, claim: ClaimUid) -> None:
        """Settle a claim in the background; what fails then is tried again by `all`."""
        task = asyncio.get_running_loop().create_task(self.claim(claim))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def all(self) -> None:
        """Try once to settle everything that is unknown."""
        for claim in self.ledger.reservations.unknown():
            await self.claim(claim)
        for pod in list(self.binder.unbound):
            await self.pod(pod)

    async def claim(self, uid: ClaimUid) -> None:
        """Try once to find out what became of a write."""
        async with self.binder.locks.of(uid):
            claim = self.ledger.view.claims.get(uid)
            if claim is None or uid not in self.ledger.reservations.unknown():
                return
            try:
                await self.binder.claims.settle(claim, self._window)
            except (ClusterError, BindFault) as error:
                log.warning("not settled claim=%s/%s: %s", claim.metadata.namespace, claim.metadata.name, error)

    async def pod(self, uid: PodUid) -> None:
        """Try once to find out whether a Binding landed. One that does not show in time has not."""
        async with self.binder.locks.of(uid):
            unbound = self.binder.unbound.get(uid)
            if unbound is None:
                return
            pod = self.ledger.view.pods.get(uid, unbound.pod)
            if pod.spec.node_name or uid not in self.ledger.reservations.pods:
                del self.binder.unbound[uid]
                return
            if self.binder.clock() - unbound.since < self.binder.settings.binding_settles_s:
                return
            await self._read(pod)

    async def take_over(self) -> None:
        """Make what a former leader may have left on its way harmless. Raises ClusterError or BindFault; then again.

        An allocation is written to claims with our finalizer alone: of these, those without one are touched.
        """
        await self.binder.ended()  # what an earlier term of ours began writes no more, and ends soon
        claims = await self.writes.list_claims(timeout_s=LIST_S)
        for claim in claims:
            self.ledger.view.listed(claim)
        term = self.binder.fence.term()
        if term != self._touched_in:
            self._touched_in, self._touched = term, set()
        left = [claim for claim in open_writes(claims) if claim.metadata.uid not in self._touched]
        for at in range(0, len(left), AT_ONCE):
            ends = await asyncio.gather(*map(self._taken_over, left[at : at + AT_ONCE]), return_exceptions=True)
            for end in ends:
                if end is not None:
                    raise end

    async def _taken_over(self, claim: ResourceClaim) -> None:
        async with self.binder.locks.of(claim.metadata.uid):
            await self.binder.claims.settle(claim, self._window)
            self._touched.add(ClaimUid(claim.metadata.uid))

    async def _read(self, pod: Pod) -> None:
        """See what a pod has become, whether we lead or not."""
        uid, reservations = PodUid(pod.metadata.uid), self.ledger.reservations
        try:
            name = (pod.metadata.namespace, pod.metadata.name)
            fresh = await self.writes.read_pod(*name, timeout_s=self.binder.settings.write_s)
        except NotFoundError:
            fresh = None
        except ClusterError:
            return
        if fresh is not None and fresh.metadata.uid == uid and fresh.spec.node_name:
            return  # the watch will tell
        del self.binder.unbound[uid]
        if fresh is None or fresh.metadata.uid != uid:
            self.ledger.apply(reservations.pod_gone(uid))  # the watch may never have shown it, nor tell of its end
        else:
            self.ledger.apply(reservations.failed(uid, self.binder.clock()))

    def _window(self) -> float:
        return self.binder.window(self.binder.begin(self.binder.settings.write_s))


def open_writes(claims: Sequence[ResourceClaim]) -> list[ResourceClaim]:
    """Return the claims to which an allocation may be on its way."""
    return [claim for claim in claims if not is_allocated(claim) and FINALIZER in claim.metadata.finalizers]
