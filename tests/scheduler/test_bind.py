"""`filter`, then `bind`, on a model of the API server: what is written in which order, and what failures leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from kube.errors import ConflictError, ForbiddenError, UnavailableError
from kube.objects import Pod, ResourceClaimConsumerReference
from scheduler.wire import ExtenderArgs, FilterResult, PreemptionArgs, Victims, Wishes
from tests.scheduler.modelapi import ModelApi, devices_of
from tests.scheduler.modelreplica import Replica

NODES = {"n0": ("a0", "a1"), "n1": ("b0", "b1")}


class Story:
    """A replica that leads, hears of everything at once when told to, and whose calls are answered at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lease = 10.0
        self.api = ModelApi()
        self.replica = self.new_replica()

    def new_replica(self) -> Replica:
        return Replica(self.api, NODES, left=lambda _: self.lease, clock=lambda: self.now, direct=True)

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

    def filter(self, pod: Pod, *among: str) -> FilterResult:
        names = among or tuple(NODES)
        return self.replica.decider.filter(ExtenderArgs(pod=pod, node_names=names, wishes=Wishes()))

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


def test_three_writes_and_no_read_for_a_claim_from_a_template() -> None:
    story = Story()
    story.place(story.pod("p"))
    assert story.replica.writes.calls == ["finalize", "allocate", "bind"]


def test_a_pod_without_devices_passes_and_is_bound_by_one_call() -> None:
    story = Story()
    pod = story.pod("p", own=0)
    assert story.filter(pod, "n1", "n0").node_names == ("n1", "n0")
    assert run(story.bind(pod, "n0")) == ""
    assert story.replica.writes.calls == ["bind"]


def test_several_claims_are_written_one_after_the_other() -> None:
    story = Story()
    node = story.place(story.pod("p", own=2))
    assert {device for claim in story.api.claims.values() for device in devices_of(claim)} == set(NODES[node])


def test_t35_a_repeated_bind_is_success() -> None:
    story = Story()
    pod = story.pod("p")
    node = story.place(pod)
    assert run(story.bind(pod, node)) == ""  # the watch has not shown the pod's node yet: 409, and a read
    story.hear()
    calls = len(story.replica.writes.calls)
    assert run(story.bind(pod, node)) == ""
    assert len(story.replica.writes.calls) == calls


def test_t35_two_binds_at_once_are_one() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names

    async def both() -> list[str]:
        return list(await asyncio.gather(story.bind(pod, node), story.bind(pod, node)))

    assert run(both()) == ["", ""]
    assert story.replica.writes.calls == ["finalize", "allocate", "bind"]


def test_t35_a_binding_without_an_answer_is_found_done() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    fail_once(story, "bind", UnavailableError("no answer"), after=True)
    assert "no answer" in run(story.bind(pod, node))
    assert story.filter(pod).node_names == (node,)  # nothing but that node
    assert run(story.bind(pod, node)) == ""


def test_a_pod_on_another_node_gives_its_claim_back() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    story.api.bind(pod, "n1" if node == "n0" else "n0")
    assert "already" in run(story.bind(pod, node))
    assert devices_of(story.api.claims["p-0"]) == ()


def test_t22_a_claim_deleted_between_filter_and_bind() -> None:
    story = Story()
    story.api.new_claim("named")
    pod = story.pod("q", own=0, shared=("named",))
    (node,) = story.filter(pod).node_names
    story.api.remove_claim("named")
    assert "deleted" in run(story.bind(pod, node))
    story.api.new_claim("named")  # another uid
    story.hear()
    story.place(pod)
    assert story.api.claims["named"].status.reserved_for[0].uid == pod.metadata.uid


def test_t22_a_claim_replaced_between_filter_and_bind_is_not_taken_for_the_first() -> None:
    story = Story()
    story.api.new_claim("named")
    pod = story.pod("q", own=0, shared=("named",))
    (node,) = story.filter(pod).node_names
    story.api.remove_claim("named")
    story.api.new_claim("named")
    assert run(story.bind(pod, node)) != ""
    assert devices_of(story.api.claims["named"]) == ()


@pytest.mark.parametrize("call", ["finalize", "allocate", "bind"])
@pytest.mark.parametrize("error", [ForbiddenError("no"), UnavailableError("busy", status=429)])
def test_t23_what_a_failed_bind_reserved_is_free_again(call: str, error: Exception) -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    fail_once(story, call, error)
    assert run(story.bind(pod, node)) != ""
    story.api.remove_pod("p")
    story.api.collect()
    story.hear()
    assert not story.held()
    assert story.replica.cluster.used() == set()


