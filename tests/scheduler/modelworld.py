"""All interleavings of the scheduler's verbs with lagging watches, time-outs, late writes, crashes and two replicas.

The machine runs the real decider, binder and settler; what a test chooses is when each call reaches the API server,
when its answer arrives, and when each replica hears of what.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kube.errors import ClusterError
from kube.objects import Pod
from scheduler.faults import BindFault
from scheduler.wire import ExtenderArgs, Wishes
from tests.scheduler.modelapi import ModelApi, Request, deliver, devices_of, time_out
from tests.scheduler.modelreplica import Replica

NODES = {"n0": ("a0", "a1"), "n1": ("b0", "b1")}
SHAPES: list[dict[str, Any]] = [
    {"own": 1},
    {"own": 2},
    {"shared": 1},
    {"own": 1, "shared": 1},
]
RENEW_S, LEASE_S = 10.0, 15.0
at = st.integers(min_value=0, max_value=7)


class World(RuleBasedStateMachine):
    """Two replicas, two nodes with two GPUs each, and everything that may happen to a write."""

    slack = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.api = ModelApi()
        self.holder, self.term = 0, 1
        self.until = self.now + RENEW_S
        self.made = 0
        self.chosen: dict[str, tuple[Replica, str]] = {}
        self.replicas = [self._replica(), self._replica()]

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        for name in ("shared-0", "shared-1"):
            self.api.new_claim(name)
        self._everyone_hears()
        self.take_over()
        self._quiet()

    # Time and leadership

    def leads(self, replica: Replica) -> bool:
        return replica.term == self.term and self.left(replica) > 0

    def left(self, replica: object) -> float:
        return self.until - self.now if self.replicas[self.holder] is replica else 0.0

    @rule(seconds=st.sampled_from([1.0, 6.0, 21.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def renew(self) -> None:
        if self.now < self.until:
            self.until = self.now + RENEW_S

    @rule()
    def other_acquires(self) -> None:
        if self.now >= self.until + LEASE_S - RENEW_S:
            self.holder, self.term = 1 - self.holder, self.term + 1
            self.until = self.now + RENEW_S

    @rule()
    def take_over(self) -> None:
        replica = self.replicas[self.holder]
        if replica.term != self.term:
            self._start(replica, replica.take_over(self.term))

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        self.replicas[which].crash()
        self._spin()
        self.replicas[which] = self._replica()

    # Users and controllers

    @rule(shape=st.sampled_from(SHAPES), which=st.integers(0, 1))
    def new_pod(self, shape: dict[str, int], which: int) -> None:
        if len(self.api.pods) < 5:
            self.made += 1
            own = [f"pod-{self.made}-{at}" for at in range(shape.get("own", 0))]
            names = own + ([f"shared-{which}"] if "shared" in shape else [])
            claims = [{"name": name, "resourceClaimName": name} for name in names]
            pod = self.api.new_pod(f"pod-{self.made}", {"resourceClaims": claims})
            for name in own:
                self.api.new_claim(name, pod)

    @rule(which=at)
    def delete_pod(self, which: int) -> None:
        if self.api.pods:
            self.api.remove_pod(sorted(self.api.pods)[which % len(self.api.pods)])

    @rule(which=st.integers(0, 1))
    def replace_shared_claim(self, which: int) -> None:
        name = f"shared-{which}"
        if self.api.claims[name].status.allocation is None:
            self.api.remove_claim(name)
            self.api.new_claim(name)

    @rule()
    def collect(self) -> None:
        self.api.collect()

    # kube-scheduler

    @rule(which=at, replica=st.integers(0, 1), among=st.sampled_from([("n0", "n1"), ("n1", "n0"), ("n0",), ("n1",)]))
    def filter(self, which: int, replica: int, among: tuple[str, ...]) -> None:
        pods = sorted(name for name, pod in self.api.pods.items() if not pod.spec.node_name)
        if pods:
            self._filter(self.replicas[replica], self.api.pods[pods[which % len(pods)]], among)

    @rule(which=at)
    def bind(self, which: int) -> None:
        if self.chosen:
            name = sorted(self.chosen)[which % len(self.chosen)]
            self._bind(name)

    # The network

    @rule(which=at, answer=st.booleans())
    def deliver(self, which: int, answer: bool) -> None:
        self._with_request(which, lambda request: deliver(self.api, request, answer=answer))

    @rule(which=at)
    def deliver_next(self, which: int) -> None:
        self._with_request(0, lambda request: deliver(self.api, request))

    @rule(which=at)
    def time_out(self, which: int) -> None:
        self._with_request(which, time_out)

    @rule(which=at)
    def lose(self, which: int) -> None:
        def lost(request: Request) -> None:
            time_out(request)
            self.api.inflight.remove(request)

        self._with_request(which, lost)

    @rule(replica=st.integers(0, 1), kind=st.sampled_from(["claims", "pods"]), count=st.integers(1, 4))
    def hear(self, replica: int, kind: str, count: int) -> None:
        self.replicas[replica].sync(kind, count)

    @rule(replica=st.integers(0, 1))
    def relist(self, replica: int) -> None:
        self.replicas[replica].relist()

    @rule(replica=st.integers(0, 1))
    def tick(self, replica: int) -> None:
        self.replicas[replica].decider.tick()
        self._start(self.replicas[replica], self.replicas[replica].settler.all())

    # What must hold

    @invariant()
    def no_device_is_in_two_claims(self) -> None:
        self._spin()
        assert self.api.double == []

    @invariant()
    def what_may_land_is_held(self) -> None:
        for replica in self.replicas:
            if not self.leads(replica):
                continue
            used = replica.cluster.used()
            for request in self.api.inflight:
                if request.what == "allocate" and self._may_land(request):
                    assert set(request.devices) <= used, f"free while a write may land: {request.devices}"

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            try:
                self._end_well()
            finally:
                self._close()

    # Inside

    def _end_well(self) -> None:
        """Without further faults, all ends: each pod is bound or does not fit, and nothing is held for nobody."""
        rejected: set[str] = set()
        self._quiet()
        for _ in range(6):
            self._calm()
            rejected = set()
            for name, pod in sorted(self.api.pods.items()):
                if not pod.spec.node_name and not self._placed(pod):
                    rejected.add(name)
        self._calm()
        for pod in self.api.pods.values():
            if pod.spec.node_name:
                self._check_bound(pod)
            else:
                assert pod.metadata.name in rejected, f"{pod.metadata.name} is chosen for and never bound"
                assert not self._fits(pod), f"{pod.metadata.name} fits and is rejected"
        for replica in self.replicas:
            reservations = replica.ledger.reservations
            assert not reservations.pods, "a reservation for ever"
            assert not reservations.plans
            assert not reservations.writes
            assert not replica.cluster.holds, "devices held for ever"
        given = {device for claim in self.api.claims.values() for device in devices_of(claim)}
        assert self.replicas[self.holder].cluster.used() == given

    def _calm(self) -> None:
        """Let a minute pass in which everybody hears everything."""
        self.now += 61.0
        self.until = self.now + RENEW_S
        self.take_over()
        self._quiet()
        self.api.collect()
        self._everyone_hears()
        assert self.leads(self.replicas[self.holder])
        for which in range(2):
            self.tick(which)
            self._quiet()
        self._everyone_hears()

    def _placed(self, pod: Pod) -> bool:
        replica = self.replicas[self.holder]
        if not self._filter(replica, pod, tuple(NODES)):
            return False
        self._bind(pod.metadata.name)
        self._quiet()
        self._everyone_hears()
        return True

    def _check_bound(self, pod: Pod) -> None:
        for each in pod.spec.resource_claims:
            claim = self.api.claims[each.resource_claim_name]
            assert set(devices_of(claim)) <= set(NODES[pod.spec.node_name]), "bound without its devices"
            assert pod.metadata.uid in {user.uid for user in claim.status.reserved_for}

    def _fits(self, pod: Pod) -> bool:
        claims = [self.api.claims[each.resource_claim_name] for each in pod.spec.resource_claims]
        given = {device for claim in self.api.claims.values() for device in devices_of(claim)}
        mine = {device for claim in claims for device in devices_of(claim)}
        wanted = sum(not devices_of(claim) for claim in claims)
        return any(mine <= set(devices) and len(set(devices) - given) >= wanted for devices in NODES.values())

    def _may_land(self, request: Request) -> bool:
        assert request.claim is not None
        current = self.api.claims.get(request.claim.metadata.name)
        return current is not None and current.metadata == request.claim.metadata

    def _filter(self, replica: Replica, pod: Pod, among: tuple[str, ...]) -> bool:
        result = replica.decider.filter(ExtenderArgs(pod=pod, wishes=Wishes(), node_names=among))
        if result.node_names:
            self.chosen[pod.metadata.name] = (replica, result.node_names[-1])
        return bool(result.node_names)

    def _bind(self, name: str) -> None:
        replica, node = self.chosen.pop(name)
        pod = self.api.pods.get(name)
        if pod is not None and replica in self.replicas:
            self._start(replica, replica.binder.bind("ns", name, pod.metadata.uid, node))

    def _with_request(self, which: int, do: Any) -> None:
        if self.api.inflight:
            do(self.api.inflight[which % len(self.api.inflight)])
            self._spin()

    def _replica(self) -> Replica:
        replica = Replica(self.api, NODES, left=self.left, clock=lambda: self.now, slack=self.slack)
        replica.leading = self.leads
        return replica

    def _everyone_hears(self) -> None:
        for replica in self.replicas:
            for kind in ("claims", "pods"):
                replica.sync(kind)

    def _start(self, replica: Replica, work: Any) -> None:
        async def start() -> None:
            replica.start(_tolerant(work))

        self.loop.run_until_complete(start())
        self._spin()

    def _spin(self) -> None:
        async def turn() -> None:
            for _ in range(30):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turn())

    def _quiet(self) -> None:
        """Let every call reach the API server and be answered, until there are none."""
        self._spin()
        while self.api.inflight:
            deliver(self.api, self.api.inflight[0])
            self._spin()

    def _close(self) -> None:
        for replica in self.replicas:
            replica.crash()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()

        async def ended() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)

        self.loop.run_until_complete(ended())
        self.loop.close()


async def _tolerant(work: Any) -> None:
    """Do a piece of work whose failure is an answer, not an accident."""
    try:
        await work
    except (ClusterError, BindFault):
        return


class WorldWithSlack(World):
    """Decisions hold devices on several nodes."""

    slack = 1.0
