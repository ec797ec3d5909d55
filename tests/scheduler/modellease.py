"""A Lease that two kube-schedulers take from each other, and replicas that read it when a test lets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kube.errors import ConflictError
from kube.objects import Lease, LeaseSpec, Metadata
from scheduler.leadership import Leadership, LeaseSettings
from tests.scheduler.modelapi import ModelApi
from tests.scheduler.modelreplica import Replica

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class ModelLease:
    holder: int = 0
    """Which replica's kube-scheduler holds it."""
    transitions: int = 0
    renewals: int = 0
    drained: str | None = None

    def acquire(self, holder: int) -> None:
        self.holder = holder
        self.transitions += 1
        self.renewals += 1

    async def read_lease(self, *, timeout_s: float) -> Lease:
        spec = LeaseSpec(
            holder_identity=f"replica-{self.holder}_{self.transitions}",
            renew_time=EPOCH + timedelta(seconds=self.renewals),
            lease_transitions=self.transitions,
        )
        annotations = {} if self.drained is None else {"dovetail.dev/drained": self.drained}
        version = str(self.renewals)
        return Lease(metadata=Metadata(name="dovetail", annotations=annotations, resource_version=version), spec=spec)

    async def mark_lease(self, lease: Lease, key: str, value: str | None, *, timeout_s: float) -> None:
        assert key == "dovetail.dev/drained"
        if lease.metadata.resource_version != str(self.renewals):
            raise ConflictError("it has moved on", status=409)
        self.drained = value
        self.renewals += 1  # a new version


class LedReplica(Replica):
    """A replica that follows the Lease."""

    def __init__(
        self,
        api: ModelApi,
        nodes: dict[str, tuple[str, ...]],
        lease: ModelLease,
        which: int,
        *,
        clock: Callable[[], float],
        slack: float = 0.0,
    ) -> None:
        super().__init__(
            api,
            nodes,
            left=lambda _: self.leadership.left(),
            term=lambda _: self.leadership.term(),
            clock=clock,
            slack=slack,
        )
        self.leading = lambda _: self.leadership.leads()
        settings = LeaseSettings(identity=f"replica-{which}")
        lost = lambda: self.ledger.apply(self.ledger.reservations.retire())  # noqa: E731
        self.leadership = Leadership(settings, lease, clock, self.settler.take_over, lost)