def test_t23_a_decision_that_is_never_bound_expires() -> None:
    story = Story()
    pod = story.pod("p")
    (first,) = story.filter(pod).node_names
    story.now += 31
    story.replica.decider.tick()
    assert not story.held()
    (second,) = story.filter(pod).node_names
    assert second != first  # tried last for a while


def test_a_nominated_pod_keeps_its_node_while_volumes_are_bound() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    status = msgspec.structs.replace(pod.status, nominated_node_name=node)
    nominated = story.api._store_pod(msgspec.structs.replace(pod, status=status))
    story.hear()
    story.now += 600
    story.replica.decider.tick()
    assert story.held()
    assert story.filter(nominated, node).node_names == (node,)


def test_a_final_failure_takes_back_what_this_call_wrote_and_no_more() -> None:
    story = Story()
    story.api.new_claim("named")
    other = story.pod("other", own=0, shared=("named",))
    story.place(other)
    pod = story.pod("p", own=1, shared=("named",))
    (node,) = story.filter(pod).node_names
    fail_once(story, "bind", ForbiddenError("gates"))
    assert run(story.bind(pod, node)) != ""
    assert devices_of(story.api.claims["p-0"]) == ()
    assert [user.uid for user in story.api.claims["named"].status.reserved_for] == [other.metadata.uid]


def test_a_write_without_an_answer_keeps_its_devices_until_the_claim_was_touched() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    fail_once(story, "allocate", UnavailableError("no answer"))
    before = story.api.claims["p-0"].metadata.resource_version
    assert run(story.bind(pod, node)) != ""
    assert "touch" in story.replica.writes.calls
    assert story.api.claims["p-0"].metadata.resource_version != before
    assert story.replica.ledger.reservations.unknown() == []


def test_a_bind_that_comes_again_before_its_write_is_settled_settles_it() -> None:
    """Found by the model: a second write of a claim began while the first was still unknown."""
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    fail_once(story, "allocate", UnavailableError("no answer"))
    fail_once(story, "touch", UnavailableError("no answer"))
    assert run(story.bind(pod, node)) != ""
    assert len(story.replica.ledger.reservations.unknown()) == 1
    assert run(story.bind(pod, node)) == ""


def test_t36_pods_that_share_a_claim_end_on_one_node_without_a_conflict() -> None:
    story = Story()
    story.api.new_claim("named")
    pods = [story.pod(f"p{at}", own=0, shared=("named",)) for at in range(6)]
    nodes = {story.filter(pod).node_names for pod in pods}
    assert len(nodes) == 1
    ((node,),) = nodes

    async def gang() -> list[str]:
        return list(await asyncio.gather(*(story.bind(pod, node) for pod in pods)))

    assert run(gang()) == [""] * 6
    assert len(story.api.claims["named"].status.reserved_for) == 6
    assert "read claim" not in story.replica.writes.calls


def test_the_first_pod_of_a_shared_claim_may_go_and_the_others_keep_its_plan() -> None:
    story = Story()
    story.api.new_claim("named")
    first, second = (story.pod(f"p{at}", own=0, shared=("named",)) for at in range(2))
    (node,) = story.filter(first).node_names
    assert story.filter(second).node_names == (node,)
    story.api.remove_pod("p0")
    story.hear()
    assert run(story.bind(second, node)) == ""


def test_a_claim_of_256_pods_takes_no_more() -> None:
    story = Story()
    story.api.new_claim("named")
    pod = story.pod("first", own=0, shared=("named",))
    story.place(pod)
    claim = story.api.claims["named"]
    users = tuple(ResourceClaimConsumerReference(uid=f"u{at}", name=f"u{at}", resource="pods") for at in range(256))
    story.api._store(msgspec.structs.replace(claim, status=msgspec.structs.replace(claim.status, reserved_for=users)))
    late = story.pod("late", own=0, shared=("named",))
    (node,) = story.filter(late).node_names
    assert "256" in run(story.bind(late, node))


def test_t04_devices_that_another_took_in_the_meantime_are_not_written_over() -> None:
    """The claim itself was allocated by someone else: ours gets a conflict, reads, and goes where the devices are."""
    story = Story()
    story.api.new_claim("named")
    pod = story.pod("p", own=0, shared=("named",))
    (node,) = story.filter(pod).node_names
    foreign = story.pod("foreign", own=0)
    elsewhere = "n1" if node == "n0" else "n0"
    only = {"key": "metadata.name", "operator": "In", "values": [elsewhere]}
    allocation = {
        "devices": {"results": [{"request": "gpu", "driver": "d", "pool": "p", "device": NODES[elsewhere][0]}]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [only]}]},
    }
    story.api.allocate(story.api.claims["named"], allocation, foreign)
    assert "not on" in run(story.bind(pod, node))
    story.hear()
    assert story.filter(pod).node_names == (elsewhere,)
    assert run(story.bind(pod, elsewhere)) == ""


