"""The state of a cluster follows its objects: whatever came in whatever order, twice or late, answers are the same."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kube.cluster import Cluster
from kube.kinds import CLAIMS, NODES, PODS, SLICES
from kube.objects import Node, ResourceSlice
from packing.mix import DemandMix
from packing.model import Demand, WholeRequest
from tests.kube.builders import claim, node, pod
from tests.kube.clusters import (
    NODE_NAMES,
    PAIR,
    allocated,
    asking,
    cluster,
    decide,
    device_class,
    idle,
    left,
    newer,
    placed,
    slices,
)


class TestT33EventsTwiceLateAndInAnyOrder:
    """Volcano counted what it saw, not what there is: a repeated event took a device twice."""

    def test_twice_is_once(self) -> None:
        on = cluster()
        for _ in range(2):
            on.put(allocated("c", 0, 3))
            on.put(pod("p", on="node-1", cpu="4"))
        assert (idle(on), left(on)[0]) == ([1, 2, 4, 5, 6, 7], 92_000)
        for _ in range(2):
            on.remove(allocated("c", 0, 3))
            on.remove(pod("p", on="node-1", cpu="4"))
        assert (idle(on), left(on)[0]) == (list(range(8)), 96_000)

    def test_an_older_state_does_not_come_back(self) -> None:
        on = cluster()
        on.put(newer(claim("c"), 9))
        on.put(newer(allocated("c", 0), 10))
        on.put(newer(claim("c"), 9))
        assert 0 not in idle(on)

    def test_the_deletion_of_an_earlier_claim_of_that_name_is_not_that_of_the_later(self) -> None:
        """T06: claims go by UID."""
        on = cluster()
        on.put(allocated("c", 0, uid="first"))
        on.put(allocated("c", 1, uid="second"))
        assert idle(on)[:2] == [0, 2]
        on.remove(allocated("c", 0, uid="first"))
        assert idle(on)[:2] == [0, 2]

    def test_devices_may_be_published_after_they_were_allocated(self) -> None:
        on = Cluster()
        on.put(allocated("c", 0))
        on.put(pod("p", on="node-1"))
        on.put(node("node-1"))
        assert left(on)[0] == 95_000
        for each in slices():
            on.put(each)
        assert idle(on) == [1, 2, 3, 4, 5, 6, 7]

    def test_a_list_replaces_all_there_was(self) -> None:
        on = cluster()
        on.replace(CLAIMS, [allocated("a", 0), allocated("b", 1)])
        on.replace(PODS, [pod("a", on="node-1"), pod("b", on="node-1")])
        on.replace(CLAIMS, [allocated("b", 1)])
        on.replace(PODS, [pod("b", on="node-1")])
        on.replace(NODES, [node("node-1")])
        assert (idle(on)[:2], left(on)[0]) == ([0, 2], 95_000)
        on.replace(SLICES, [])
        assert [len(each.shape.gpus) for each in on.packed().inventory.fabric.nodes] == [0]


class TestSnapshots:
    def test_the_order_of_objects_does_not_matter(self) -> None:
        objects = [
            allocated("c", 0, 3, on="node-1"),
            pod("p", on="node-1", cpu="4"),
            *slices("node-1"),
            *slices("node-2"),
            device_class("whole", "gpu"),
            node("node-1"),
        ]
        answers = [decide(Cluster.from_snapshot(order), 4) for order in (objects, objects[::-1])]
        assert answers[0] == answers[1]
        assert placed(answers[0]) is not None

    def test_nodes_that_nobody_lists_are_those_that_slices_name(self) -> None:
        on = Cluster.from_snapshot([*slices("node-1"), device_class("whole", "gpu")])
        assert placed(decide(on, 2)) == ("node-1", PAIR)

    def test_objects_that_people_wrote_without_uids_are_told_apart_by_name(self) -> None:
        bare = [
            msgspec.structs.replace(each, metadata=msgspec.structs.replace(each.metadata, uid=""))
            for each in (allocated("a", 0), allocated("b", 1))
        ]
        on = Cluster.from_snapshot([*slices("node-1"), *bare])
        assert idle(on)[:2] == [2, 3]


# Laws

GPUS = st.lists(st.integers(0, 7), min_size=1, max_size=3, unique=True)
CLAIMS_SEEN = st.builds(
    lambda name, gpus, on: allocated(name, *gpus, on=on), st.sampled_from("abc"), GPUS, st.sampled_from(NODE_NAMES)
)
PODS_SEEN = st.builds(
    lambda name, on, cpu, phase: pod(name, on=on, cpu=str(cpu), phase=phase),
    st.sampled_from("pq"),
    st.sampled_from(NODE_NAMES),
    st.sampled_from([1, 50, 90]),
    st.sampled_from(["Running", "Succeeded"]),
)
NODES_SEEN = st.builds(
    lambda name, cpu: node(name, cpu=str(cpu)), st.sampled_from(NODE_NAMES), st.sampled_from([64, 96])
)
SLICES_SEEN = st.sampled_from(
    [slices(name, machine)[0] for name in NODE_NAMES for machine in ("dgx1-v100", "t4-8-pcie")]
)
OBJECTS = st.one_of(CLAIMS_SEEN, st.sampled_from("abc").map(claim), PODS_SEEN, NODES_SEEN, SLICES_SEEN)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), OBJECTS),
        st.tuples(st.just("remove"), OBJECTS),
        st.tuples(st.just("hold"), st.sampled_from("kl")),
        st.tuples(st.just("drop"), st.sampled_from("kl")),
        st.tuples(st.just("ask"), st.none()),
    ),
    max_size=14,
)
ASKS = tuple(asking(count, f"ask-{count}") for count in (1, 2, 4, 8))


def answers(on: Cluster) -> list[object]:
    """All that the cluster says of four asks, on all nodes and on each."""
    found: list[object] = []
    for ask in ASKS:
        on.put(ask)
        resolved = on.resolve(pod(ask.metadata.name, claims=[ask.metadata.name], cpu="8"))
        for among in (None, ("node-1",), ("node-2",)):
            answer = on.decide(resolved, among)
            found.append((placed(answer), answer.undecided))
    return found


@given(EVENTS)
def test_however_it_came_about_answers_are_those_of_the_objects_now(events: list[tuple[str, Any]]) -> None:
    """A cluster that saw events, repeated and in between asked, answers as one that is told the end at once."""
    mix = DemandMix.from_demands([(Demand(cpu_milli=8000, requests=(WholeRequest(count=2),)), 1)])
    on = cluster((), mix=mix)
    objects: dict[tuple[type, str], object] = {}
    held: dict[str, tuple[Any, Any]] = {}
    for what, subject in events:
        match what:
            case "put":
                on.put(subject)
                objects[type(subject), subject.metadata.name] = subject
            case "remove":
                on.remove(subject)
                objects.pop((type(subject), subject.metadata.name), None)
            case "hold":
                on.put(asking(2, f"held-{subject}"))
                resolved = on.resolve(pod(f"held-{subject}", claims=[f"held-{subject}"]))
                allocation = on.decide(resolved).allocation
                if allocation is not None:
                    held[subject] = (resolved, allocation)
                    on.hold(subject, *held[subject])
            case "drop":
                held.pop(subject, None)
                on.drop(subject)
            case _:
                on.packed()
    scratch = cluster((), mix=mix)
    for each in reversed(list(objects.values())):
        scratch.put(each)
    for key in reversed(list(held)):
        scratch.hold(key, *held[key])
    assert answers(on) == answers(scratch)
    used, fresh = on.packed().ledger, scratch.packed().ledger
    assert dict(used.in_use.claims) == dict(fresh.in_use.claims)
    exact = used.exact
    assert np.array_equal(exact, fresh.exact)
    assert np.array_equal(used.usage.arrays.nodes[exact], fresh.usage.arrays.nodes[exact])


@given(st.lists(OBJECTS, max_size=6))
def test_what_comes_and_goes_leaves_nothing(objects: list[Any]) -> None:
    on, untouched = cluster(), cluster()
    on.packed()
    before = answers(untouched)
    ours = [each for each in objects if not isinstance(each, Node | ResourceSlice)]
    for each in ours:
        on.put(each)
    for each in ours:
        on.remove(each)
    assert answers(on) == before
    assert not on.books.claims
    assert not on.books.pods
    assert np.array_equal(on.packed().ledger.usage.arrays.gpus, untouched.packed().ledger.usage.arrays.gpus)
