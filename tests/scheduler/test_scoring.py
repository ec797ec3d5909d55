"""Mode score: nodes by what kube-scheduler's allocator would pick there, and what must not be left to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from kube.cluster import Cluster, ClusterSettings
from kube.objects import DeviceClass, Pod, ResourceClaim, ResourceSlice
from packing.model import NodeName
from scheduler import texts
from scheduler.decider import DecideSettings
from scheduler.foreseen import Foreseen
from scheduler.reservations import PodUid
from scheduler.scoring import MAX_SEARCHES, SETTLE_S, Scorer, ranked
from scheduler.wire import BindingArgs, ExtenderArgs, FilterResult, Wishes
from tests.kube.builders import DRIVER, claim, decoded, machine_slices, node, pod, result
from tests.kube.clusters import CLASSES, allocated, asking, device_class, newer
from topology.modes import MigMode, Sharing

PAIRS = "a100-8-pcie-nvlink-pairs"
NAMES = ("node-1", "node-2", "node-3")
NONE = Wishes()
DOMAIN = f"{DRIVER}/nvlinkDomain"


class Stage:
    """A scorer over simulated nodes; its clock is set by hand."""

    def __init__(self, machine: str = PAIRS, **settings: Any) -> None:
        self.cluster = Cluster(ClusterSettings(every_driver=True))
        for kind in CLASSES.items():
            self.cluster.put(device_class(*kind))
        for name in NAMES:
            self.cluster.put(node(name))
            for each in machine_slices(machine, name, mig_mode=MigMode.DYNAMIC, sharing=tuple(Sharing)):
                self.cluster.put(each)
        self.foreseen = Foreseen(self.cluster)
        self.now_s = 0.0
        self.scorer = Scorer(self.cluster, self.foreseen, lambda: self.now_s, DecideSettings(**settings))
        self.scorer.shares_refused = False

    def settle(self) -> None:
        self.scorer.tick()
        self.now_s += SETTLE_S

    def asks(self, count: int = 1, name: str = "new", kind: str = "whole", **fields: Any) -> Pod:
        self.foreseen.view.put_claim(asking(count, name, kind, **fields))
        return pod(name, claims=[name])

    def filter(self, asked: Pod, names: tuple[str, ...] = NAMES, wishes: Wishes = NONE) -> FilterResult:
        return self.scorer.filter(ExtenderArgs(pod=asked, node_names=names, wishes=wishes))

    def scores(self, asked: Pod, names: tuple[str, ...] = NAMES, wishes: Wishes = NONE) -> dict[str, int]:
        found = self.scorer.prioritize(ExtenderArgs(pod=asked, node_names=names, wishes=wishes))
        return {each.host: each.score for each in found}


def nominated(asked: Pod, on: str, version: int = 2) -> Pod:
    status = msgspec.structs.replace(asked.status, nominated_node_name=on)
    found: Pod = newer(msgspec.structs.replace(asked, status=status), version)
    return found


def test_the_node_whose_first_fit_is_a_true_pair_is_the_best() -> None:
    """gpu-0 is taken on node-1 and node-3: there first fit takes gpu-1 and gpu-2, which no NVLink joins."""
    on = Stage()
    for at in ("node-1", "node-3"):
        on.foreseen.view.put_claim(allocated(f"held-{at}", 0, on=at))
    asked = on.asks(2)
    assert on.filter(asked).node_names == NAMES
    scores = on.scores(asked)
    assert scores["node-2"] == 10
    assert max(scores["node-1"], scores["node-3"]) < 10


def test_one_of_equals_is_the_best() -> None:
    on = Stage()
    assert on.scores(on.asks()) == {"node-1": 10, "node-2": 9, "node-3": 8}


@pytest.mark.parametrize(
    ("scores", "slack", "ranks"),
    [
        ([], 0, []),
        ([5], 0, [10]),
        ([5, 5, 4, 4, 3], 0, [10, 9, 8, 8, 7]),
        ([5, 5, 4, 4, 3], 1, [10, 10, 10, 10, 9]),
        (list(range(20, 0, -1)), 0, [10, 9, 8, 7, 6, 5, 4, 3, 2, *[1] * 11]),
    ],
)
def test_ranks(scores: list[int], slack: int, ranks: list[int]) -> None:
    found = [(NodeName(str(at)), score) for at, score in enumerate(scores)]
    assert list(ranked(found, slack).values()) == ranks


def test_within_slack_the_choice_is_kube_schedulers() -> None:
    on = Stage()
    assert set(on.scores(on.asks(), wishes=Wishes(slack=1.0)).values()) == {10}
    assert set(on.scores(on.asks(), wishes=Wishes(soft=True)).values()) == {10}


def test_a_miswritten_annotation_is_told_where_it_matters() -> None:
    on, wrong = Stage(), Wishes(fault="pod: annotation x: no number")
    told = dict.fromkeys(NAMES, "dovetail: pod: annotation x: no number")
    assert on.filter(on.asks(), wishes=wrong).failed_and_unresolvable == told
    assert on.filter(pod(), wishes=wrong).node_names == NAMES


def test_pods_without_devices_pass_and_score_alike() -> None:
    on = Stage()
    assert on.filter(pod()) == FilterResult(node_names=NAMES)
    assert set(on.scores(pod()).values()) == {0}


def test_nodes_where_no_allocation_exists_are_removed() -> None:
    on = Stage()
    on.foreseen.view.put_claim(allocated("full", *range(8), on="node-1"))
    found = on.filter(on.asks())
    assert found.node_names == ("node-2", "node-3")
    assert found.failed_and_unresolvable == {"node-1": texts.NO_DEVICES}


def test_nodes_that_first_fit_alone_cannot_use_are_not_all_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """One search tells of one node: at thousands of nodes they would take longer than kube-scheduler waits."""
    on, calls = Stage(), list[int]()
    many, asked = [NodeName(f"n{at}") for at in range(100)], on.asks()
    decided = on.cluster.decide(on.cluster.resolve(asked), NAMES)
    first = decided.allocation
    assert first is not None

    def decide(_resolved: object, among: Any) -> Any:
        calls.append(len(among))
        return replace(decided, allocation=replace(first, node=among[0]))

    monkeypatch.setattr(on.cluster, "decide", decide)
    monkeypatch.setattr(on.cluster, "predict", lambda *_: [])
    monkeypatch.setattr(on.cluster, "nodes", lambda: many)
    assert on.filter(asked, tuple(many)).node_names == tuple(many)
    assert len(calls) == MAX_SEARCHES


def test_where_none_would_be_left_the_picture_must_be_settled() -> None:
    """kube-scheduler's allocator has just found devices on these nodes: it may have seen more than we have."""
    on = Stage()
    asked = on.asks(9)
    assert on.filter(asked).node_names == NAMES
    on.settle()
    assert on.filter(asked).failed_and_unresolvable == dict.fromkeys(NAMES, texts.NO_DEVICES)


