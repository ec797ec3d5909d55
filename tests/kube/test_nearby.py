"""A node finds the pools it reaches by name and label: the same as by trying them all, without doing so."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import pools as under_test
from kube.nodeselect import selects
from kube.objects import Node, NodeSelector, ResourceSlice
from kube.pools import Pools
from tests.kube.builders import DRIVER, Json, device, node, slice_of

OURS = frozenset({DRIVER})
NAMES = ["node-1", "node-2", "3"]
KEYS = ["rack", "kubernetes.io/hostname"]
REQUIREMENTS = st.builds(
    lambda key, operator, values: {
        "key": key,
        "operator": operator,
        "values": [] if operator in {"Exists", "DoesNotExist"} else values[: 1 if operator in {"Gt", "Lt"} else 2],
    },
    st.sampled_from(KEYS),
    st.sampled_from(["In", "In", "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
)
FIELDS = st.builds(
    lambda operator, name: {"key": "metadata.name", "operator": operator, "values": [name]},
    st.sampled_from(["In", "NotIn"]),
    st.sampled_from(NAMES),
)
TERMS = st.fixed_dictionaries(
    {"matchExpressions": st.lists(REQUIREMENTS, max_size=2), "matchFields": st.lists(FIELDS, max_size=1)}
)
WHERES: st.SearchStrategy[Json] = st.one_of(
    st.builds(lambda name: {"nodeName": name}, st.sampled_from(NAMES)),
    st.just({"allNodes": True}),
    st.builds(lambda terms: {"nodeSelector": {"nodeSelectorTerms": terms}}, st.lists(TERMS, max_size=2)),
)
SLICES = st.builds(
    lambda name, wheres, count: slice_of(
        name,
        [device(f"d{at}", **where) for at, where in enumerate(wheres)],
        pool=f"pool-{name}",
        count=count,
        perDeviceNodeSelection=True,
    ),
    st.sampled_from("abcd"),
    st.lists(WHERES, min_size=1, max_size=3),
    st.integers(1, 2),
)
NODES = st.builds(
    lambda name, labels: node(name, **labels),
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(NAMES)),
)


def used(found: ResourceSlice, by: Node) -> set[str]:
    """Return the devices that a node can use, by the definition."""
    name, labels = by.metadata.name, by.metadata.labels
    return {
        each.name
        for each in found.spec.devices
        if each.node_name == name
        or each.all_nodes
        or (each.node_selector is not None and selects(each.node_selector, name, labels))
    }


@given(st.lists(st.tuples(SLICES, st.booleans()), max_size=8), NODES)
def test_a_node_reaches_what_trying_every_device_says(events: list[tuple[ResourceSlice, bool]], by: Node) -> None:
    pools, there = Pools(DRIVER), dict[str, ResourceSlice]()
    for found, stays in events:
        pools.put(found)
        pools.refresh()
        there[found.metadata.name] = found
        if not stays:
            pools.remove(found.metadata.name)
            pools.refresh()
            del there[found.metadata.name]
    reached: dict[str, set[str]] = {}
    for one in pools.reaches(by, OURS):
        names = {shape.name for at, shape in enumerate(one.pool.shape.devices) if one.mask >> at & 1}
        reached.setdefault(one.pool.name, set()).update(names)
    whole = [each for each in there.values() if each.spec.pool.resource_slice_count == 1]
    expected = {each.spec.pool.name: used(each, by) for each in whole}
    assert reached == {pool: devices for pool, devices in expected.items() if devices}
    broken = [each for each in there.values() if each.spec.pool.resource_slice_count != 1]
    assert pools.unready(by, OURS) == any(used(each, by) for each in broken)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the nodes for which a selector was evaluated, in order."""
    names: list[str] = []

    def counted(selector: NodeSelector | None, name: str, labels: Mapping[str, str]) -> bool:
        names.append(name)
        return selects(selector, name, labels)

    monkeypatch.setattr(under_test, "selects", counted)
    return names


def bound_to(key: str, value: str) -> Json:
    requirement = {"key": key, "operator": "In", "values": [value]}
    field = "matchFields" if key == "metadata.name" else "matchExpressions"
    return {"nodeSelector": {"nodeSelectorTerms": [{field: [requirement]}]}}


@pytest.mark.parametrize("key", ["metadata.name", "kubernetes.io/hostname", "rack"])
@pytest.mark.parametrize("count", [1, 2], ids=["complete", "incomplete"])
def test_pools_bound_to_other_nodes_by_a_selector_cost_a_node_nothing(key: str, count: int, tried: list[str]) -> None:
    """1,000 nodes with a network pool each took 36 s at each change: every node tried the selector of every pool."""
    pools, names = Pools(DRIVER), [f"node-{at}" for at in range(50)]
    for name in names:
        pools.put(slice_of(name, [device("x")], pool=name, count=count, **bound_to(key, name)))
    pools.refresh()
    for name in names:
        by = node(name, **{key: name})
        assert [one.pool.name for one in pools.reaches(by, OURS)] == ([name] if count == 1 else [])
        assert pools.unready(by, OURS) == (count != 1)
    assert sorted(tried) == sorted(names)


def test_a_selector_that_many_pools_have_is_evaluated_once_a_node(tried: list[str]) -> None:
    exists: Json = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "Exists"}]}]}
    pools = Pools(DRIVER)
    for at in range(20):
        pools.put(slice_of(f"s{at}", [device("x")], pool=f"p{at}", nodeSelector=exists))
    pools.refresh()
    assert len(pools.reaches(node(rack="r1"), OURS)) == 20
    assert tried == ["node-1"]
