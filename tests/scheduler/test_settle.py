"""What has no known end gets one, on replicas that lead and on those that do not any more."""

from __future__ import annotations

from typing import Any

import pytest

from kube.errors import UnavailableError
from tests.scheduler.test_bind import Story, fail_once, run


def test_a_binding_that_never_shows_is_given_up_also_without_the_lease() -> None:
    """Found by the model: a former leader kept the reservation for ever, because it asked for the Lease to read."""
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    fail_once(story, "bind", UnavailableError("no answer"))
    assert run(story.bind(pod, node)) != ""
    story.lease = 0.0
    story.now += 19
    run(story.replica.settler.all())
    assert story.replica.ledger.reservations.tied(pod.metadata.uid) == node
    story.now += 2
    run(story.replica.settler.all())
    assert story.replica.ledger.reservations.tied(pod.metadata.uid) is None
    story.now += 31
    story.replica.decider.tick()
    story.hear()
    assert not story.held()


def test_a_new_leader_touches_what_a_former_one_may_be_writing_and_nothing_else() -> None:
    story = Story()
    story.place(story.pod("done"))
    for name in ("untouched", "open"):
        story.api.new_claim(name)
    story.api.finalize(story.api.claims["open"])
    before = {name: claim.metadata.resource_version for name, claim in story.api.claims.items()}
    run(story.replica.settler.take_over())
    changed = {name for name, claim in story.api.claims.items() if claim.metadata.resource_version != before[name]}
    assert changed == {"open"}


def test_a_take_over_that_failed_goes_on_where_it_was() -> None:
    """Before, each attempt began at the first claim again: with many claims none came to its end."""
    story = Story()
    for number in range(40):
        story.api.new_claim(f"open-{number}")
        story.api.finalize(story.api.claims[f"open-{number}"])
    writes, real, touched = story.replica.writes, story.replica.writes.touch, list[str]()

    async def touch(claim: Any, *, timeout_s: float) -> Any:
        if len(touched) == 20:
            raise UnavailableError("no answer")
        touched.append(claim.metadata.name)
        return await real(claim, timeout_s=timeout_s)

    writes.touch = touch  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        run(story.replica.settler.take_over())
    writes.touch = real  # type: ignore[method-assign]
    before = writes.calls.count("touch")
    run(story.replica.settler.take_over())
    assert writes.calls.count("touch") - before == 20
    story.term += 1  # another may have led
    run(story.replica.settler.take_over())
    assert writes.calls.count("touch") - before == 60


def test_all_claims_may_be_listed_for_longer_than_the_fence_is_open() -> None:
    story = Story()
    story.lease, seconds, real = 1.0, [], story.replica.writes.list_claims

    async def listed(*, timeout_s: float) -> Any:
        seconds.append(timeout_s)
        return await real(timeout_s=timeout_s)

    story.replica.writes.list_claims = listed  # type: ignore[method-assign]
    run(story.replica.settler.take_over())
    assert seconds == [60.0]


def test_a_pod_that_the_watch_never_showed_is_forgotten_once_it_is_gone() -> None:
    """Its Binding got no answer, and it was deleted before the watch came to it: its reservation stayed for ever."""
    story = Story()
    story.api.new_claim("named")
    story.hear()
    pod = story.api.new_pod("p", {"resourceClaims": [{"name": "c", "resourceClaimName": "named"}]})  # not heard of
    (node,) = story.filter(pod).node_names
    fail_once(story, "bind", UnavailableError("no answer"))
    assert run(story.bind(pod, node)) != ""
    run(story.replica.settler.all())
    assert story.replica.ledger.reservations.tied(pod.metadata.uid) == node
    story.api.remove_pod("p")
    story.now += 21
    run(story.replica.settler.all())
    assert story.replica.ledger.reservations.pods == {}
    assert not story.replica.binder.unbound
