"""Whether this replica may write claims: while its own kube-scheduler holds the Lease, and with time to spare.

kube-scheduler stops being leader `renewDeadline` after its last renewal, and another may take the Lease
`leaseDuration` after it, which is later. When the renewal was, we know from our own clock alone: it was after the last
read that did not show it yet. So neither a wrong clock nor a watch that lags can make us write too long; a replica that
has just started waits for one renewal.

kube-scheduler can also end alone, and gives the Lease back then, while the extender beside it has not read that yet:
its fence stays open, `renewDeadline` after the last renewal at most. So a new leader waits that long from its first
sight of its own tenure, unless the extender of the tenure before has left a mark on the Lease: it writes no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from kube.errors import ClusterError, ConflictError
from kube.objects import Lease
from scheduler.faults import BindFault

log = logging.getLogger(__name__)

DRAINED = "dovetail.dev/drained"
"""Annotation of the Lease: the tenure whose extender has ended after its last write."""
MARK_ATTEMPTS = 5
"""kube-scheduler writes the Lease every two seconds, so two conflicts in a row are rare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """As in kube-scheduler's `leaderElection`. `identity` is its host name: it adds "_" and a random part to it."""

    identity: str
    renew_deadline_s: float = 10.0
    read_every_s: float = 1.0


class Tenure(NamedTuple):
    """One time that somebody holds the Lease. Each acquisition that follows another's counts a transition."""

    holder: str
    transitions: int


def tenure_of(lease: Lease) -> Tenure:
    """Return who holds the Lease, and for the how manieth time it is held."""
    return Tenure(lease.spec.holder_identity, lease.spec.lease_transitions)


@dataclass(slots=True)
class Fence:
    """How long claims may be written. Pure: readings of the Lease go in, with when they were asked and answered."""

    settings: LeaseSettings
    term: int = 0
    """Grows each time that the Lease becomes ours or may have been another's in between."""
    tenure: Tenure | None = None
    """As last read."""
    ours: bool = False
    drained: str = ""
    """The mark on the Lease, as last read."""
    _renewal: str = ""
    _asked_at: float = 0.0
    _until: float = 0.0
    _alone_from: float = 0.0

    def read(self, lease: Lease, asked_at: float, now: float) -> None:
        """Learn what a read showed that was sent at `asked_at` (our clock), saw the latest state, and came `now`."""
        tenure, renewal = tenure_of(lease), str(lease.spec.renew_time)
        former, self.ours = self.tenure, tenure.holder.startswith(f"{self.settings.identity}_")
        self.drained = lease.metadata.annotations.get(DRAINED, "")
        if self.ours and (tenure != former or asked_at >= self._until > 0):
            self.term += 1
        if tenure != former:
            self._until = 0.0
            self._alone_from = now + self._others_may_write_s(tenure, first=former is None)
        if not self.ours:
            self._until = 0.0
        elif former is not None and (tenure, renewal) != (former, self._renewal):
            self._until = self._asked_at + self.settings.renew_deadline_s
        self.tenure, self._renewal, self._asked_at = tenure, renewal, asked_at

    def left(self, now: float) -> float:
        """Return the seconds for which claims may be written."""
        return self._until - now if self.ours else 0.0

    def alone(self, now: float) -> bool:
        """Whether the fence of every extender that led before must have closed."""
        return self.ours and now >= self._alone_from

    def _others_may_write_s(self, tenure: Tenure, *, first: bool) -> float:
        """Return how long a former leader's fence may still be open: not at all where there was none, or it ended."""
        never_held = first and tenure.transitions == 0
        known = {str(tenure.transitions), str(tenure.transitions - 1)}
        return 0.0 if never_held or self.drained in known else self.settings.renew_deadline_s


class LeaseAccess(Protocol):
    """The API server, as far as the Lease goes."""

    async def read_lease(self, *, timeout_s: float) -> Lease:
        """Return the Lease as it is now, from a majority of etcd."""
        ...

    async def mark_lease(self, lease: Lease, key: str, value: str | None, *, timeout_s: float) -> None:
        """Set an annotation, or remove it, under the resourceVersion of what was read."""
        ...


class Leadership:
    """Follows the Lease, and takes over before anything is decided: `leads` is true after that alone."""

    def __init__(
        self,
        settings: LeaseSettings,
        access: LeaseAccess,
        clock: Callable[[], float],
        take_over: Callable[[], Awaitable[None]],
        lost: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.fence = Fence(settings)
        self.access = access
        self.clock = clock
        self.take_over = take_over
        self.lost = lost
        self.closed = False
        self._taken_over = 0
        self._news = asyncio.Event()

    def left(self) -> float:
        """Return the seconds for which claims may be written."""
        return 0.0 if self.closed else self.fence.left(self.clock())

    def term(self) -> int:
        """Return the term of leadership: what was begun in one is not written in another."""
        return self.fence.term

    def leads(self) -> bool:
        """Whether decisions may be made: the Lease is ours, and what a former leader left is harmless."""
        return self.left() > 0 and self._taken_over == self.fence.term

    async def close(self) -> None:
        """Write no more: the process ends. The next leader is told, where we led, so that it need not wait."""
        led, self.closed = self._taken_over == self.fence.term > 0, True
        tenure = self.fence.tenure
        if led and tenure is not None:
            await self._mark(tenure, str(tenure.transitions))

    async def follow(self) -> None:
        """Read the Lease for ever, and take over beside that: a take-over may last longer than a lease."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_over_where_due())
            while True:
                await self.read()
                self._news.set()
                await asyncio.sleep(self.settings.read_every_s)

    async def step(self) -> None:
        """Read the Lease once, and take over where it has become ours."""
        await self.read()
        await self.try_take_over()

    async def read(self) -> None:
        """Read the Lease once."""
        asked_at, led = self.clock(), 0 < self._taken_over == self.fence.term
        try:
            lease = await self.access.read_lease(timeout_s=self.settings.read_every_s * 2)
        except ClusterError as error:
            log.warning("lease not read: %s", error)
        else:
            self.fence.read(lease, asked_at, self.clock())
        if led and not self.leads():
            self._taken_over = 0
            self.lost()

    async def try_take_over(self) -> None:
        """Take over once, where the Lease is ours and nobody else can be writing."""
        term, tenure = self.fence.term, self.fence.tenure
        if self.left() <= 0 or self._taken_over == term or tenure is None or not self.fence.alone(self.clock()):
            return
        if self.fence.drained == str(tenure.transitions) and not await self._mark(tenure, None):
            return  # of an extender that ended beside our kube-scheduler: it must not speak for us
        try:
            await self.take_over()
        except (ClusterError, BindFault) as error:
            log.warning("not taken over: %s", error)
            return
        if term == self.fence.term and self.left() > 0:
            self._taken_over = term
            log.info("leading term=%d", term)

    async def _take_over_where_due(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self.try_take_over()

    async def _mark(self, tenure: Tenure, value: str | None) -> bool:
        """Set the mark of a tenure, or remove it; a write that comes too late gets a conflict."""
        for _ in range(MARK_ATTEMPTS):
            try:
                lease = await self.access.read_lease(timeout_s=self.settings.read_every_s)
                if tenure_of(lease) != tenure:
                    return False
                await self.access.mark_lease(lease, DRAINED, value, timeout_s=self.settings.read_every_s)
            except ConflictError:
                continue
            except ClusterError as error:
                log.warning("lease not marked: %s", error)
                return False
            return True
        return False