def test_nodes_that_we_do_not_know_are_not_removed() -> None:
    on = Stage()
    assert on.filter(on.asks(), (*NAMES, "new-node")).node_names == (*NAMES, "new-node")


def test_what_kube_scheduler_itself_refuses_is_left_to_it() -> None:
    on = Stage()
    assert on.filter(pod(claims=["none"])).node_names == NAMES
    on.foreseen.view.put_claim(claim("other", requests=[{"name": "r", "exactly": {"deviceClassName": "nonesuch"}}]))
    assert on.filter(pod(claims=["other"])).node_names == NAMES


def linked(wish: dict[str, Any], **devices: Any) -> ResourceClaim:
    parameters = {"apiVersion": "gpu.dovetail.dev/v1alpha1", "kind": "GpuConfig", "link": wish}
    spec = {
        "devices": {
            "requests": [{"name": "gpu", "exactly": {"deviceClassName": "whole", "count": 2}}],
            "config": [{"opaque": {"driver": DRIVER, "parameters": parameters}}],
            **devices,
        }
    }
    metadata = {"name": "new", "namespace": "default", "uid": "uid-new"}
    return decoded({"metadata": metadata, "spec": spec}, ResourceClaim)


class TestLinks:
    """kube-scheduler does not know link wishes: one that must hold has to be said in a way that it knows."""

    def refused(self, wish: dict[str, Any], **devices: Any) -> str:
        on = Stage()
        on.foreseen.view.put_claim(linked(wish, **devices))
        found = on.filter(pod("new", claims=["new"]))
        assert len(found.failed_and_unresolvable) + len(found.node_names) == len(NAMES)
        (text,) = set(found.failed_and_unresolvable.values()) or {""}
        return text

    def test_require_needs_a_constraint(self) -> None:
        text = self.refused({"wish": "require"})
        assert "claim default/new, request gpu requires links" in text
        assert f"matchAttribute {DOMAIN}" in text
        others = [{"matchAttribute": f"{DRIVER}/productName"}, {"distinctAttribute": DOMAIN}]
        assert self.refused({"wish": "require"}, constraints=others) == text

    @pytest.mark.parametrize("attribute", [DOMAIN, f"{DRIVER}/nvlinkClique"])
    def test_with_one_to_the_same_effect_it_is_served(self, attribute: str) -> None:
        assert self.refused({"wish": "require"}, constraints=[{"matchAttribute": attribute}]) in {"", texts.NO_DEVICES}

    def test_a_least_bandwidth_cannot_be_asked_for(self) -> None:
        text = self.refused({"wish": "require", "minGBps": 1}, constraints=[{"matchAttribute": DOMAIN}])
        assert "minGBps" in text

    def test_a_misspelt_wish_is_told_and_any_other_is_served(self) -> None:
        assert "$.link.wish" in self.refused({"wish": "requires"})
        assert self.refused({"wish": "prefer"}) == ""


