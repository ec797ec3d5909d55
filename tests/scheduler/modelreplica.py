"""One replica of the scheduler, the real one, on the model of the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from scheduler.bind import Binder
from scheduler.claimwriter import ClaimWriter
from scheduler.decider import Decider, DecideSettings
from scheduler.ledger import Ledger
from scheduler.reservations import Reservations
from scheduler.settle import Settler
from scheduler.special import SpecialClaims
from tests.scheduler.modelapi import ModelApi, ModelWrites, time_out
from tests.scheduler.modelcluster import ModelCluster, encode


class Replica:
    """Decider, binder and settler over a view that is as old as a test lets it be."""

    def __init__(
        self,
        api: ModelApi,
        nodes: dict[str, tuple[str, ...]],
        *,
        left: Callable[[Replica], float],
        term: Callable[[Replica], int] = lambda _: 1,
        clock: Callable[[], float],
        slack: float = 0.0,
        direct: bool = False,
    ) -> None:
        self.api = api
        self.at = {"claims": 0, "pods": 0}
        self.leading: Callable[[Replica], bool] = lambda _: True
        self.cluster = ModelCluster(nodes)
        self.ledger = Ledger(self.cluster, Reservations())
        self.writes = ModelWrites(api, self, direct)
        settings = DecideSettings(slack=slack)
        self.decider = Decider(
            self.cluster, self.ledger, leads=lambda: self.leading(self), clock=clock, settings=settings
        )
        claims = ClaimWriter(self.ledger, self.writes, encode, labels=lambda _node: {})
        self.binder = Binder(
            self.ledger,
            self.writes,
            claims,
            special=SpecialClaims(self.ledger, self.writes),
            promises=self.decider,
            fence=SimpleNamespace(left=lambda: left(self), term=lambda: term(self)),
            clock=clock,
        )
        self.decider.binder = self.binder
        self.settler = Settler(self.binder)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.relist()

    def relist(self) -> None:
        """Start the watches anew."""
        self.ledger.view.replace_claims(list(self.api.claims.values()))
        self.ledger.view.replace_pods(list(self.api.pods.values()))
        self.at = {kind: len(log) for kind, log in self.api.log.items()}

    def sync(self, kind: str, count: int | None = None) -> None:
        """Let the next events of a kind arrive, or all of them."""
        log, view = self.api.log[kind], self.ledger.view
        end = len(log) if count is None else min(len(log), self.at[kind] + count)
        put, remove = (view.put_claim, view.remove_claim) if kind == "claims" else (view.put_pod, view.remove_pod)
        for what, obj in log[self.at[kind] : end]:
            (put if what == "put" else remove)(obj)
        self.at[kind] = end

    def start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.api.faults.append(task.exception())

    def crash(self) -> None:
        """End at once; what is on its way may still land."""
        self.writes.dead = True
        for request in self.api.inflight:
            if request.sender is self:
                time_out(request)
        for task in [*self.tasks, *self.binder._running.values(), *self.settler._tasks]:
            task.cancel()
