"""The state of a cluster follows its objects: whatever came in whatever order, twice or late, answers are the same."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.cluster import Cluster, ClusterSettings
from kube.deciding import Decided
from kube.kinds import CLAIMS, NODES, PODS, SLICES
from kube.objects import DeviceClass, Node, ResourceClaim, ResourceSlice
from packing.dra.model import Allocation, ClaimUid
from packing.mix import DemandMix
from packing.model import Demand, NodeName, WholeRequest
from tests.kube.builders import DRIVER, claim, decoded, device, machine_slices, node, pod, result, slice_of
from topology.modes import MigMode, Sharing

PAIR = ["gpu-2", "gpu-3"]
"""The pair that the policy takes first on an empty DGX-1 V100: two links."""
REST = [0, 1, 4, 5, 6, 7]
NODE_NAMES = ("node-1", "node-2")
CLASSES: dict[str, str] = {"whole": "gpu", "mig": "mig", "share": "share"}


def device_class(name: str, kind: str) -> DeviceClass:
    expression = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == '{kind}'"
    spec = {"selectors": [{"cel": {"expression": expression}}]}
    return decoded({"metadata": {"name": name}, "spec": spec}, DeviceClass)


def slices(name: str = "node-1", machine: str = "dgx1-v100") -> list[ResourceSlice]:
    return machine_slices(machine, name)


def cluster(nodes: tuple[str, ...] = NODE_NAMES, machine: str = "dgx1-v100", **settings: Any) -> Cluster:
    made = Cluster(ClusterSettings(**settings))
    for kind in CLASSES.items():
        made.put(device_class(*kind))
    for name in nodes:
        made.put(node(name))
        for each in machine_slices(machine, name, mig_mode=MigMode.DYNAMIC, sharing=tuple(Sharing)):
            made.put(each)
    return made


def asking(count: int = 1, name: str = "new", kind: str = "whole", **exactly: Any) -> ResourceClaim:
    request = {"name": "gpu", "exactly": {"deviceClassName": kind, "count": count, **exactly}}
    return claim(name, requests=[request])


def decide(on: Cluster, count: int = 1, among: tuple[str, ...] | None = None, **pod_fields: Any) -> Decided:
    on.put(asking(count))
    return on.decide(on.resolve(pod("new", claims=["new"], **pod_fields)), among)


def placed(answer: Decided) -> tuple[str, list[str]] | None:
    if answer.allocation is None:
        return None
    return answer.allocation.node, sorted(each.device.name for given in answer.allocation.claims for each in given)


def allocated(name: str, *gpus: int, on: str = "node-1", **fields: Any) -> ResourceClaim:
    return claim(name, [result(f"gpu-{gpu}", f"{on}/{DRIVER}") for gpu in gpus], on=on, **fields)


def newer(found: Any, version: int) -> Any:
    metadata = msgspec.structs.replace(found.metadata, resource_version=str(version))
    return msgspec.structs.replace(found, metadata=metadata)


def idle(on: Cluster, name: str = "node-1") -> list[int]:
    """Return the GPUs of a node that nobody uses."""
    packed = on.packed()
    mask = int(packed.ledger.usage.arrays.nodes[packed.inventory.fabric.index[NodeName(name)], 2])
    return [gpu for gpu in range(16) if mask >> gpu & 1]


def left(on: Cluster, name: str = "node-1") -> tuple[int, int]:
    """Return the millicores and MiB of a node that are left."""
    packed = on.packed()
    row = packed.ledger.usage.arrays.nodes[packed.inventory.fabric.index[NodeName(name)]]
    return int(row[0]), int(row[1])


class TestDecisions:
    def test_a_pair_is_linked_and_comes_by_name(self) -> None:
        assert placed(decide(cluster(), 2)) == ("node-1", PAIR)

    def test_among_the_nodes_named_alone(self) -> None:
        on = cluster()
        assert placed(decide(on, 2, ("node-2",))) == ("node-2", PAIR)
        assert placed(decide(on, 2, ())) is None
        assert placed(decide(on, 2, ("node-9",))) is None

    def test_what_is_allocated_is_not_given_again(self) -> None:
        on = cluster()
        on.put(allocated("c", *range(8)))
        assert placed(decide(on, 8)) == ("node-2", [f"gpu-{gpu}" for gpu in range(8)])
        on.put(allocated("d", *range(8), on="node-2"))
        assert placed(decide(on)) is None

    def test_drivers_that_are_not_ours_are_not_allocated(self) -> None:
        on = cluster(drivers=("nic.example",))
        assert on.pools() == []
        assert len(on.foreign_pools()) == 2

    def test_admin_access_takes_nothing(self) -> None:
        on = cluster()
        on.put(claim("c", [result("gpu-0", f"node-1/{DRIVER}", adminAccess=True)]))
        assert idle(on) == list(range(8))

    def test_partitions_and_shares_are_in_use_as_such(self) -> None:
        on = cluster(machine="dgx-a100-80")
        on.put(claim("m", [result("gpu-0-mig-3g40gb-9-4", f"node-1/{DRIVER}")]))
        amounts = {"memory": "10Gi", "computeMilli": "250"}
        on.put(claim("s", [result("gpu-1-mps", f"node-1/{DRIVER}", shareID="s", consumedCapacity=amounts)]))
        gpus = on.packed().ledger.usage.arrays.gpus
        assert idle(on) == [2, 3, 4, 5, 6, 7]
        assert int(gpus[0, 3]) == 0b11110000
        assert [int(amount) for amount in gpus[1, 1:3]] == [750, 81920 - 10240]

    def test_a_selector_that_fails_is_told_and_nothing_is_allocated(self) -> None:
        on = cluster()
        broken = [{"cel": {"expression": f"device.attributes['{DRIVER}'].nonesuch == 1"}}]
        on.put(asking(selectors=broken))
        answer = on.decide(on.resolve(pod("new", claims=["new"])))
        assert answer.allocation is None
        assert "request gpu" in answer.fault
        assert "nonesuch" in answer.fault

    def test_fits_without_leaves_all_as_it_was(self) -> None:
        on = cluster()
        on.put(allocated("c", *range(8)))
        on.put(asking(8))
        resolved = on.resolve(pod("new", claims=["new"]))
        before = on.version
        assert not on.fits_without(resolved, NodeName("node-1"), ())
        assert on.fits_without(resolved, NodeName("node-1"), (ClaimUid("uid-c"),))
        assert not on.fits_without(resolved, NodeName("node-1"), (ClaimUid("uid-none"),))
        assert (on.version, idle(on)) == (before, [])

    def test_with_slack_there_are_other_nodes(self) -> None:
        on = cluster()
        on.put(asking(2))
        answer = on.decide(on.resolve(pod("new", claims=["new"])), slack=100.0)
        assert placed(answer) == ("node-1", PAIR)
        assert [each.node for each in answer.alternatives] == ["node-2"]


class TestCoresAndMemory:
    """kube-scheduler has decided on them, unless all is ours to decide; they tell good nodes from better ones."""

    def test_bound_pods_take_what_they_request(self) -> None:
        on = cluster()
        on.put(pod("a", on="node-1", cpu="2500m", memory="4Gi", phase="Running"))
        on.put(pod("b", cpu="1"))
        assert left(on) == (96_000 - 2_500, 2**20 - 4096)
        on.put(pod("a", on="node-1", cpu="2500m", memory="4Gi", phase="Succeeded"))
        assert left(on) == (96_000, 2**20)

    def test_a_node_with_room_is_preferred_and_a_full_one_is_not_refused(self) -> None:
        on = cluster()
        on.put(pod("a", on="node-1", cpu="96"))
        assert placed(decide(on, 2)) == ("node-2", PAIR)
        assert placed(decide(on, 2, ("node-1",))) == ("node-1", PAIR)

    def test_a_full_node_is_refused_where_all_is_ours_to_decide(self) -> None:
        on = cluster(place_all=True)
        on.put(pod("a", on="node-1", cpu="96"))
        assert placed(decide(on, 2, ("node-1",))) is None
        assert placed(decide(on, 2)) == ("node-2", PAIR)

    def test_pods_without_devices_are_placed_where_all_is_ours_to_decide(self) -> None:
        on = cluster(place_all=True)
        on.put(pod("a", on="node-1", cpu="95500m"))
        answer = on.decide(on.resolve(pod("new", cpu="1")))
        assert answer.allocation == Allocation(node=NodeName("node-2"), claims=())

    def test_a_node_that_is_overcommitted_stops_nothing(self) -> None:
        """Static pods, and nodes that shrink: more is requested than there is."""
        on = cluster()
        for at in range(3):
            on.put(pod(f"p{at}", on="node-1", cpu="50"))
        assert left(on)[0] == 0
        for at in range(2):
            on.remove(pod(f"p{at}", on="node-1", cpu="50"))
        assert left(on)[0] == 46_000

    def test_a_request_that_is_no_quantity_counts_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        on = cluster()
        on.put(pod("a", on="node-1", cpu="two"))
        assert left(on)[0] == 96_000
        assert "pod=default/a" in caplog.text


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


class TestDevicesInTwoClaims:
    """Nothing in the API prevents it. It must stop nothing, and end with the claims."""

    def test_the_devices_are_free_when_both_are_gone(self) -> None:
        on = cluster()
        on.put(allocated("a", 0, 1))
        on.put(allocated("b", 1, 2))
        assert placed(decide(on, 5, ("node-1",))) == ("node-1", [f"gpu-{gpu}" for gpu in range(3, 8)])
        assert placed(decide(on, 6, ("node-1",))) is None
        on.remove(allocated("a", 0, 1))
        assert placed(decide(on, 6, ("node-1",))) == ("node-1", ["gpu-0", *(f"gpu-{gpu}" for gpu in range(3, 8))])
        on.remove(allocated("b", 1, 2))
        assert placed(decide(on, 8, ("node-1",))) is not None

    def test_amounts_that_are_none_take_all(self, caplog: pytest.LogCaptureFixture) -> None:
        on = cluster()
        on.put(claim("s", [result("gpu-1-mps", f"node-1/{DRIVER}", shareID="s", consumedCapacity={"memory": "x"})]))
        on.put(
            asking(1, kind="share", selectors=[{"cel": {"expression": f"device.attributes['{DRIVER}'].index == 1"}}])
        )
        answer = on.decide(on.resolve(pod("new", claims=["new"])), ("node-1",))
        assert answer.allocation is None
        assert "claim=default/s device=gpu.dovetail.dev/node-1/gpu.dovetail.dev/gpu-1-mps" in caplog.text


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
