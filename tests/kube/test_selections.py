"""What selectors admit, and what is said when one fails."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import selections
from kube.cel import SelectorFault
from kube.cluster import Cluster
from kube.selections import Sieve, SieveFault, Sieves
from packing.dra.model import (
    NANO,
    Amount,
    Attribute,
    AttributeKind,
    Capacity,
    DeviceShape,
    Pool,
    PoolShape,
    SelectorError,
)
from tests.kube.asking import OTHER, claim_of, exactly, refused, resolve, shelf
from tests.kube.builders import DRIVER, claim, device, machine_slices, pod, slice_of
from topology.modes import MigMode


def test_the_class_is_asked_before_the_request():
    reads_uuid = f'device.attributes["{DRIVER}"].uuid != ""'
    slices = [slice_of("s", [device("gpu-0", {"type": "gpu", "uuid": "u"}), device("mig-0", {"type": "mig"})])]
    around = shelf(claim_of([exactly("gpu", DRIVER, reads_uuid)]), slices=slices)
    selection = resolve(around).ask.claims[0].requests[0].alternatives[0].selection
    assert selection.mask(around.pools()[0]) == 0b01, (
        "the class keeps the request's selector from the device without uuid"
    )


def test_a_selector_that_fails_names_request_expression_and_device():
    slices = [slice_of("s", [device("gpu-0", {"type": "gpu", "uuid": "u"}), device("gpu-1", {"type": "gpu"})])]
    around = shelf(claim_of([exactly("gpu", DRIVER, f'device.attributes["{DRIVER}"].uuid != ""')]), slices=slices)
    selection = resolve(around).ask.claims[0].requests[0].alternatives[0].selection
    for _ in range(2):
        with pytest.raises(SelectorError) as caught:
            selection.mask(around.pools()[0])
    for part in ("claim default/claim-1, request gpu", "selector 0", "uuid", f"{DRIVER}/pool/gpu-1", "no such key"):
        assert part in str(caught.value)


def test_a_selector_of_a_class_that_fails_names_the_class():
    slices = [slice_of("s", [device("gpu-0", {"uuid": "u"})])]
    around = shelf(claim(), slices=slices)
    selection = resolve(around).ask.claims[0].requests[0].alternatives[0].selection
    with pytest.raises(SelectorError, match=rf"^class {DRIVER}: selector 1 `.*` failed on device {DRIVER}/pool/gpu-0"):
        selection.mask(around.pools()[0])


def test_two_claims_with_the_same_failing_selector_are_told_apart():
    """Seen: the second pod was told of the first one's claim, since asks alike share what is known of them."""
    cluster = Cluster()
    failing = [exactly("gpu", DRIVER, f'device.attributes["{DRIVER}"].nothing == 1')]
    around = shelf(claim_of(failing, "a"), claim_of(failing, "b"))
    for each in [*machine_slices("hgx-h100-8"), *around.claims.values(), *around.classes(), *around.all_nodes.values()]:
        cluster.put(each)
    for name in ("a", "b"):
        decided = cluster.decide(cluster.resolve(pod(f"pod-{name}", claims=[name])))
        assert decided.fault.startswith(f"claim default/{name}, request gpu: selector 0")


def test_a_selector_that_does_not_compile_is_refused():
    text = refused(shelf(claim_of([exactly("gpu", DRIVER, "device.driver ==")]))).text
    assert text.startswith("claim default/claim-1, request gpu: selector 0 `device.driver ==` does not compile")


EXPRESSIONS = (
    f'device.driver == "{DRIVER}"',
    f'device.driver != "{DRIVER}"',
    'device.attributes["a.b"].kind == "x"',
    '"uuid" in device.attributes["a.b"] && device.attributes["a.b"].uuid == "u1"',
    'device.attributes["a.b"].size == 1',
    'device.attributes["a.b"].uuid != "u1"',
    "device.allowMultipleAllocations",
    f'device.capacity["{DRIVER}"].memory.isLessThan(quantity("2"))',
    'device.attributes["a.b"].exists(name, name == "kind")',
)


amounts = st.integers(1, 3).map(lambda whole: Capacity(Amount(whole * NANO)))


@st.composite
def pools(draw: st.DrawFn, shape: PoolShape | None = None) -> Pool:
    """Pools of devices that have some attributes in common and `uuid` of their own, or not."""
    if shape is None:
        of_device = st.fixed_dictionaries(
            {}, optional={"a.b/kind": st.sampled_from("xy").map(text), "a.b/size": st.integers(0, 2).map(number)}
        )
        memory = draw(st.sampled_from(["memory", f"{DRIVER}/memory"]))
        devices = [
            DeviceShape(
                name=f"d{at}",
                attributes=attributes,
                capacity=draw(st.dictionaries(st.sampled_from([memory, "other"]), amounts)),
                multiple=draw(st.booleans()),
            )
            for at, attributes in enumerate(draw(st.lists(of_device, max_size=6)))
        ]
        driver = draw(st.sampled_from([DRIVER, OTHER]))
        shape = PoolShape(driver=driver, devices=tuple(devices), counters={}, own=frozenset({"a.b/uuid"}))
    own = st.one_of(st.just({}), st.sampled_from(["u1", "u2"]).map(lambda uuid: {"a.b/uuid": text(uuid)}))
    identity = tuple(draw(own) for _ in shape.devices)
    return Pool(driver=shape.driver, name="p", generation=1, shape=shape, identity=identity)


