"""Pools as the API defines them: complete, valid, of the newest generation; and who can use which devices."""

from __future__ import annotations

from typing import Any

import pytest

from kube.objects import ResourceSlice
from kube.pools import PoolKey, Pools
from packing.dra.model import NANO, Attribute, AttributeKind, DeviceId
from tests.kube.builders import DRIVER, Json, device, machine_slices, node, slice_of
from tests.kube.pooling import COUNTED, KEY, RACK, SETS, names, pools_of


class TestT38CompletenessOfPools:
    """autoscaler#10199: a slice that says 0 slices make up its pool left the pool incomplete for good."""

    @pytest.mark.parametrize(
        ("slices", "fault"),
        [
            ([("a", 1, 1)], ""),
            ([("a", 1, 2), ("b", 1, 2)], ""),
            ([("a", 1, 2)], "incomplete: 1 of 2 resource slices of generation 1 are there"),
            ([("a", 1, 0)], "incomplete: 1 of 0 resource slices of generation 1 are there"),
            ([("a", 1, 1), ("b", 1, 1)], "incomplete: 2 of 1 resource slices of generation 1 are there"),
            # A driver rewrites its pool: what is old no longer counts, what is new is not all there yet.
            ([("a", 1, 2), ("b", 2, 2)], "incomplete: 1 of 2 resource slices of generation 2 are there"),
            ([("a", 1, 2), ("b", 2, 1)], ""),
        ],
    )
    def test_only_the_newest_generation_counts_and_all_of_it(
        self, slices: list[tuple[str, int, int]], fault: str
    ) -> None:
        found = [slice_of(n, [device(n)], generation=generation, count=count) for n, generation, count in slices]
        assert pools_of(*found).states[KEY].fault == fault

    def test_a_slice_of_an_older_generation_gives_no_device(self) -> None:
        old, new = slice_of("a", [device("old")]), slice_of("b", [device("new")], generation=2)
        assert names(pools_of(old, new)) == ["new"]

    def test_what_our_driver_publishes_is_complete(self) -> None:
        slices = machine_slices("dgx-a100-80")
        assert pools_of(*slices).states[PoolKey(DRIVER, f"node-1/{DRIVER}")].fault == ""

    def test_a_node_that_reaches_an_incomplete_pool_is_told(self) -> None:
        pools = pools_of(slice_of("a", [device("x")], count=2))
        assert pools.unready(node("node-1"), frozenset({DRIVER}))
        assert not pools.unready(node("node-2"), frozenset({DRIVER}))
        assert not pools.unready(node("node-1"), frozenset())
        assert pools.reaches(node("node-1"), frozenset({DRIVER})) == ()


@pytest.mark.parametrize(
    ("slices", "fault"),
    [
        ([slice_of("a", [device("x"), device("x")])], "invalid: device x is there twice"),
        (
            [slice_of("a", [device("x")], count=2), slice_of("b", [device("x")], count=2)],
            "invalid: device x is there twice",
        ),
        (
            [slice_of("a", [device("x", **COUNTED)])],
            "invalid: device x counts on gpu-0/memory, which is not there",
        ),
        ([slice_of("a", counters=SETS, count=2), slice_of("b", [device("x", **COUNTED)], count=2)], ""),
        (
            [slice_of(n, counters=SETS, count=2) for n in "ab"],
            "invalid: counter set gpu-0 is there twice",
        ),
        (
            [slice_of("a", [device("x", capacity={"memory": {"value": "1Gib"}})])],
            "invalid: resource slice a: quantity: '1Gib':",
        ),
    ],
)
def test_an_invalid_pool_is_unusable_and_says_why(slices: list[ResourceSlice], fault: str) -> None:
    found = pools_of(*slices).states[KEY]
    assert found.fault.startswith(fault)
    assert (found.fault == "") == (fault == "")
    assert (found.pool is None) == (fault != "")


def test_a_pool_gets_well_when_its_slices_do() -> None:
    pools = pools_of(slice_of("a", [device("x"), device("x")]))
    pools.put(slice_of("a", [device("x"), device("y")]))
    assert pools.refresh() == {KEY}
    assert names(pools) == ["x", "y"]


def test_slices_are_in_the_order_of_their_names_and_devices_as_listed() -> None:
    slices = [slice_of(n, [device(f"{n}2"), device(f"{n}1")], count=3) for n in ("00002", "00000", "00001")]
    assert names(pools_of(*slices)) == ["000002", "000001", "000012", "000011", "000022", "000021"]


def test_names_of_attributes_are_qualified_and_a_qualified_one_counts_before_its_double() -> None:
    attributes = {f"{DRIVER}/index": 7, "index": 1, "other.org/index": 2, "model": "A", "fast": True}
    pools = pools_of(slice_of("a", [device("x", attributes)]))
    pool = pools.states[KEY].pool
    assert pool is not None
    assert pool.shape.devices[0].attributes == {
        f"{DRIVER}/index": Attribute(AttributeKind.INT, (7,)),
        "other.org/index": Attribute(AttributeKind.INT, (2,)),
        f"{DRIVER}/model": Attribute(AttributeKind.STRING, ("A",)),
        f"{DRIVER}/fast": Attribute(AttributeKind.BOOL, (True,)),
    }


