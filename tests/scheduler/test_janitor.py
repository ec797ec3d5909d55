"""What nobody else mends: found, left alone for a while, mended, and only when it is still so."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from kube.errors import UnavailableError
from kube.objects import Pod, PodCondition
from scheduler.findings import Bare, Doubled, Leftover, Sight, Stuck
from scheduler.janitor import Janitor
from scheduler.view import FINALIZER
from tests.scheduler.modelapi import devices_of
from tests.scheduler.modelcluster import DRIVER
from tests.scheduler.story import NODES, Story, fail_once, run


class Kept(Story):
    """A story with a janitor."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = set(NODES)
        self.leads = True
        self.janitor = Janitor(self.replica.binder, self.sight, lambda: self.leads)

    def sight(self) -> Sight:
        ledger = self.replica.ledger
        return Sight(ledger.view, ledger.reservations, ledger.suspects, self.nodes, {DRIVER}, "default-scheduler")

    def after(self, seconds: float) -> None:
        """Let the janitor look, and again after a while."""
        self.hear()
        run(self.janitor.step())
        self.now += seconds
        run(self.janitor.step())
        self.hear()

    def found(self) -> set[type]:
        return {type(each) for each in self.sight().all()}

    def unschedulable(self, pod: Pod) -> None:
        condition = PodCondition(type="PodScheduled", status="False", reason="Unschedulable")
        pod = self.api.pods[pod.metadata.name]
        self.api._store_pod(
            msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, conditions=(condition,)))
        )

    def allocated_and_not_bound(self) -> tuple[Pod, str]:
        pod = self.pod("p")
        (node,) = self.filter(pod).node_names
        fail_once(self, "bind", UnavailableError("busy", status=429))
        assert run(self.bind(pod, node)) != ""
        self.hear()
        return pod, node


def test_a_healthy_cluster_has_no_findings() -> None:
    story = Kept()
    story.place(story.pod("p"))
    story.hear()
    story.pod("pending")
    assert story.found() == set()


def test_a_claim_whose_node_is_gone_is_released_and_the_pod_goes_elsewhere() -> None:
    story = Kept()
    pod, node = story.allocated_and_not_bound()
    story.nodes.discard(node)
    assert story.found() == {Stuck}
    story.after(21)
    assert devices_of(story.api.claims["p-0"]) == ()
    assert story.api.events == [
        "p: ClaimReleased: claim ns/p-0 had devices where the pod cannot go; they are free again, and others are chosen"
    ]
    (other,) = story.filter(pod, *story.nodes).node_names
    assert run(story.bind(pod, other)) == ""


def test_a_claim_whose_pod_kube_scheduler_cannot_place_is_released_after_a_while() -> None:
    story = Kept()
    pod, _ = story.allocated_and_not_bound()
    assert story.found() == set()  # it will be tried again
    story.unschedulable(pod)
    story.after(19)
    assert devices_of(story.api.claims["p-0"])
    story.after(2)
    assert devices_of(story.api.claims["p-0"]) == ()


def test_a_claim_whose_pod_is_on_its_way_again_stays() -> None:
    """kube-scheduler found a node after all, and waits for volumes there before it asks for the binding."""
    story = Kept()
    pod, node = story.allocated_and_not_bound()
    story.unschedulable(pod)
    story.hear()
    assert story.found() == {Stuck}
    assert story.filter(pod).node_names == (node,)
    assert story.found() == set()
    story.after(21)
    assert devices_of(story.api.claims["p-0"])


def test_a_claim_that_a_running_pod_uses_too_stays() -> None:
    story = Kept()
    story.api.new_claim("named")
    story.place(story.pod("runs", own=0, shared=("named",)))
    waits = story.pod("waits", own=0, shared=("named",))
    (node,) = story.filter(waits).node_names
    fail_once(story, "bind", UnavailableError("busy", status=429))
    run(story.bind(waits, node))
    story.unschedulable(waits)
    story.after(100)
    assert devices_of(story.api.claims["named"])


