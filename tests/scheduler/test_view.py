"""What is known of claims and pods never goes back in time, whichever of watch and answers comes first."""

from __future__ import annotations

from kube.objects import ResourceClaim
from tests.scheduler.test_bind import Story, run


def test_an_answer_that_arrives_after_the_deletion_brings_nothing_back() -> None:
    story = Story()
    story.pod("p")
    late = story.api.finalize(story.api.claims["p-0"])
    story.api.remove_claim("p-0")
    story.hear()
    story.replica.ledger.view.answered(late)
    story.replica.ledger.view.created(late)
    assert story.replica.ledger.view.claims == {}


def test_a_watch_that_lags_does_not_undo_what_an_answer_told() -> None:
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    assert run(story.bind(pod, node)) == ""
    used = story.replica.cluster.used()
    story.hear()  # the claim as it was before the allocation, then as it is
    assert story.replica.cluster.used() == used != set()


def test_a_list_that_is_older_than_an_answer_does_not_undo_it() -> None:
    story = Story()
    pod = story.pod("p")
    listed = list(story.api.claims.values())
    (node,) = story.filter(pod).node_names
    assert run(story.bind(pod, node)) == ""
    used = story.replica.cluster.used()
    story.replica.ledger.view.replace_claims(listed)
    assert story.replica.cluster.used() == used != set()


def test_a_claim_made_by_us_survives_a_list_that_is_older() -> None:
    story = Story()
    story.api.new_claim("special")
    story.replica.ledger.view.created(story.api.claims["special"])
    story.replica.ledger.view.replace_claims([])
    assert story.replica.ledger.view.claim("ns", "special") is not None
    story.hear()
    story.replica.ledger.view.replace_claims([])
    assert story.replica.ledger.view.claim("ns", "special") is None


def test_a_list_of_the_watch_that_is_older_than_a_take_over_keeps_what_that_has_shown() -> None:
    """Before, its devices were free in the books until the watch had caught up."""
    story = Story()
    later, story.replica = story.replica, story.new_replica()
    view, older = later.ledger.view, list[ResourceClaim]()
    story.place(story.pod("p"))
    run(later.settler.take_over())
    used = later.cluster.used()
    assert used != set()
    view.replace_claims(older)
    assert later.cluster.used() == used
    view.replace_claims(older)  # begun after the first had ended: the claim is gone
    assert later.cluster.used() == set()


def test_t06_a_claim_of_the_same_name_is_another_claim() -> None:
    story = Story()
    story.api.new_claim("named")
    story.hear()
    first = story.replica.ledger.view.claim("ns", "named")
    story.api.remove_claim("named")
    story.api.new_claim("named")
    story.replica.ledger.view.listed(story.api.claims["named"])  # before the watch tells of the deletion
    second = story.replica.ledger.view.claim("ns", "named")
    assert first is not None
    assert second is not None
    assert first.metadata.uid != second.metadata.uid
    story.hear()
    assert story.replica.ledger.view.claim("ns", "named") == second
