"""What is read of a pod that waits for other reasons than a want of devices, and what guards its claims and node."""

from __future__ import annotations

import msgspec
import pytest

from kube.errors import ConflictError
from kube.extended import special_claim
from kube.objects import Pod, ResourceClaim
from kube.resolved import SpecialClaim
from scheduler import texts
from scheduler.faults import FinalFault
from scheduler.ledger import Ledger
from scheduler.reservations import Reservations
from scheduler.special import Promise, SpecialClaims, named_manifest
from tests.scheduler.modelcluster import Answer, ModelCluster
from tests.scheduler.story import NODES, Story, run

FAULT = 'claim p-0, request gpu, expression "x": device gpu-0: no such key: nothing'


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(None, fault=FAULT), f"dovetail: {FAULT}"),
        (Answer(None, undecided=True), texts.BOUND),
        (Answer(None), texts.NO_DEVICES),
    ],
    ids=["fault", "bound", "none"],
)
def test_a_refusal_says_whether_a_selector_failed_or_the_search_ended(answer: Answer, text: str) -> None:
    story = Story()
    story.replica.cluster.nodes = dict.fromkeys(NODES, ())
    story.replica.cluster.nowhere = answer
    assert set(story.filter(story.pod("p")).failed_and_unresolvable.values()) == {text}


def test_a_fault_of_one_pods_claim_is_not_told_to_another_pod() -> None:
    story = Story()
    story.replica.cluster.nodes = dict.fromkeys(NODES, ())
    story.replica.cluster.nowhere = Answer(None, fault=FAULT)
    story.filter(story.pod("p"))
    story.replica.cluster.nowhere = Answer(None)
    assert set(story.filter(story.pod("q")).failed_and_unresolvable.values()) == {texts.NO_DEVICES}


def test_a_pod_is_not_bound_to_a_node_that_is_gone_and_its_devices_are_free_again() -> None:
    """The API server would bind it: to a node that will never run it."""
    story = Story()
    pod = story.pod("p")
    (node,) = story.filter(pod).node_names
    calls = story.replica.writes.calls
    story.replica.binder.claims.labels = lambda _node: None if "allocate" in calls else {}
    assert f"node {node} was deleted" in run(story.bind(pod, node))
    assert calls == ["finalize", "allocate", "release"]
    story.hear()
    assert story.api.claims["p-0"].status.allocation is None


def test_a_pod_rejected_because_our_watch_of_claims_was_late_is_woken_when_the_claim_comes() -> None:
    """kube-scheduler had seen the claim before it asked: no event of it comes that would have the pod tried again."""
    story = Story()
    pod = story.api.new_pod("p", {"resourceClaims": [{"name": "c", "resourceClaimName": "p-0"}]})
    story.api.new_claim("p-0", pod)
    assert "does not exist" in set(story.filter(pod).failed_and_unresolvable.values()).pop()
    came: list[bool] = []
    decider = story.replica.decider
    story.replica.ledger.on_claim = lambda claim: came.append(decider.came(claim))
    decider.tick()
    assert decider.waiting, "though the watch of pods is late, too"
    story.hear()
    assert came == [True]
    story.place(pod)
    assert not any(came[1:])
    assert not decider.waiting


class Taken:
    """An API server that has a claim already when one of its name is created."""

    def __init__(self, claim: ResourceClaim) -> None:
        self.claim = claim

    async def create_claim(self, _manifest: object, *, timeout_s: float) -> ResourceClaim:
        raise ConflictError("there is one")

    async def read_claim(self, _namespace: str, _name: str, *, timeout_s: float) -> ResourceClaim:
        return self.claim


@pytest.mark.parametrize("known", [False, True], ids=["not-seen-yet", "seen"])
@pytest.mark.parametrize(
    ("owner", "count", "said"), [("u", 4, "asks for something else"), ("other", 2, "not of this pod")]
)
def test_a_special_claim_that_somebody_else_made_is_not_taken(known: bool, owner: str, count: int, said: str) -> None:
    """Its name can be guessed: a claim of it that asks for more, or is another pod's, gives this pod nothing."""
    pod, special = asking(2)
    manifest = named_manifest(pod, asking(count)[1].claim)
    manifest["metadata"] |= {"uid": "c", "resourceVersion": "7"}
    manifest["metadata"]["ownerReferences"][0]["uid"] = owner
    there = msgspec.convert(manifest, ResourceClaim)
    ledger = Ledger(ModelCluster({}), Reservations())
    if known:
        ledger.view.put_claim(there)
    made = SpecialClaims(ledger, Taken(there))  # type: ignore[arg-type]
    with pytest.raises(FinalFault, match=said):
        run(made.make(pod, "n0", Promise((), special), lambda: 1.0))  # type: ignore[arg-type]


def asking(count: int) -> tuple[Pod, SpecialClaim]:
    """A pod that asks for so many GPUs by an extended resource, and its claim as it is to be made."""
    amount = {"nvidia.com/gpu": str(count)}
    container = {"name": "main", "resources": {"requests": amount, "limits": amount}}
    metadata = {"namespace": "ns", "name": "p", "uid": "u"}
    pod = msgspec.convert({"metadata": metadata, "spec": {"containers": [container]}}, Pod)
    claim, mappings = special_claim(pod, {"nvidia.com/gpu": "gpu"})
    return pod, SpecialClaim(claim=claim, exists=False, mappings=mappings)


def test_a_claim_that_never_comes_is_not_looked_for_for_ever() -> None:
    story = Story()
    decider = story.replica.decider
    decider.missed["ns", "never"] = story.now
    story.now += 59
    decider.tick()
    assert set(decider.missed) == {("ns", "never")}
    story.now += 1
    decider.tick()
    assert decider.missed == {}