def text(value: str) -> Attribute:
    return Attribute(AttributeKind.STRING, (value,))


def number(value: int) -> Attribute:
    return Attribute(AttributeKind.INT, (value,))


def one_by_one(expressions: tuple[str, ...], pool: Pool) -> int | tuple[int, int]:
    """Look at each device with each expression, in the order of a chain; (expression, device) where one fails."""
    passed = (1 << len(pool.shape.devices)) - 1
    for step, expression in enumerate(expressions):
        selector = selections.compile_selector(expression)
        for at, each in enumerate(pool.shape.devices):
            if not passed >> at & 1:
                continue
            try:
                attributes = {**each.attributes, **pool.identity[at]}
                qualified = {name if "/" in name else f"{pool.driver}/{name}": name for name in each.capacity}
                capacity = {name: each.capacity[published].value for name, published in qualified.items()}
                if not selector.matches(pool.driver, attributes, capacity, each.multiple):
                    passed &= ~(1 << at)
            except SelectorFault:
                return step, at
    return passed


def sifted(sieve: Sieve, pool: Pool) -> int | tuple[int, int]:
    try:
        return sieve.mask(pool)
    except SieveFault as failed:
        found = pool.device(failed.fault.at)
        return (failed.fault.step, failed.fault.at) if failed.device == found else (-1, -1)


@given(st.data())
def test_masks_are_what_one_finds_device_by_device(data: st.DataObject):
    """Whatever was looked at before, in pools of the same shape or others."""
    sieves = Sieves()
    first = data.draw(pools())
    cluster = [first, *(data.draw(pools(shape=first.shape)) for _ in range(2)), data.draw(pools())]
    for _ in range(4):
        expressions = tuple(data.draw(st.lists(st.sampled_from(EXPRESSIONS), max_size=3)))
        for pool in data.draw(st.permutations(cluster)):
            assert sifted(sieves.of(expressions), pool) == one_by_one(expressions, pool)


class Counting:
    """Selectors that count how often they are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Counter[str] = Counter()
        self.compiled: Counter[str] = Counter()
        self._compile = selections.compile_selector
        monkeypatch.setattr(selections, "compile_selector", self.compile)

    def compile(self, expression: str) -> object:
        self.compiled[expression] += 1
        selector = self._compile(expression)

        class Counted:
            reads = selector.reads

            @staticmethod
            def matches(*device: Any) -> bool:
                self.asked[expression] += 1
                return selector.matches(*device)

        return Counted()


def test_what_is_alike_is_looked_at_once(monkeypatch: pytest.MonkeyPatch):
    counting = Counting(monkeypatch)
    nodes = [f"node-{at}" for at in range(20)]
    slices = [each for node in nodes for each in machine_slices("hgx-h100-8", node, mig_mode=MigMode.DYNAMIC)]
    around = shelf(slices=slices)
    sieves = Sieves()
    of_driver, of_kind = f'device.driver == "{DRIVER}"', f'device.attributes["{DRIVER}"].type == "gpu"'
    chain = sieves.of((of_driver, of_kind))
    assert chain.by_shape
    for _ in range(3):
        assert {chain.mask(pool).bit_count() for pool in around.pools()} == {8}
    shapes = {id(pool.shape) for pool in around.pools()}
    assert len(shapes) == 1
    devices = len(around.pools()[0].shape.devices)
    assert counting.asked[of_kind] < devices, "devices of one type and size are alike to it"


def test_what_reads_a_uuid_is_looked_at_for_each_pool_once(monkeypatch: pytest.MonkeyPatch):
    counting = Counting(monkeypatch)
    around = shelf(slices=[each for at in range(5) for each in machine_slices("hgx-h100-8", f"node-{at}")])
    wanted = around.pools()[3].identity[2][f"{DRIVER}/uuid"].values[0]
    expression = f'device.attributes["{DRIVER}"].uuid == "{wanted}"'
    chain = Sieves().of((expression,))
    assert not chain.by_shape
    for _ in range(2):
        assert [chain.mask(pool) for pool in around.pools()] == [0, 0, 0, 0b100, 0]
    assert counting.asked[expression] == 40


def test_pools_that_are_gone_are_forgotten():
    around = shelf(slices=machine_slices("hgx-h100-8"))
    chain = Sieves().of((f'device.driver == "{DRIVER}"',))
    chain.mask(around.pools()[0])
    gone = weakref.ref(around.pools()[0].shape)
    del around
    gc.collect()
    assert gone() is None


def test_a_capacity_published_without_a_domain_is_the_drivers():
    """Seen: partitions asked for by their memory were never found, since no domain was put before its name."""
    expression = f'device.capacity["{DRIVER}"].memory.compareTo(quantity("30Gi")) >= 0'
    around = shelf(slices=machine_slices("dgx-a100-80", mig_mode=MigMode.DYNAMIC))
    (pool,) = around.pools()
    mask = Sieves().of((f'device.driver == "{DRIVER}"', expression)).mask(pool)
    profiles = {
        each.part.profile for at, each in enumerate(pool.shape.devices) if mask >> at & 1 and each.part is not None
    }
    assert profiles == {"", "3g.40gb", "4g.40gb", "7g.80gb"}