def test_an_allocation_that_nobody_owns_is_released() -> None:
    """I7: 0 allocations that nobody owns after 60 s."""
    story = Kept()
    story.api.new_claim("named")
    pod = story.pod("p", own=0, shared=("named",))
    story.place(pod)
    claim = story.api.claims["named"]
    story.api._store(msgspec.structs.replace(claim, status=msgspec.structs.replace(claim.status, reserved_for=())))
    story.api.remove_pod("p")
    story.after(21)
    assert devices_of(story.api.claims["named"]) == ()


def double(story: Kept, *, phases: tuple[str, str]) -> list[Pod]:
    """Give one device to two claims of two pods, the second pod the later one."""
    pods = []
    for at, phase in enumerate(phases):
        pod = story.pod(f"p{at}")
        only = {"key": "metadata.name", "operator": "In", "values": ["n0"]}
        allocation = {
            "devices": {"results": [{"request": "gpu", "driver": DRIVER, "pool": "p", "device": "a0"}]},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [only]}]},
        }
        story.api.allocate(story.api.claims[f"p{at}-0"], allocation, pod)
        story.api.bind(pod, "n0")
        pod = story.api.pods[f"p{at}"]
        meta = msgspec.structs.replace(pod.metadata, creation_timestamp=datetime(2026, 1, 1 + at, tzinfo=UTC))
        status = msgspec.structs.replace(pod.status, phase=phase)
        pods.append(story.api._store_pod(msgspec.structs.replace(pod, metadata=meta, status=status)))
    story.hear()
    return pods


@pytest.mark.parametrize(
    ("phases", "left"),
    [(("Pending", "Pending"), ["p0"]), (("Running", "Pending"), ["p0"]), (("Pending", "Running"), ["p1"])],
)
def test_of_two_pods_with_one_device_the_later_that_does_not_run_goes(phases: tuple[str, str], left: list[str]) -> None:
    story = Kept()
    double(story, phases=phases)
    assert story.found() == {Doubled}
    story.after(3)
    assert sorted(story.api.pods) == left
    assert any("two claims" in event for event in story.api.events)


def test_of_two_running_pods_none_is_killed() -> None:
    story = Kept()
    double(story, phases=("Running", "Running"))
    story.after(3)
    assert sorted(story.api.pods) == ["p0", "p1"]
    told = {event.split(":")[0] for event in story.api.events if "is in two claims, ns/p0-0 and ns/p1-0" in event}
    assert told == {"p0", "p1"}


def test_a_bound_pod_without_devices_gets_them() -> None:
    story = Kept()
    pod = story.pod("p")
    story.api.bind(pod, "n1")
    story.hear()
    assert story.found() == {Bare}
    story.after(11)
    assert set(devices_of(story.api.claims["p-0"])) <= set(NODES["n1"])
    assert not story.held()


def test_a_bound_pod_whose_devices_cannot_be_had_is_deleted_with_an_event() -> None:
    story = Kept()
    for at in range(4):
        story.place(story.pod(f"other{at}"))
    pod = story.pod("p")
    story.api.bind(pod, "n1")
    story.after(11)
    assert "p" not in story.api.pods
    assert any("no devices" in event for event in story.api.events)
    story.hear()
    story.replica.decider.tick()
    assert not story.held()


def test_a_finalizer_of_nobody_is_removed_and_one_in_use_stays() -> None:
    story = Kept()
    for name in ("left", "planned"):
        story.api.new_claim(name)
        story.api.finalize(story.api.claims[name])
    story.filter(story.pod("p", own=0, shared=("planned",)))
    story.hear()
    assert list(story.sight().all()) == [Leftover(story.replica.ledger.view.claim_names["ns", "left"])]
    story.after(61)
    assert story.api.claims["left"].metadata.finalizers == ()
    assert story.api.claims["planned"].metadata.finalizers == (FINALIZER,)


def test_who_does_not_lead_mends_nothing() -> None:
    story = Kept()
    _, node = story.allocated_and_not_bound()
    story.nodes.discard(node)
    story.leads = False
    story.after(100)
    assert devices_of(story.api.claims["p-0"])


def test_what_heals_by_itself_in_time_is_left_alone() -> None:
    story = Kept()
    pod, node = story.allocated_and_not_bound()
    story.unschedulable(pod)
    story.hear()
    run(story.janitor.step())
    story.now += 15
    assert run(story.bind(pod, node)) == ""
    story.after(30)
    assert devices_of(story.api.claims["p-0"])
