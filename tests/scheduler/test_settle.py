"""What has no known end gets one, on replicas that lead and on those that do not any more."""

from __future__ import annotations

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
