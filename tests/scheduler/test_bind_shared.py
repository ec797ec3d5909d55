"""Claims of several pods and other schedulers; waiting, preemption and what-if write nothing."""

from __future__ import annotations

import asyncio

import msgspec

from kube.objects import ResourceClaimConsumerReference
from scheduler.wire import PreemptionArgs, Victims
from tests.scheduler.modelapi import devices_of
from tests.scheduler.story import NODES, Story, run


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


def test_t02_devices_of_a_pod_that_was_deleted_by_force_stay_in_use_until_its_claim_lets_go() -> None:
    """A pod that is gone from the API may still run on its node; the claim is what says."""
    story = Story()
    for at in range(4):
        story.place(story.pod(f"p{at}"))
    story.hear()
    late = story.pod("late")
    story.api.remove_pod("p0")
    story.hear()
    assert story.filter(late).node_names == ()
    story.api.collect()
    story.hear()
    assert len(story.filter(late).node_names) == 1


def test_t03_a_client_that_deletes_every_pod_by_force_gets_no_device_twice() -> None:
    story = Story()
    placed = 0
    for at in range(60):
        pod = story.pod(f"p{at}")
        for node in story.filter(pod).node_names:
            assert run(story.bind(pod, node)) == ""
            placed += 1
        story.api.remove_pod(pod.metadata.name)
        if at % 7 == 0:
            story.api.collect()  # the claim controller comes late
        story.hear()
        given = [device for claim in story.api.claims.values() for device in devices_of(claim)]
        assert len(given) == len(set(given))
    assert placed > 20