class TestDecisionsOfKubeScheduler:
    """A decision counts as taken when the node is nominated, until the claim says what was given."""

    def taken(self, on: Stage) -> list[int]:
        packed = on.cluster.packed()
        mask = int(packed.ledger.usage.arrays.nodes[packed.inventory.fabric.index[NodeName("node-1")], 2])
        return [gpu for gpu in range(8) if not mask >> gpu & 1]

    def test_from_the_nomination_to_the_allocation(self) -> None:
        on = Stage()
        asked = on.asks(2)
        on.foreseen.view.put_pod(asked)
        assert self.taken(on) == []
        on.foreseen.view.put_pod(nominated(asked, "node-1"))
        assert self.taken(on) == [0, 1]
        given = [result("gpu-2"), result("gpu-3")]
        on.foreseen.view.put_claim(newer(claim("new", given, reserved_for=["new"]), 5))
        assert self.taken(on) == [2, 3], "what it was really given, and no more"
        assert on.foreseen.nodes == {}
        on.foreseen.view.put_pod(nominated(asked, "node-1", 3))
        assert self.taken(on) == [2, 3]

    def test_until_the_nomination_changes_or_goes(self) -> None:
        on = Stage()
        asked = on.asks()
        on.foreseen.view.put_pod(nominated(asked, "node-1"))
        on.foreseen.view.put_pod(nominated(asked, "node-2", 3))
        assert self.taken(on) == []
        assert on.foreseen.nodes == {PodUid(asked.metadata.uid): "node-2"}
        on.foreseen.view.put_pod(nominated(asked, "", 4))
        assert on.foreseen.nodes == {}
        on.foreseen.view.put_pod(nominated(asked, "node-1", 5))
        on.foreseen.view.remove_pod(asked)
        assert self.taken(on) == []

    def test_a_bound_pod_keeps_them_until_its_claim_is_seen(self) -> None:
        """Claims and pods come by watches of their own."""
        on = Stage()
        asked = on.asks()
        on.foreseen.view.put_pod(nominated(asked, "node-1"))
        on.foreseen.view.put_pod(newer(pod("new", on="node-1", claims=["new"]), 3))
        assert self.taken(on) == [0]

    def test_a_claim_or_a_slice_may_come_after_it(self) -> None:
        on = Stage()
        late = pod("late", claims=["late"])
        on.foreseen.view.put_pod(nominated(late, "node-1"))
        on.foreseen.view.put_claim(asking(1, "late"))
        assert self.taken(on) == []
        on.filter(on.asks())
        assert self.taken(on) == [0]

    def test_a_new_decision_is_not_in_its_own_way(self) -> None:
        on = Stage()
        asked = on.asks(8)
        again = nominated(asked, "node-1")
        on.foreseen.view.put_pod(again)
        assert on.filter(again).node_names == NAMES
        assert on.scores(again)["node-1"] == 10
        on.filter(on.asks(1, "another"))
        assert self.taken(on) == list(range(8))


def test_shares_are_refused_where_kube_scheduler_gives_them_twice() -> None:
    on = Stage("dgx-a100-80")
    on.scorer.shares_refused = True
    share = on.asks(name="s", kind="share", capacity={"requests": {"memory": "10Gi", "computeMilli": "250"}})
    assert on.filter(share).failed_and_unresolvable == dict.fromkeys(NAMES, texts.NO_SHARES)
    assert on.filter(on.asks()).node_names == NAMES
    on.scorer.shares_refused = False
    assert on.filter(share).node_names == NAMES


def test_claims_of_other_drivers_are_predicted_too() -> None:
    on = Stage()
    on.foreseen.view.put_claim(asking(1, "nic", "nic"))
    spec = {
        "driver": "nic.example.com",
        "nodeName": "node-2",
        "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "nic-0"}],
    }
    on.cluster.put(decoded({"metadata": {"name": "s"}, "spec": spec}, ResourceSlice))
    selectors = [{"cel": {"expression": "device.driver == 'nic.example.com'"}}]
    on.cluster.put(decoded({"metadata": {"name": "nic"}, "spec": {"selectors": selectors}}, DeviceClass))
    on.asks(2)
    both = pod("both", claims=["new", "nic"])
    assert on.filter(both).node_names == ("node-2",)
    assert on.scores(both) == {"node-1": 0, "node-2": 10, "node-3": 0}


async def bound(on: Stage) -> str:
    return await on.scorer.bind(BindingArgs(pod_name="p", pod_namespace="n", pod_uid="u", node="node-1"))


def test_it_binds_nothing() -> None:
    assert "bindVerb" in asyncio.run(bound(Stage()))
