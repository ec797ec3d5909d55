"""Pools follow taints and changes, share what they have in common, and keep nothing of what is gone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.objects import DeviceTaintRule, ResourceSlice
from kube.pools import PoolKey, Pools
from packing.dra.model import Effect, Taint
from tests.kube.builders import DRIVER, Json, decoded, device, machine_slices, node, slice_of
from tests.kube.pooling import KEY, pools_of, rule


class TestTaints:
    PUBLISHED = device("x", taints=[{"key": "broken", "effect": "NoExecute"}])

    def test_those_published_come_before_those_of_rules(self) -> None:
        pools = pools_of(slice_of("a", [device("y"), self.PUBLISHED]))
        pools.replace_rules([rule("b", driver=DRIVER), rule("a", driver=DRIVER, pool="pool", device="x")])
        pools.refresh()
        pool = pools.states[KEY].pool
        assert pool is not None
        kept_off = Effect.NO_SCHEDULE
        assert pool.tainted == {
            0: (Taint("b", "", kept_off),),
            1: (Taint("broken", "", Effect.NO_EXECUTE), Taint("a", "", kept_off), Taint("b", "", kept_off)),
        }

    @pytest.mark.parametrize(
        ("selector", "hit"),
        [
            ({}, True),
            ({"driver": DRIVER}, True),
            ({"driver": "other"}, False),
            ({"pool": "pool"}, True),
            ({"pool": "other"}, False),
            ({"device": "x"}, True),
            ({"device": "z"}, False),
        ],
    )
    def test_a_rule_taints_what_meets_all_it_names(self, selector: dict[str, str], hit: bool) -> None:
        pools = pools_of(slice_of("a", [device("x")]))
        pools.put_rule(rule("r", **selector))
        pools.refresh()
        pool = pools.states[KEY].pool
        assert pool is not None
        assert bool(pool.tainted) == hit
        pools.remove_rule("r")
        pools.refresh()
        pool = pools.states[KEY].pool
        assert pool is not None
        assert not pool.tainted

    def test_a_rule_without_a_selector_taints_nothing(self) -> None:
        pools = pools_of(slice_of("a", [device("x")]))
        spec = {"taint": {"key": "r", "effect": "NoSchedule"}}
        pools.put_rule(decoded({"metadata": {"name": "r"}, "spec": spec}, DeviceTaintRule))
        assert pools.refresh() == frozenset()

    @pytest.mark.parametrize(
        "wish", [{"deviceClassName": "gpu"}, {"selectors": [{"cel": {"expression": "device.driver == 'x'"}}]}]
    )
    def test_a_rule_of_v1alpha3_by_class_or_selector_is_ignored_and_named(
        self, wish: Json, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Both were decoded and never looked at: such a rule tainted every device of the cluster."""
        pools = pools_of(slice_of("a", [device("x")]))
        spec = {"deviceSelector": {"driver": DRIVER, **wish}, "taint": {"key": "r", "effect": "NoExecute"}}
        pools.put_rule(decoded({"metadata": {"name": "odd"}, "spec": spec}, DeviceTaintRule))
        assert pools.refresh() == frozenset()
        assert "DeviceTaintRule odd taints nothing: deviceClassName" in caplog.text

    def test_an_effect_of_a_later_day_keeps_pods_off(self) -> None:
        pool = pools_of(slice_of("a", [device("x", taints=[{"key": "k", "effect": "Vaporise"}])])).states[KEY].pool
        assert pool is not None
        assert pool.tainted == {0: (Taint("k", "", Effect.NO_SCHEDULE),)}

    def test_taints_for_other_schedulers_are_not_for_us(self) -> None:
        pool = pools_of(slice_of("a", [self.PUBLISHED]), ignored_taints=frozenset({"broken"})).states[KEY].pool
        assert pool is not None
        assert not pool.tainted


