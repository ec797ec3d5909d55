"""What is written in which order, and what failures of a write leave, on a model of the API server."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kube.encode import GoneDeviceError
from kube.errors import ConflictError, ForbiddenError, UnavailableError
from kube.objects import Pod
from scheduler.portions import Portion
from scheduler.wire import Wishes
from tests.scheduler.modelapi import devices_of
from tests.scheduler.story import NODES, Story, fail_once, run


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


def test_a_miswritten_annotation_is_told_where_it_matters() -> None:
    """kube-scheduler shows the texts of an answer, and of a status 400 none."""
    story, wrong = Story(), Wishes(fault="pod: annotation x: no number")
    found = story.filter(story.pod("p"), wishes=wrong)
    assert found.failed_and_unresolvable == dict.fromkeys(NODES, "dovetail: pod: annotation x: no number")
    assert not story.held()
    assert set(story.filter(story.pod("no-devices", own=0), wishes=wrong).node_names) == set(NODES)


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


def test_conflict_errors_of_the_model_are_those_of_the_api() -> None:
    story = Story()
    pod = story.pod("p")
    claim = story.api.claims["p-0"]
    story.api.touch(claim)
    with pytest.raises(ConflictError):
        story.api.allocate(claim, {"devices": {"results": []}}, pod)


@pytest.mark.parametrize("call", ["finalize", "allocate", "bind"])
def test_a_drain_finishes_the_bindings_under_way_and_begins_none(call: str) -> None:
    """Before, whatever write came next was refused, and the pod was half bound."""
    story = Story()
    pod, late = story.pod("p"), story.pod("late")
    (node,) = story.filter(pod).node_names
    real, drains = getattr(story.replica.writes, call), []

    async def drained_meanwhile(*args: object, **kwargs: object) -> object:
        drains.append(asyncio.create_task(story.replica.binder.drain()))
        await asyncio.sleep(0)
        return await real(*args, **kwargs)

    setattr(story.replica.writes, call, drained_meanwhile)

    async def told() -> tuple[str, str]:
        return await story.bind(pod, node), await story.bind(late, story.filter(late).node_names[0])

    first, second = run(told())
    assert first == ""
    assert "does not lead" in second
    assert len(drains) == 1
    assert story.replica.writes.calls == ["finalize", "allocate", "bind"]


def test_a_bind_of_an_earlier_term_writes_nothing_in_a_later_one() -> None:
    """Another replica may have led in between, and given its devices away."""
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    real = story.replica.writes.finalize

    async def overtaken(*args: Any, **kwargs: Any) -> Any:
        story.term += 1
        return await real(*args, **kwargs)

    story.replica.writes.finalize = overtaken  # type: ignore[method-assign]
    assert "does not lead" in run(story.bind(pod, node))
    assert story.replica.writes.calls == ["finalize"]
    assert not story.held()


def test_a_bind_that_fails_after_a_binding_without_an_answer_leaves_the_pod_where_that_one_may_land() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    fail_once(story, "bind", UnavailableError("no answer"))
    assert "no answer" in run(story.bind(pod, node))
    fail_once(story, "bind", UnavailableError("busy", status=429))
    assert "could not be bound" in run(story.bind(pod, node))
    assert story.replica.ledger.reservations.tied(pod.metadata.uid) == node
    other = "n1" if node == "n0" else "n0"
    assert story.filter(pod, other).node_names == ()


def nominated_pod(story: Story) -> tuple[Pod, str]:
    """A pod that was promised devices, and whose status names the node."""
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    status = msgspec.structs.replace(pod.status, nominated_node_name=node)
    nominated = story.api._store_pod(msgspec.structs.replace(pod, status=status))
    story.hear()
    return nominated, node


def test_a_nominated_pod_whose_devices_are_gone_is_decided_anew() -> None:
    """Before, it was answered the same node with the same devices for as long as it was nominated."""
    story = Story()
    pod, node = nominated_pod(story)
    encoded = story.replica.binder.claims.encode

    def gone(portion: Portion) -> Any:
        raise GoneDeviceError("device a0 is gone")

    story.replica.binder.claims.encode = gone
    assert "anew" in run(story.bind(pod, node))
    assert not story.held()
    story.replica.binder.claims.encode = encoded
    decisions = story.replica.cluster.decisions
    story.place(pod)
    assert story.replica.cluster.decisions == decisions + 1


def test_a_nominated_pod_whose_claim_was_released_is_decided_anew() -> None:
    story = Story()
    pod, node = nominated_pod(story)
    fail_once(story, "bind", UnavailableError("busy", status=429))
    assert "could not be bound" in run(story.bind(pod, node))  # its claim is written
    story.api.release(story.api.claims["p-0"], [pod.metadata.uid])
    story.hear()
    assert "anew" in run(story.bind(pod, node))
    assert not story.held()
    story.place(pod)
