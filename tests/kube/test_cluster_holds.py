"""What is held counts as used until allocated or dropped; what did not fit is remembered until something is free."""

from __future__ import annotations

from typing import Any

import pytest

from kube.cluster import Cluster
from kube.deciding import Decided
from packing.dra.model import Allocation
from packing.mix import DemandMix
from tests.kube.builders import claim, node, pod
from tests.kube.clusters import (
    REST,
    allocated,
    asking,
    cluster,
    decide,
    idle,
    left,
    placed,
    slices,
)


class TestReservations:
    @staticmethod
    def hold(on: Cluster, count: int = 2, key: str = "k", among: tuple[str, ...] = ("node-1",)) -> Allocation:
        on.put(asking(count))
        resolved = on.resolve(pod("new", claims=["new"], cpu="3"))
        allocation = on.decide(resolved, among).allocation
        assert allocation is not None
        on.hold(key, resolved, allocation)
        return allocation

    def test_what_is_held_is_not_given_to_others_until_it_is_dropped(self) -> None:
        on = cluster()
        self.hold(on)
        assert (idle(on), left(on)[0]) == (REST, 93_000)
        on.drop("k")
        on.drop("k")
        assert (idle(on), left(on)[0]) == (list(range(8)), 96_000)

    def test_holding_again_under_a_key_replaces(self) -> None:
        on = cluster()
        self.hold(on)
        self.hold(on, 1)
        assert len(idle(on)) == 7

    def test_a_reservation_outlives_a_change_of_nodes(self) -> None:
        on = cluster()
        self.hold(on)
        on.put(node("node-3"))
        assert (idle(on), left(on)[0]) == (REST, 93_000)
        on.drop("k")
        assert idle(on) == list(range(8))

    @pytest.mark.parametrize("dropped", ["before", "after", "never"])
    def test_the_allocation_that_follows_is_counted_once(self, dropped: str) -> None:
        on = cluster()
        self.hold(on)
        freed = on.freed
        if dropped == "before":
            on.drop("k")
        on.put(allocated("new", 2, 3))
        on.put(pod("new", on="node-1", cpu="3", claims=["new"]))
        if dropped == "after":
            on.drop("k")
        assert (idle(on), left(on)[0]) == (REST, 93_000)
        assert on.freed == freed, "nothing became free: what was held is now allocated"
        on.remove(allocated("new", 2, 3))
        assert idle(on) == list(range(8))

    def test_alternatives_of_a_claim_end_with_its_allocation_on_either_node(self) -> None:
        on = cluster()
        self.hold(on, key="a")
        self.hold(on, key="b", among=("node-2",))
        assert (len(idle(on)), len(idle(on, "node-2"))) == (6, 6)
        on.put(allocated("new", 2, 3))
        assert (len(idle(on)), len(idle(on, "node-2"))) == (6, 8)

    @pytest.mark.parametrize("taken", ["node-1", "node-2"])
    @pytest.mark.parametrize("dropped", [False, True])
    def test_the_alternative_that_was_not_taken_is_free_again(self, taken: str, dropped: bool) -> None:
        """Whichever of two reservations of a claim is forgotten last; both were kept under its one name before."""
        on = cluster()
        self.hold(on, key="a", among=("node-1",))
        self.hold(on, key="b", among=("node-2",))
        before = on.freed
        if dropped:
            on.drop("a")
            on.drop("b")
        on.put(allocated("new", 2, 3, on=taken))
        assert on.freed > before

    def test_what_was_held_and_not_allocated_is_free_again(self) -> None:
        on = cluster()
        self.hold(on)
        before = on.freed
        on.drop("k")
        on.put(allocated("new", 5))
        assert on.freed > before


class TestRejections:
    """Remembered until something is freed: a waiting pod is tried again at every event."""

    def test_taking_more_does_not_forget_them_and_freeing_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        on = cluster(mix=DemandMix(()))
        on.put(allocated("a", 0))
        on.put(allocated("b", 0, on="node-2"))
        assert placed(decide(on, 8)) is None
        searched: list[object] = []
        packed = on.packed()

        def search(*asked: object) -> Decided:
            searched.append(asked)
            return Decided()

        monkeypatch.setattr(packed, "_allocate", search)
        on.put(allocated("c", 1))
        on.put(pod("p", on="node-1"))
        for among in (None, ("node-1",), ("node-2", "node-1")):
            assert placed(decide(on, 8, among)) is None
        assert not searched
        on.remove(allocated("c", 1))
        decide(on, 8)
        assert searched

    def test_one_of_some_nodes_is_not_one_of_others(self) -> None:
        on = cluster()
        on.put(allocated("a", 0))
        for _ in range(2):
            assert placed(decide(on, 8, ("node-1",))) is None
            assert placed(decide(on, 8, ("node-1", "node-2"))) == ("node-2", [f"gpu-{gpu}" for gpu in range(8)])

    @pytest.mark.parametrize(
        ("event", "frees"),
        [
            (lambda on: on.remove(allocated("a", 0)), True),
            (lambda on: on.put(claim("a")), True),
            (lambda on: on.put(allocated("a", 1)), True),
            (lambda on: on.put(allocated("a", 0, 1)), False),
            (lambda on: on.put(allocated("b", 1)), False),
            (lambda on: on.remove(pod("p", on="node-1")), True),
            (lambda on: on.put(pod("p", on="node-1", phase="Failed")), True),
            (lambda on: on.put(pod("p", on="node-1", cpu="500m")), True),
            (lambda on: on.put(pod("p", on="node-1", cpu="2")), False),
            (lambda on: on.put(pod("q", on="node-1")), False),
            (lambda on: on.put(pod("q")), False),
            (lambda on: on.put(node("node-1")), False),
            (lambda on: on.put(node("node-3")), True),
            (lambda on: [on.put(each) for each in slices("node-1")], True),
        ],
    )
    def test_what_frees(self, event: Any, frees: bool) -> None:
        on = cluster()
        on.put(allocated("a", 0))
        on.put(pod("p", on="node-1"))
        on.packed()
        before = on.freed
        event(on)
        on.packed()
        assert (on.freed != before) == frees