def test_attributes_keep_their_type_and_lists_their_order() -> None:
    attributes = {"one": {"version": "1.2.3"}, "many": {"strings": ["b", "a"]}, "new": {"complex": "x"}}
    pool = pools_of(slice_of("a", [device("x", attributes)])).states[KEY].pool
    assert pool is not None
    assert pool.attribute(0, f"{DRIVER}/one") == Attribute(AttributeKind.VERSION, ("1.2.3",))
    assert pool.attribute(0, f"{DRIVER}/many") == Attribute(AttributeKind.STRING, ("b", "a"), is_list=True)
    # A type that came after this program is as if it were not there.
    assert pool.attribute(0, f"{DRIVER}/new") is None


def test_capacities_go_by_published_names_with_their_policies() -> None:
    limits = {"min": "1Mi", "max": "2Gi", "step": "1Mi"}
    policy = {"default": "1Gi", "validRange": limits}
    capacity = {"memory": {"value": "2Gi", "requestPolicy": policy}, "other.org/x": {"value": "1500m"}}
    pool = pools_of(slice_of("a", [device("x", capacity=capacity, allowMultipleAllocations=True)])).states[KEY].pool
    assert pool is not None
    found = pool.shape.devices[0]
    assert found.multiple
    assert found.capacity["memory"].value == 2**31 * NANO
    assert found.capacity["memory"].policy is not None
    assert found.capacity["memory"].policy.minimum == 2**20 * NANO
    assert found.capacity["other.org/x"].value == 15 * NANO // 10


class TestWhoCanUseWhat:
    """nodeName, nodeSelector, allNodes, perDeviceNodeSelection."""

    @staticmethod
    def reached(pools: Pools, **labels: str) -> list[tuple[str, list[str], bool]]:
        found = pools.reaches(node("node-1", **labels), frozenset({DRIVER, "nic.example"}))
        return [
            (r.pool.name, [d.name for at, d in enumerate(r.pool.shape.devices) if r.mask >> at & 1], r.local)
            for r in found
        ]

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ({"nodeName": "node-1"}, [("pool", ["x"], True)]),
            ({"nodeName": "node-2"}, []),
            ({"allNodes": True}, [("pool", ["x"], False)]),
            ({"nodeSelector": RACK}, [("pool", ["x"], False)]),
            ({"nodeSelector": {"nodeSelectorTerms": []}}, []),
        ],
    )
    def test_by_slice(self, where: dict[str, Any], expected: list[tuple[str, list[str], bool]]) -> None:
        assert self.reached(pools_of(slice_of("a", [device("x")], **where)), rack="r1") == expected

    def test_a_selector_follows_the_labels_of_the_node(self) -> None:
        pools = pools_of(slice_of("a", [device("x")], nodeSelector=RACK))
        assert self.reached(pools, rack="r2") == []
        assert self.reached(pools, rack="r1") == [("pool", ["x"], False)]

    def test_by_device_those_of_the_node_stand_apart(self) -> None:
        devices = [
            device("mine", nodeName="node-1"),
            device("theirs", nodeName="node-2"),
            device("ours", allNodes=True),
            device("rack", nodeSelector=RACK),
        ]
        pools = pools_of(slice_of("a", devices, perDeviceNodeSelection=True))
        assert self.reached(pools, rack="r1") == [("pool", ["mine"], True), ("pool", ["ours", "rack"], False)]
        assert self.reached(pools) == [("pool", ["mine"], True), ("pool", ["ours"], False)]
        where = pools.where(DeviceId(DRIVER, "pool", "theirs"))
        assert where is not None
        assert where.node == "node-2"

    def test_pools_are_in_the_order_of_the_in_tree_allocator(self) -> None:
        """Driver, then name; those with binding conditions last (contracts 2.2)."""
        waits: Json = {"bindingConditions": ["ready"], "bindingFailureConditions": ["failed"]}
        pools = pools_of(
            slice_of("1", [device("x")], pool="b"),
            slice_of("2", [device("x", **waits)], pool="a"),
            slice_of("3", [device("x")], pool="c", driver="nic.example"),
            slice_of("4", [device("x")], pool="aa"),
        )
        assert [name for name, _, _ in self.reached(pools)] == ["aa", "b", "c", "a"]

    def test_drivers_that_we_do_not_allocate_for_are_not_reached(self) -> None:
        pools = pools_of(slice_of("a", [device("x")], driver="other.example"))
        assert self.reached(pools) == []
        assert [pool.driver for pool in pools.usable(lambda _: True)] == ["other.example"]

    @pytest.mark.parametrize(
        "asks",
        [
            {"nodeAllocatableResources": {"cpu": {"mapping": {"capacityKey": "cores"}}}},
            {"consumesCounters": [{**COUNTED["consumesCounters"][0], "compatibilityGroups": ["a"]}]},
        ],
    )
    def test_a_device_that_needs_a_scheduler_of_a_later_day_is_left_out(self, asks: dict[str, Any]) -> None:
        pools = pools_of(
            slice_of("a", counters=SETS, count=2), slice_of("b", [device("new", **asks), device("x")], count=2)
        )
        assert self.reached(pools) == [("pool", ["x"], True)]
        assert list(pools.states[KEY].beyond_us) == ["new"]