class TestPoolsAlikeShareOneShape:
    def test_of_equal_machines(self) -> None:
        pools = pools_of(*machine_slices("dgx-a100-80", "node-1"), *machine_slices("dgx-a100-80", "node-2"))
        one, two = pools.usable(lambda _: True)
        assert one.shape is two.shape
        uuids = {str(pool.attribute(at, f"{DRIVER}/uuid")) for pool in (one, two) for at in range(8)}
        assert len(uuids) == 16
        assert f"{DRIVER}/uuid" in one.shape.own

    def test_not_of_different_ones(self) -> None:
        pools = pools_of(*machine_slices("dgx-a100-80", "node-1"), *machine_slices("dgx-a100-40", "node-2"))
        one, two = pools.usable(lambda _: True)
        assert one.shape is not two.shape

    def test_an_int_is_no_bool(self) -> None:
        """1 == True in Python, and not in the API."""
        pools = pools_of(
            slice_of("a", [device("x", {"a": 1})], pool="a"), slice_of("b", [device("x", {"a": True})], pool="b")
        )
        one, two = pools.usable(lambda _: True)
        assert one.shape.devices[0].attributes != two.shape.devices[0].attributes

    def test_a_change_re_does_its_pool_alone(self) -> None:
        pools = pools_of(*machine_slices("dgx-a100-80", "node-1"), *machine_slices("dgx-a100-80", "node-2"))
        before = dict(pools.states)
        for each in machine_slices("dgx-a100-80", "node-2", generation=2):
            pools.put(each)
        assert pools.refresh() == {PoolKey(DRIVER, f"node-2/{DRIVER}")}
        kept, changed = PoolKey(DRIVER, f"node-1/{DRIVER}"), PoolKey(DRIVER, f"node-2/{DRIVER}")
        assert pools.states[kept] is before[kept]
        now, then = pools.states[changed].pool, before[changed].pool
        assert now is not None
        assert then is not None
        assert now.shape is then.shape
        assert (then.generation, now.generation) == (1, 2)

    def test_shapes_of_pools_long_gone_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kube.pools.MANY_SHAPES", 10)
        pools = Pools(DRIVER)
        for version in range(50):
            pools.put(slice_of("a", [device(f"x{at}", {"driverVersion": version}) for at in range(4)]))
            pools.refresh()
        assert len(pools._device_shapes) <= 10 + 4
        assert len(pools._pool_shapes) == 1


def picture(pools: Pools) -> dict[PoolKey, object]:
    """All that there is to know of pools, without identities."""
    pools.refresh()
    found: dict[PoolKey, object] = {}
    for key, state in pools.states.items():
        pool = state.pool
        devices = None if pool is None else [(d.name, dict(d.attributes)) for d in pool.shape.devices]
        own = None if pool is None else [dict(each) for each in pool.identity]
        found[key] = (state.fault, devices, own, None if pool is None else (pool.generation, dict(pool.tainted)))
    reach = {
        name: [(r.pool.name, r.mask, r.local) for r in pools.reaches(node(name), frozenset({DRIVER}))]
        for name in ("node-1", "node-2")
    }
    return found | {PoolKey("reach", name): each for name, each in reach.items()}


DEVICES = st.lists(
    st.builds(
        lambda name, model: device(name, {"model": model, "uuid": f"u-{name}"}),
        st.sampled_from("xy"),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=2,
)
SLICES = st.builds(
    lambda name, devices, pool, generation, count, on: slice_of(
        name, devices, pool=pool, generation=generation, count=count, nodeName=on
    ),
    st.sampled_from("abc"),
    DEVICES,
    st.sampled_from(["p", "q"]),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from(["node-1", "node-2"]),
)
RULES = st.builds(lambda name, pool: rule(name, pool=pool), st.sampled_from("rs"), st.sampled_from(["", "p", "q"]))
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), SLICES),
        st.tuples(st.just("remove"), st.sampled_from("abc")),
        st.tuples(
            st.sampled_from(["replace", "keep"]),
            st.lists(SLICES, max_size=3, unique_by=lambda each: each.metadata.name),
        ),
        st.tuples(st.just("rule"), RULES),
        st.tuples(st.just("unrule"), st.sampled_from("rs")),
        st.tuples(st.just("refresh"), st.none()),
    ),
    max_size=12,
)


@given(EVENTS)
def test_however_it_came_about_the_state_is_that_of_the_objects_now(events: list[tuple[str, Any]]) -> None:
    """Order, repetition and intermediate states of events leave nothing behind."""
    pools, slices, rules = Pools(DRIVER), dict[str, ResourceSlice](), dict[str, DeviceTaintRule]()
    for what, subject in events:
        match what:
            case "put":
                pools.put(subject)
                slices[subject.metadata.name] = subject
            case "remove":
                pools.remove(subject)
                slices.pop(subject, None)
            case "replace" | "keep":
                pools.replace(pools.keep(subject) if what == "keep" else subject)
                slices = {each.metadata.name: each for each in subject}
            case "rule":
                pools.put_rule(subject)
                rules[subject.metadata.name] = subject
            case "unrule":
                pools.remove_rule(subject)
                rules.pop(subject, None)
            case _:
                pools.refresh()
    scratch = Pools(DRIVER)
    scratch.replace(reversed(list(slices.values())))
    scratch.replace_rules(rules.values())
    assert picture(pools) == picture(scratch)
    assert not pools._dirty
    for name in slices:
        pools.remove(name)
    pools.refresh()
    assert not pools.states
    assert not pools._nearby
    assert not pools._faulty
