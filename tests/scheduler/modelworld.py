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
from tests.scheduler.modelapi import ModelApi, Request, deliver, devices_of, execute, time_out
from tests.scheduler.modellease import LedReplica, ModelLease
from tests.scheduler.modelsteps import LEASE_S, MAX_PENDING, NODES, RENEW_S, SHAPES, STEPS

at = st.integers(min_value=0, max_value=7)
AMONG = st.sampled_from([("n0", "n1"), ("n1", "n0"), ("n0",), ("n1",)])


class World(RuleBasedStateMachine):
    """Two replicas, two nodes with two GPUs each, and everything that may happen to a write."""

    slack = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.api = ModelApi()
        self.lease = ModelLease()
        self.made = 0
        self.chosen: dict[str, tuple[LedReplica, str]] = {}
        self.replicas = [self._replica(which) for which in range(2)]

    @initialize(shapes=st.lists(st.sampled_from(SHAPES), max_size=2), lost=st.booleans())
    def begin(self, shapes: list[dict[str, int]], lost: bool) -> None:
        """Two replicas, one of which leads; most often with allocations on their way, where the danger is."""
        self.loop = asyncio.new_event_loop()
        for name in ("shared-0", "shared-1"):
            self.api.new_claim(name)
        self._everyone_hears()
        self._renew()
        self._take_over()
        self._quiet()
        for which, shape in enumerate(shapes):
            self.place(which, shape, tuple(NODES), "new")
            self.network(0, "last")
            if lost:
                self.network(0, "lose write")

    # What happens. One rule: of several, hypothesis leaves out some in each run, and few runs would get to a write.

    @rule(step=st.sampled_from(STEPS), which=at, shape=st.sampled_from(SHAPES), among=AMONG)
    def step(self, step: tuple[str, str], which: int, shape: dict[str, int], among: tuple[str, ...]) -> None:
        what, form = step
        match what:
            case "place":
                self.place(which, shape, among, form)
            case "network" if self.api.inflight:
                self.network(which, form)
            case "hear":
                self.hear(which, form)
            case "trouble":
                self.trouble(which, form)

    def place(self, which: int, shape: dict[str, int], among: tuple[str, ...], form: str) -> None:
        """A pod comes, kube-scheduler asks where to, and orders to bind; or what is left of that."""
        pending = sorted(name for name, pod in self.api.pods.items() if not pod.spec.node_name)
        if form == "bind late" and self.chosen:
            self._bind(sorted(self.chosen)[which % len(self.chosen)])
            return
        if not pending or (form.startswith("new") and len(pending) < MAX_PENDING):
            name = self._new_pod(shape, which)
            if form == "new":
                self._everyone_hears()
        else:
            name = pending[which % len(pending)]
        other = form == "by the old leader"
        chosen = self._filter(self.replicas[1 - self.holder if other else self.holder], self.api.pods[name], among)
        if chosen and form not in {"decide", "bind late"}:
            self._bind(name)

    def network(self, which: int, form: str) -> None:
        """A call arrives or does not, its answer arrives or does not, its sender gives up or does not."""
        if form == "all" or not self.api.inflight:
            self._quiet()
            return
        at = {"first": 0, "last": len(self.api.inflight) - 1}.get(form, which % len(self.api.inflight))
        allocations = [each for each in self.api.inflight if each.what == "allocate"]
        request = allocations[0] if form in {"lose write", "slow"} and allocations else self.api.inflight[at]
        if form in {"time out", "lose write", "lost"}:
            time_out(request)
        if form == "lost":
            self.api.inflight.remove(request)
        if form == "slow":
            execute(request)
        if form in {"first", "last", "any", "no answer"}:
            deliver(self.api, request, answer=form != "no answer")
        self._spin()

    def hear(self, which: int, form: str) -> None:
        """The watches bring what has happened, some of it later than others."""
        if form == "all":
            self._everyone_hears()
        else:
            self.replicas[which % 2].sync(form, 1 + which // 2)

    def trouble(self, which: int, form: str) -> None:
        """Whatever else may come."""
        match form:
            case "delete pod" if self.api.pods:
                self.api.remove_pod(sorted(self.api.pods)[which % len(self.api.pods)])
                if which & 1:
                    self._everyone_hears()
                if which & 2:
                    self.api.collect()
            case "replace claim":
                self._replace_claim(f"shared-{which % 2}")
            case "collect":
                self.api.collect()
            case "crash":
                self._crash()
            case "fail over":
                self._fail_over()
            case "give lease back":
                self._give_back(which)
            case "read lease":
                self._read(which % 2)
            case "relist":
                self.replicas[which % 2].relist()
            case "time":
                self.now += (1.0, 6.0, 31.0)[which % 3]
                if which < 6:
                    self._renew()
        self._take_over()
        self._tick(self.holder)

    # How

    @property
    def holder(self) -> int:
        return self.lease.holder

    def leads(self, replica: LedReplica) -> bool:
        return replica.leadership.leads()

    def _renew(self) -> None:
        """The lease is renewed while the holder's extender looks."""
        self._read(self.holder)
        self.lease.renewals += 1
        self._read(self.holder)

    def _read(self, which: int) -> None:
        self.loop.run_until_complete(self.replicas[which].leadership.read())

    def _fail_over(self) -> None:
        """Let the lease run out and the other replica take it, while calls of the first are on their way."""
        self._read(1 - self.holder)
        self.now += LEASE_S
        self.lease.acquire(1 - self.holder)
        self._renew()
        self.now += RENEW_S
        self._renew()

    def _give_back(self, which: int) -> None:
        """The leader's kube-scheduler ends alone: another one leads at once, and the extender hears of it later."""
        self._read(1 - self.holder)
        self.lease.acquire(1 - self.holder)
        self._renew()
        if which & 1:  # so that the new leader writes soon, while the former one may not have read the lease
            self.now += RENEW_S - 1.0
            self._renew()

    def _take_over(self) -> None:
        replica = self.replicas[self.holder]
        if not replica.tasks:
            self._start(replica, replica.leadership.try_take_over())

    def _crash(self) -> None:
        self.replicas[self.holder].crash()
        self._spin()
        self.replicas[self.holder] = self._replica(self.holder)
        self._renew()
        self.now += RENEW_S
        self._renew()

    def _new_pod(self, shape: dict[str, int], which: int) -> str:
        self.made += 1
        own = [f"pod-{self.made}-{at}" for at in range(shape.get("own", 0))]
        names = own + ([f"shared-{which % 2}"] if "shared" in shape else [])
        claims = [{"name": name, "resourceClaimName": name} for name in names]
        pod = self.api.new_pod(f"pod-{self.made}", {"resourceClaims": claims})
        for name in own:
            self.api.new_claim(name, pod)
        return pod.metadata.name

    def _replace_claim(self, name: str) -> None:
        if self.api.claims[name].status.allocation is None:
            self.api.remove_claim(name)
            self.api.new_claim(name)

    def _tick(self, which: int) -> None:
        self.replicas[which].decider.tick()
        self._start(self.replicas[which], self.replicas[which].settler.all())

    # What must hold

    @invariant()
    def no_device_is_in_two_claims(self) -> None:
        assert self.api.double == []
        for fault in self.api.faults:
            raise AssertionError("a piece of work failed") from fault

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
        for which in range(2):
            self._read(which)
        self.now += 61.0
        for which in range(2):
            self._read(which)
        self._renew()
        self._take_over()
        self._quiet()
        self.api.collect()
        self._everyone_hears()
        assert self.leads(self.replicas[self.holder])
        for which in range(2):
            self._tick(which)
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

    def _filter(self, replica: LedReplica, pod: Pod, among: tuple[str, ...]) -> bool:
        result = replica.decider.filter(ExtenderArgs(pod=pod, wishes=Wishes(), node_names=among))
        if result.node_names:
            self.chosen[pod.metadata.name] = (replica, result.node_names[-1])
        return bool(result.node_names)

    def _bind(self, name: str) -> None:
        replica, node = self.chosen.pop(name)
        pod = self.api.pods.get(name)
        if pod is not None and replica in self.replicas:
            self._start(replica, replica.binder.bind("ns", name, pod.metadata.uid, node))

    def _replica(self, which: int) -> LedReplica:
        return LedReplica(self.api, NODES, self.lease, which, clock=lambda: self.now, slack=self.slack)

    def _everyone_hears(self) -> None:
        for replica in self.replicas:
            for kind in ("claims", "pods"):
                replica.sync(kind)

    def _start(self, replica: LedReplica, work: Any) -> None:
        async def start() -> None:
            replica.start(_tolerant(work))

        self.loop.run_until_complete(start())
        self._spin()

    def _spin(self) -> None:
        async def turn() -> None:
            for _ in range(12):
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
