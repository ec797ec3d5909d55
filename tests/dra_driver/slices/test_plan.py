"""No watcher ever sees a pool that misleads: every prefix of the writes, with foreign deletions between, is judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra_driver.inventory import Gpu
from dra_driver.publish import DRIVER_NAME, resource_slices
from dra_driver.publish.features import Features
from dra_driver.publish.taints import DeviceTaint, Effect
from dra_driver.slices import plan
from dra_driver.slices.compare import times
from dra_driver.slices.plan import Create, Update, Write, changes
from tests.dra_driver.nodes import gpu, node
from tests.dra_driver.slices.pools import OWNER, POOL, Store, judged, meaning
from topology.catalog import mig_geometry
from topology.modes import MigMode, Sharing

Json = dict[str, Any]
H100 = mig_geometry("h100-80gb")
XID = DeviceTaint("gpu.dovetail.dev/xid", "79", Effect.NO_SCHEDULE)
LOST = DeviceTaint("gpu.dovetail.dev/lost", "", Effect.NO_EXECUTE)


@st.composite
def gpus(draw: st.DrawFn) -> tuple[Gpu, ...]:
    """Up to four GPUs: 0 to 6 slices, which differ in everything that can change on a node."""
    count = draw(st.integers(0, 4))
    return tuple(
        gpu(
            H100 if draw(st.booleans()) else None,
            index,
            product="NVIDIA H100" if draw(st.booleans()) else "NVIDIA L40S",
            sharing=draw(st.sampled_from([(), (Sharing.MPS,), tuple(Sharing)])),
        )
        for index in range(count)
    )


@st.composite
def pools(draw: st.DrawFn) -> list[Json]:
    found = draw(gpus())
    found = tuple(
        replace(each, mig_mode=draw(st.sampled_from(list(MigMode)))) if each.mig is not None else each for each in found
    )
    names = [f"gpu-{each.minor}" for each in found] + ["gpu-0-mps", "gpu-0-mig-1g10gb-19-6"]
    tainted = draw(st.dictionaries(st.sampled_from(names), st.sampled_from([(XID,), (LOST, XID)]), max_size=3))
    features = Features(counters=draw(st.booleans()), shares=draw(st.booleans()), taints=draw(st.booleans()))
    return resource_slices(node(*found), taints=tainted, features=features)


@st.composite
def stored_pools(draw: st.DrawFn) -> Store:
    """What a driver may find: nothing, a pool, part of one, one whose change was cut short, slices of others."""
    store = Store()
    for wanted in draw(st.lists(pools(), max_size=2)):
        writes = changes(wanted, store.listed(), OWNER)
        store.apply_all(writes[: draw(st.integers(0, len(writes)))])
    for name in draw(st.lists(st.sampled_from(sorted(store.slices)), max_size=2)) if store.slices else ():
        store.slices.pop(name, None)
    if draw(st.booleans()):
        store.apply(Create(foreign(draw(st.sampled_from(["stray", "zz"])), draw(st.integers(1, 3)))))
    return store


def foreign(name: str, generation: int, pool: str = POOL.name) -> Json:
    spec = {"driver": DRIVER_NAME, "nodeName": "node-1", "devices": [{"name": f"{name}-device"}]}
    return {
        "metadata": {"name": name},
        "spec": spec | {"pool": {"name": pool, "generation": generation, "resourceSliceCount": 1}},
    }


def converged(store: Store, wanted: list[Json]) -> bool:
    return not changes(wanted, store.listed(), OWNER)


@given(stored_pools(), pools())
def test_writes_make_of_whatever_is_there_what_is_wanted_and_then_there_are_none(
    store: Store, wanted: list[Json]
) -> None:
    store.apply_all(changes(wanted, store.listed(), OWNER))
    state = judged(store.listed())
    assert state.fault == ""
    assert meaning(store.listed()) == meaning(wanted)
    assert [each["spec"].get("devices") for each in undated(store.listed())] == [
        each["spec"].get("devices") for each in wanted
    ]
    assert converged(store, wanted)


def undated(slices: Iterable[Json]) -> list[Json]:
    found = list(slices)
    for each in found:
        for device in each["spec"].get("devices") or ():
            for taint in device.get("taints") or ():
                taint.pop("timeAdded", None)
    return found


@given(pools(), pools(), st.data())
def test_t38_after_every_write_the_pool_is_the_old_one_the_new_one_or_incomplete(
    before: list[Json], wanted: list[Json], data: st.DataObject
) -> None:
    """What could be allocated from it is at no instant a mixture, whatever others delete in between."""
    store = Store()
    store.apply_all(changes(before, [], OWNER))
    allowed = [meaning(before), meaning(wanted)]
    seen = [watched(store, allowed)]
    for write in changes(wanted, store.listed(), OWNER):
        if data.draw(st.integers(0, 9)) == 0 and store.slices:
            del store.slices[data.draw(st.sampled_from(sorted(store.slices)))]
            watched(store, allowed)
        try:
            store.apply(write)
        except (KeyError, AssertionError):
            break  # as the API server: NotFound or AlreadyExists; the driver reads and plans again
        seen.append(watched(store, allowed))
    store.apply_all(changes(wanted, store.listed(), OWNER))
    assert watched(store, allowed) == "new" or meaning(before) == meaning(wanted)
    assert converged(store, wanted)


def watched(store: Store, allowed: list[object]) -> str:
    """Judge what is stored now, in the strictest reading: all slices of the newest generation agree on their number."""
    stored = store.listed()
    newest = max((each["spec"]["pool"]["generation"] for each in stored), default=0)
    current = [each for each in stored if each["spec"]["pool"]["generation"] == newest]
    assert len({each["spec"]["pool"]["resourceSliceCount"] for each in current}) <= 1
    if judged(stored).fault:
        assert len(current) != (current[0]["spec"]["pool"]["resourceSliceCount"] if current else 1)
        return "incomplete"
    assert meaning(current) in allowed
    return "new" if meaning(current) == allowed[-1] else "old"


@given(pools(), st.data())
def test_taints_change_without_an_instant_at_which_the_pool_cannot_be_used(
    before: list[Json], data: st.DataObject
) -> None:
    wanted = undated([each | {"spec": dict(each["spec"])} for each in before])
    for each in wanted:
        if "devices" in each["spec"]:
            taints = [XID.manifest()] if data.draw(st.booleans()) else []
            each["spec"]["devices"] = [
                {key: value for key, value in device.items() if key != "taints"}
                | ({"taints": taints} if taints else {})
                for device in each["spec"]["devices"]
            ]
    store = Store()
    store.apply_all(changes(before, [], OWNER))
    generation = judged(store.listed()).pool
    for write in changes(wanted, store.listed(), OWNER):
        assert isinstance(write, Update)
        store.apply(write)
        now = judged(store.listed())
        assert now.pool is not None
        assert generation is not None
        assert now.pool.generation == generation.generation
    assert converged(store, wanted)


@given(pools(), pools())
def test_a_change_cut_short_at_any_write_is_taken_up_there(before: list[Json], wanted: list[Json]) -> None:
    store = Store()
    store.apply_all(changes(before, [], OWNER))
    total = len(changes(wanted, store.listed(), OWNER))
    for done in range(total):
        rest = changes(wanted, store.listed(), OWNER)
        assert len(rest) <= total - done
        store.apply(rest[0])
    assert converged(store, wanted)


def four() -> list[Json]:
    return resource_slices(node(*(gpu(H100, index) for index in range(4))))


def stored(wanted: list[Json]) -> Store:
    store = Store()
    store.apply_all(changes(wanted, [], OWNER))
    return store


def kinds(writes: Iterable[Write]) -> list[str]:
    return [type(write).__name__ for write in writes]


def test_after_the_kubelet_has_deleted_some_only_those_are_made_again_in_the_same_generation() -> None:
    store = stored(four())
    names = sorted(store.slices)
    for name in names[1:3]:
        del store.slices[name]
    assert judged(store.listed()).fault
    writes = changes(four(), store.listed(), OWNER)
    assert kinds(writes) == ["Create", "Create"]
    store.apply_all(writes)
    state = judged(store.listed())
    assert state.pool is not None
    assert state.pool.generation == 1


def test_after_the_kubelet_has_deleted_all_the_generation_does_not_fall() -> None:
    writes = changes(four(), [], OWNER, least_generation=7)
    assert {write.manifest["spec"]["pool"]["generation"] for write in writes} == {7}


def test_one_slice_that_changes_is_one_write() -> None:
    wanted = four()
    wanted[1]["spec"]["devices"] = wanted[1]["spec"]["devices"][:-1]
    writes = changes(wanted, stored(four()).listed(), OWNER)
    assert kinds(writes) == ["Update"]
    assert writes[0].manifest["spec"]["pool"]["generation"] == 1


def test_two_slices_that_change_in_what_can_be_allocated_raise_the_generation_of_all() -> None:
    wanted = four()
    for at in (1, 2):
        wanted[at]["spec"]["devices"] = wanted[at]["spec"]["devices"][:-1]
    writes = changes(wanted, stored(four()).listed(), OWNER)
    assert kinds(writes) == ["Update"] * len(wanted)
    assert {write.manifest["spec"]["pool"]["generation"] for write in writes} == {2}


def test_a_generation_that_someone_else_raised_is_passed() -> None:
    store = stored(four())
    store.apply(Create(foreign("stray", 40)))
    assert "invalid" not in judged(store.listed()).fault
    store.apply_all(changes(four(), store.listed(), OWNER))
    state = judged(store.listed())
    assert state.pool is not None
    assert state.pool.generation == 41


def test_slices_of_another_pool_of_ours_go_first() -> None:
    """Their devices would be in two pools at once."""
    store = stored(four())
    store.apply(Create(foreign("old", 9, pool="node-1")))
    writes = changes(four(), store.listed(), OWNER)
    assert kinds(writes) == ["Delete"]
    name = four()[0]["metadata"]["name"]
    store.slices[name]["spec"]["pool"]["name"] = "another"
    assert kinds(changes(four(), store.listed(), OWNER))[:2] == ["Delete", "Delete"]


def test_a_node_that_was_registered_anew_owns_the_slices_without_a_new_generation() -> None:
    writes = changes(four(), stored(four()).listed(), OWNER | {"uid": "another"})
    assert kinds(writes) == ["Update"] * len(four())
    assert {write.manifest["spec"]["pool"]["generation"] for write in writes} == {1}


def test_a_taint_keeps_the_time_since_which_it_is_there() -> None:
    def tainted(*taints: DeviceTaint) -> list[Json]:
        return resource_slices(node(gpu(H100)), taints={"gpu-0": taints} if taints else {})

    store = stored(tainted(XID))
    since = time_of(store, XID)
    store.apply_all(changes(tainted(XID, LOST), store.listed(), OWNER))
    assert time_of(store, XID) == since
    assert time_of(store, LOST) != since
    store.apply_all(changes(tainted(replace(XID, effect=Effect.NO_EXECUTE)), store.listed(), OWNER))
    assert time_of(store, XID) != since


def test_a_taint_keeps_its_time_when_its_slice_was_deleted() -> None:
    wanted = resource_slices(node(gpu(H100)), taints={"gpu-0": (XID,)})
    store = stored(wanted)
    since = times(each["spec"] for each in store.listed())
    store.slices.clear()
    store.apply_all(changes(wanted, store.listed(), OWNER, since=since))
    assert time_of(store, XID) == next(iter(since.values()))


def time_of(store: Store, taint: DeviceTaint) -> str:
    (found,) = [
        each["timeAdded"]
        for one in store.listed()
        for device in one["spec"].get("devices") or ()
        for each in device.get("taints") or ()
        if each["key"] == taint.key
    ]
    return str(found)


def test_labels_of_others_stay_and_what_a_later_api_adds_is_no_difference() -> None:
    store = stored(four())
    name = sorted(store.slices)[1]
    store.slices[name]["metadata"]["labels"] = {"team": "a"}
    store.slices[name]["spec"]["fieldOf2030"] = True
    store.slices[name]["spec"]["devices"][0]["alsoOf2030"] = {"a": 1}
    assert converged(store, four())
    wanted = four()
    wanted[1]["spec"]["devices"] = wanted[1]["spec"]["devices"][:-1]
    (write,) = changes(wanted, store.listed(), OWNER)
    assert write.manifest["metadata"]["labels"] == {"team": "a"}


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["devices"][0].pop("consumesCounters"),
        lambda spec: spec["devices"][0].update(allowMultipleAllocations=True),
        lambda spec: spec["devices"][0]["attributes"].update(other={"bool": False}),
        lambda spec: spec["devices"][0].update(taints=[XID.manifest()]),
        lambda spec: spec.update(skipNodeOperations=["*"]),
        lambda spec: spec["pool"].update(resourceSliceCount=1),
    ],
)
def test_what_others_changed_is_put_right(change: Any) -> None:
    store = stored(four())
    name = sorted(store.slices)[1]
    change(store.slices[name]["spec"])
    store.apply_all(changes(four(), store.listed(), OWNER))
    assert undated(store.listed())[1]["spec"]["devices"] == four()[1]["spec"]["devices"]
    assert judged(store.listed()).fault == ""
    assert converged(store, four())


class TestT38Planted:
    """The rules above fail on a planner that forgets one of them."""

    def prove(self) -> None:
        wanted = four()
        for at in (1, 2):
            wanted[at]["spec"]["devices"] = wanted[at]["spec"]["devices"][:-1]
        allowed = [meaning(four()), meaning(wanted)]
        store = stored(four())
        for write in changes(wanted, store.listed(), OWNER):
            store.apply(write)
            watched(store, allowed)
        assert watched(store, allowed) == "new"

    def test_without_a_bug_it_holds(self) -> None:
        self.prove()

    def test_a_generation_that_is_never_raised_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plan._State, "raises", lambda self, least: False)
        with pytest.raises(AssertionError):
            self.prove()

    def test_a_count_of_zero_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As a synthetic slice of the autoscaler had it (autoscaler #10199)."""
        real = plan.with_times
        monkeypatch.setattr(
            plan,
            "with_times",
            lambda spec, since: real(spec | {"pool": spec["pool"] | {"resourceSliceCount": 0}}, since),
        )
        with pytest.raises(AssertionError):
            self.prove()
