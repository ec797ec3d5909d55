"""When the nodes of a cluster are packed anew, and when the demand to come is learned anew."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from kube.cluster import Cluster
from kube.objects import Node
from packing.mix import DemandMix
from packing.model import Demand, WholeRequest
from tests.kube.builders import DRIVER, decoded, device, node, pod, slice_of
from tests.kube.clusters import (
    allocated,
    cluster,
    decide,
    newer,
)


class TestPackingIsForChangesOfNodesAndPools:
    def test_heartbeats_claims_and_pods_change_nothing(self) -> None:
        on = cluster()
        before = on.packed().inventory
        seen = newer(node("node-1"), 77)
        on.put(seen)
        on.put(allocated("c", 0))
        on.put(pod("p", on="node-1"))
        assert on.packed().inventory is before
        assert on.store.nodes.get("", "node-1") is seen

    @pytest.mark.parametrize("changed", [node("node-1", cpu="8"), node("node-1", rack="r2"), node("node-3")])
    def test_a_changed_node_is_packed(self, changed: Node) -> None:
        on = cluster()
        before = on.packed().inventory
        on.put(changed)
        assert on.packed().inventory is not before

    def test_however_many_events_there_were_it_is_packed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        on, packed = cluster(), list[object]()
        arrange = on._arranger.arrange

        def counted(*given: Any) -> Any:
            packed.append(given)
            return arrange(*given)

        monkeypatch.setattr(on._arranger, "arrange", counted)
        for at in range(10):
            on.put(node(f"more-{at}"))
            on.put(allocated(f"c{at}", at % 8))
        decide(on)
        decide(on)
        assert len(packed) == 1

    def test_nodes_are_in_order_of_rank_then_name(self) -> None:
        on = cluster(("node-2", "node-1", "node-3"))
        metadata = {"name": "node-3", "uid": "uid-node-3", "annotations": {"dovetail.dev/rank": "-1"}}
        on.put(decoded({"metadata": metadata}, Node))
        assert [each.name for each in on.packed().inventory.fabric.nodes] == ["node-3", "node-1", "node-2"]

    def test_a_rank_that_is_none_is_told_and_0(self, caplog: pytest.LogCaptureFixture) -> None:
        on = cluster()
        metadata = {"name": "node-2", "uid": "uid-node-2", "annotations": {"dovetail.dev/rank": "first"}}
        on.put(decoded({"metadata": metadata}, Node))
        assert [each.rank for each in on.packed().inventory.fabric.nodes] == [0, 0]
        assert "node=node-2" in caplog.text

    def test_faults_of_pools_are_told(self, caplog: pytest.LogCaptureFixture) -> None:
        on = Cluster()
        on.put(slice_of("a", [device("x"), device("x")], pool="p"))
        with caplog.at_level(logging.WARNING):
            assert on.pools() == []
        assert f"driver={DRIVER} pool=p invalid: device x is there twice" in caplog.text


class TestTheMix:
    def test_it_is_learned_from_the_pods_that_are_there(self) -> None:
        on = cluster()
        on.put(allocated("c", 0, 3, reserved_for=["p"]))
        on.put(pod("p", on="node-1", cpu="4", memory="8Gi", claims=["c"]))
        on.put(pod("q", on="node-2", cpu="1", memory="1Gi"))
        on.packed()
        assert on._mix.of(on.books, on.store.claims, on.packed().inventory).counts == (
            (Demand(cpu_milli=1000, memory_mib=1024), 1),
            (Demand(cpu_milli=4000, memory_mib=8192, requests=(WholeRequest(count=2),)), 1),
        )

    def test_it_is_learned_anew_when_there_are_twice_as_many_or_half(self) -> None:
        on = cluster()
        policies = []
        for at in range(9):
            on.put(pod(f"p{at}", on="node-1"))
            policies.append(on.packed().policy)
        changes = [at + 1 for at in range(1, 9) if policies[at] is not policies[at - 1]]
        assert changes == [3, 7]
        for at in range(6):
            on.remove(pod(f"p{at}", on="node-1"))
        assert on.packed().policy is not policies[-1]

    def test_one_that_is_given_stays(self) -> None:
        mix = DemandMix.from_demands([(Demand(requests=(WholeRequest(count=4),)), 1)])
        on = cluster(mix=mix)
        before = on.packed().policy
        for at in range(9):
            on.put(pod(f"p{at}", on="node-1"))
        assert on.packed().policy is before