def test_t33_events_that_come_twice_or_late_change_nothing() -> None:
    story = Story()
    story.place(story.pod("p"))
    story.hear()
    used, version = story.replica.cluster.used(), story.replica.cluster.version
    for what, claim in story.api.log["claims"]:
        if what == "put":
            story.replica.ledger.view.put_claim(claim)
    assert (story.replica.cluster.used(), story.replica.cluster.version) == (used, version)


def test_a_restart_between_the_writes_heals_by_itself() -> None:
    story = Story()
    pod = story.pod("p", own=2)
    (node,) = story.filter(pod).node_names
    fail_once(story, "bind", UnavailableError("killed"))
    run(story.bind(pod, node))
    story.replica = story.new_replica()
    assert story.filter(pod).node_names == (node,)
    assert run(story.bind(pod, node)) == ""
    assert story.replica.writes.calls == ["bind"]


def test_without_the_lease_nothing_is_written() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    story.lease = 0.3
    assert "lead" in run(story.bind(pod, node))
    assert story.replica.writes.calls == []


def test_a_conflict_is_read_and_written_again() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    story.api.touch(story.api.claims["p-0"])  # the watch has not shown it yet
    assert run(story.bind(pod, node)) == ""
    assert story.replica.writes.calls == ["finalize", "read claim", "finalize", "allocate", "bind"]


def test_t21_a_pod_that_does_not_fit_is_told_the_same_again_and_costs_no_decision() -> None:
    story = Story()
    for at in range(4):
        story.place(story.pod(f"p{at}"))
    story.hear()
    pod = story.pod("late")
    first = story.filter(pod)
    decisions = story.replica.cluster.decisions
    again = [story.filter(pod) for _ in range(100)]
    assert all(each == first for each in again)
    assert story.replica.cluster.decisions == decisions
    assert set(first.failed_and_unresolvable) == set(NODES)
    assert not first.failed


def test_preemption_is_vetoed_where_no_devices_come_free() -> None:
    story = Story()
    pods = [story.pod(f"p{at}") for at in range(4)]
    places = {pod.metadata.uid: story.place(pod) for pod in pods}
    poor = story.pod("cpu-only", own=0)
    story.hear()
    late = story.pod("late")
    mine = pods[0].metadata.uid
    asked = {"n0": Victims((poor.metadata.uid,)), "n1": Victims((poor.metadata.uid,))}
    asked[places[mine]] = Victims((mine,))
    kept = story.replica.decider.preempt(PreemptionArgs(pod=late, victims=asked))
    assert kept == {places[mine]: Victims((mine,))}


def test_t32_what_if_writes_nothing_and_changes_nothing() -> None:
    story = Story()
    for at in range(4):
        story.place(story.pod(f"p{at}"))
    story.hear()
    late = story.pod("late")
    before = (len(story.replica.writes.calls), story.replica.cluster.version, story.replica.cluster.used())
    story.replica.decider.preempt(
        PreemptionArgs(pod=late, victims={"n0": Victims(tuple(story.replica.ledger.view.pods))})
    )
    assert (len(story.replica.writes.calls), story.replica.cluster.version, story.replica.cluster.used()) == before


def test_a_nominated_pod_waits_for_the_claims_of_its_victims() -> None:
    """No second victim for one pod: that of the first is gone, its claim not yet."""
    story = Story()
    pods = [story.pod(f"p{at}") for at in range(4)]
    places = [story.place(pod) for pod in pods]
    story.hear()
    late = story.pod("late")
    story.api.remove_pod("p0")
    story.hear()
    status = msgspec.structs.replace(late.status, nominated_node_name=places[0])
    late = msgspec.structs.replace(late, status=status)
    victims = {places[1]: Victims((pods[1].metadata.uid,))}
    assert story.replica.decider.preempt(PreemptionArgs(pod=late, victims=victims)) == {}


def test_conflict_errors_of_the_model_are_those_of_the_api() -> None:
    story = Story()
    pod = story.pod("p")
    claim = story.api.claims["p-0"]
    story.api.touch(claim)
    with pytest.raises(ConflictError):
        story.api.allocate(claim, {"devices": {"results": []}}, pod)
