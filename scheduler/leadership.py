"""Whether this replica may write claims: while its own kube-scheduler holds the Lease, and with time to spare.

kube-scheduler stops being leader `renewDeadline` after its last renewal, and another may take the Lease
`leaseDuration` after it, which is later. When the renewal was, we know from our own clock alone: it was after the last
read that did not show it yet. So neither a wrong clock nor a watch that lags can make us write too long; a replica that
has just started waits for one renewal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from kube.errors import ClusterError
from kube.objects import Lease
from scheduler.faults import BindFault

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """As in kube-scheduler's `leaderElection`. `identity` is its host name: it adds "_" and a random part to it."""

    identity: str
    renew_deadline_s: float = 10.0
    read_every_s: float = 1.0


@dataclass(slots=True)
class Fence:
    """How long claims may be written. Pure: readings of the Lease go in, with when they were asked."""

    settings: LeaseSettings
    term: int = 0
    """Grows each time that the Lease becomes ours or may have been another's in between."""
    _record: tuple[str, str] | None = None
    _asked_at: float = 0.0
    _until: float = 0.0
    _ours: bool = False

    def read(self, lease: Lease, asked_at: float) -> None:
        """Learn what a read showed that was sent at `asked_at` (our clock) and saw the latest state."""
        spec = lease.spec
        record = (spec.holder_identity, str(spec.renew_time))
        ours = spec.holder_identity.startswith(f"{self.settings.identity}_")
        if ours and (not self._ours or asked_at >= self._until > 0):
            self.term += 1
        self._ours = ours
        if not ours:
            self._until = 0.0
        elif self._record is not None and record != self._record:
            self._until = self._asked_at + self.settings.renew_deadline_s
        self._record, self._asked_at = record, asked_at

    def left(self, now: float) -> float:
        """Return the seconds for which claims may be written."""
        return self._until - now if self._ours else 0.0


class LeaseReader(Protocol):
    """The API server, as far as the Lease goes."""

    async def read_lease(self, *, timeout_s: float) -> Lease:
        """Return the Lease as it is now, from a majority of etcd."""
        ...


class Leadership:
    """Follows the Lease, and takes over before anything is decided: `leads` is true after that alone."""

    def __init__(
        self,
        settings: LeaseSettings,
        reader: LeaseReader,
        clock: Callable[[], float],
        take_over: Callable[[], Awaitable[None]],
        lost: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.fence = Fence(settings)
        self.reader = reader
        self.clock = clock
        self.take_over = take_over
        self.lost = lost
        self.closed = False
        self._taken_over = 0

    def left(self) -> float:
        """Return the seconds for which claims may be written."""
        return 0.0 if self.closed else self.fence.left(self.clock())

    def leads(self) -> bool:
        """Whether decisions may be made: the Lease is ours, and what a former leader left is harmless."""
        return self.left() > 0 and self._taken_over == self.fence.term

    def close(self) -> None:
        """Write no more: the process ends. Its kube-scheduler must end after it, since that gives the Lease back."""
        self.closed = True

    async def follow(self) -> None:
        """Read the Lease for ever."""
        while True:
            await self.step()
            await asyncio.sleep(self.settings.read_every_s)

    async def step(self) -> None:
        """Read the Lease once, and take over where it has become ours."""
        asked_at, led = self.clock(), 0 < self._taken_over == self.fence.term
        try:
            lease = await self.reader.read_lease(timeout_s=self.settings.read_every_s * 2)
        except ClusterError as error:
            log.warning("lease not read: %s", error)
        else:
            self.fence.read(lease, asked_at)
        if led and self.left() <= 0:
            self._taken_over = 0
            self.lost()
        term = self.fence.term
        if self.left() > 0 and self._taken_over != term:
            await self._take_over(term)

    async def _take_over(self, term: int) -> None:
        try:
            await self.take_over()
        except (ClusterError, BindFault) as error:
            log.warning("not taken over: %s", error)
            return
        if term == self.fence.term and self.left() > 0:
            self._taken_over = term
            log.info("leading term=%d", term)
