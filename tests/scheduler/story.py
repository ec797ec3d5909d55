"""`filter`, then `bind`, on a model of the API server: one replica, told when to hear; its calls can be made fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from kube.objects import Pod
from scheduler.wire import ExtenderArgs, FilterResult, Wishes
from tests.scheduler.modelapi import ModelApi
from tests.scheduler.modelreplica import Replica

NONE = Wishes()
NODES = {"n0": ("a0", "a1"), "n1": ("b0", "b1")}


class Story:
    """A replica that leads, hears of everything at once when told to, and whose calls are answered at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lease = 10.0
        self.term = 1
        self.api = ModelApi()
        self.replica = self.new_replica()

    def new_replica(self) -> Replica:
        return Replica(
            self.api, NODES, left=lambda _: self.lease, term=lambda _: self.term, clock=lambda: self.now, direct=True
        )

    def pod(self, name: str, own: int = 1, shared: tuple[str, ...] = ()) -> Pod:
        made = [f"{name}-{at}" for at in range(own)]
        claims = [{"name": each, "resourceClaimName": each} for each in (*made, *shared)]
        pod = self.api.new_pod(name, {"resourceClaims": claims})
        for each in made:
            self.api.new_claim(each, pod)
        self.hear()
        return pod

    def hear(self) -> None:
        self.replica.sync("claims")
        self.replica.sync("pods")

    def filter(self, pod: Pod, *among: str, wishes: Wishes = NONE) -> FilterResult:
        names = among or tuple(NODES)
        return self.replica.decider.filter(ExtenderArgs(pod=pod, node_names=names, wishes=wishes))

    def bind(self, pod: Pod, node: str) -> Coroutine[Any, Any, str]:
        return self.replica.binder.bind("ns", pod.metadata.name, pod.metadata.uid, node)

    def place(self, pod: Pod) -> str:
        (node,) = self.filter(pod).node_names
        assert run(self.bind(pod, node)) == ""
        return node

    def held(self) -> bool:
        reservations = self.replica.ledger.reservations
        return bool(reservations.pods or reservations.plans or reservations.writes or self.replica.cluster.holds)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def to_end() -> Any:
        result = await work
        for _ in range(20):
            await asyncio.sleep(0)
        return result

    return asyncio.run(to_end())


def fail_once(story: Story, call: str, error: Exception, *, after: bool = False) -> None:
    """Let the next such call fail, before or after the API server has done it."""
    real: Callable[..., Any] = getattr(story.replica.writes, call)

    async def failing(*args: Any, **kwargs: Any) -> Any:
        setattr(story.replica.writes, call, real)
        if after:
            await real(*args, **kwargs)
        raise error

    setattr(story.replica.writes, call, failing)
