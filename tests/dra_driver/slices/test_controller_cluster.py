"""The controller on a real API server, behind a proxy that misbehaves: it converges with few writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dra_driver.inventory import MigInstance, NodeGpus
from dra_driver.publish import DRIVER_NAME, resource_slices
from dra_driver.publish.features import Features
from dra_driver.publish.taints import DeviceTaint, Effect
from dra_driver.simulated import simulated_gpus
from dra_driver.slices.controller import SliceController
from dra_driver.slices.pace import Pacing
from kube.access import Access
from kube.client import ApiClient
from kube.errors import InvalidObjectError
from kube.reflector import ReflectorSettings
from sandbox import objects
from sandbox.chaos.faults import Action, Answer, Fault, Match, Reset
from sandbox.chaos.proxy import ApiProxy
from sandbox.controlplane import ControlPlane, ControlPlaneOptions
from sandbox.pytest_plugin import had_or_skipped
from sandbox.testbed import Testbed
from tests.dra_driver.slices.pools import judged
from topology.catalog import machine

pytestmark = pytest.mark.cluster

Json = dict[str, Any]
WRITES = Match(verbs=["create", "update", "delete", "patch"], resources=["resourceslices"])
CREATES = Match(verbs=["create"], resources=["resourceslices"])
UPDATES = Match(verbs=["update"], resources=["resourceslices"])
PATIENCE_S = 30.0
QUICK = Pacing(burst=10_000, foreign_s=0.2, first_fault_s=0.02, most_s=0.5)
WATCHING = ReflectorSettings(first_delay_s=0.02, most_delay_s=0.2)
GPUS = simulated_gpus(machine("hgx-h100-8"), "node-1")
XID = DeviceTaint("gpu.dovetail.dev/xid", "79", Effect.NO_SCHEDULE)


@dataclass
class Told:
    """Keeps what it is told."""

    writes: list[tuple[str, int]] = field(default_factory=list)
    features: list[Features] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    generation: int = 0

    def wrote(self, verb: str, code: int) -> None:
        self.writes.append((verb, code))

    def published(self, slices: int, devices: int, generation: int) -> None:
        self.generation = generation

    def degraded(self, features: Features, text: str) -> None:
        self.features.append(features)
        self.texts.append(text)

    def refused(self, text: str) -> None:
        self.refusals.append(text)


@dataclass
class Rig:
    """A running controller of node-1, and the API server as the administrator sees it."""

    controller: SliceController
    told: Told
    testbed: Testbed
    registered: asyncio.Event

    def want(self, **how: Any) -> None:
        self.controller.want(lambda features: resource_slices(GPUS, features=features, **how))

    async def is_published(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.controller.published.wait()

    async def until(self, true: Callable[[Sequence[Json]], bool]) -> Sequence[Json]:
        """Wait until something is true of the stored slices."""
        async with asyncio.timeout(PATIENCE_S):
            while not true(stored := await asyncio.to_thread(self.stored)):
                await asyncio.sleep(0.02)
        return stored

    def stored(self) -> list[Json]:
        listed = self.testbed.api.list(objects.RESOURCE_API, "ResourceSlice")
        return [each for each in listed if each["spec"]["driver"] == DRIVER_NAME]


Story = Callable[[Rig], Awaitable[None]]


@pytest.fixture(scope="module")
def _module_proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
def proxy(_module_proxy: ApiProxy, testbed: Testbed) -> Iterator[ApiProxy]:
    yield _module_proxy
    _module_proxy.cut()


def told_of(
    testbed: Testbed, kubeconfig: Path, story: Story, *, pacing: Pacing = QUICK, registered: bool = True
) -> Told:
    """Run a controller through a story."""
    if testbed.api.find(objects.node("node-1")) is None:
        testbed.create(objects.node("node-1"))
    told = Told()

    async def go() -> None:
        async with ApiClient(Access(kubeconfig)) as client:
            event = asyncio.Event()
            if registered:
                event.set()
            controller = SliceController(
                client,
                "node-1",
                registered=event,
                told=told,
                pacing=pacing,
                watching=WATCHING,
                draw=random.Random(1),
            )
            rig = Rig(controller, told, testbed, event)
            running = asyncio.create_task(controller.run())
            try:
                await story(rig)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(go())
    return told


def usable(stored: Sequence[Json]) -> bool:
    return judged(stored).fault == ""


def complete(rig: Rig) -> Callable[[Sequence[Json]], bool]:
    """Whether exactly the wanted slices are there."""
    wanted = [each["metadata"]["name"] for each in resource_slices(GPUS)]
    return lambda stored: usable(stored) and sorted(each["metadata"]["name"] for each in stored) == wanted


def test_published_once_registered_owned_by_the_node_and_then_never_written_again(
    testbed: Testbed, proxy: ApiProxy
) -> None:
    async def story(rig: Rig) -> None:
        rig.want()
        await asyncio.sleep(0)
        assert not rig.controller.published.is_set()
        assert rig.stored() == []
        rig.registered.set()
        await rig.is_published()
        stored = rig.stored()
        assert complete(rig)(stored)
        uid = testbed.api.get(objects.node("node-1"))["metadata"]["uid"]
        owners = [each["metadata"]["ownerReferences"] for each in stored]
        assert owners == [
            [{"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": uid, "controller": True}]
        ] * len(stored)
        count = len(rig.told.writes)
        assert count == len(stored)
        rig.want()
        await rig.is_published()
        assert len(rig.told.writes) == count
        assert rig.stored() == stored

    told_of(testbed, proxy.kubeconfig, story, registered=False)


def test_what_another_instance_published_is_not_written_again(testbed: Testbed, proxy: ApiProxy) -> None:
    async def story(rig: Rig) -> None:
        rig.want()
        await rig.is_published()

    def written() -> list[tuple[str, int]]:
        return told_of(testbed, proxy.kubeconfig, story).writes

    testbed.create(objects.node("node-1"))
    assert {verb for verb, _ in written()} == {"create"}
    assert written() == []


def test_slices_that_the_kubelet_wipes_come_back_at_once_in_a_generation_that_does_not_fall(
    testbed: Testbed, proxy: ApiProxy
) -> None:
    async def story(rig: Rig) -> None:
        rig.want()
        await rig.is_published()
        for _ in range(3):
            uids = {each["metadata"]["uid"] for each in rig.stored()}
            by_node = f"spec.nodeName={GPUS.node}"
            await asyncio.to_thread(
                testbed.api.delete_all, objects.RESOURCE_API, "ResourceSlice", field_selector=by_node
            )
            stored = await rig.until(
                lambda now: complete(rig)(now) and not uids & {each["metadata"]["uid"] for each in now}  # noqa: B023
            )
            assert {each["spec"]["pool"]["generation"] for each in stored} == {rig.told.generation}
        assert rig.told.generation == 1

    told_of(testbed, proxy.kubeconfig, story)


def test_taints_are_written_in_place_and_keep_their_time(testbed: Testbed, proxy: ApiProxy) -> None:
    names = ("gpu-0", "gpu-0-mps", "gpu-0-mig-1g10gb-19-6")

    def taints(stored: Sequence[Json]) -> dict[str, Json]:
        return {
            device["name"]: device["taints"][0]
            for each in stored
            for device in each["spec"].get("devices", ())
            if device.get("taints")
        }

    async def story(rig: Rig) -> None:
        rig.want()
        await rig.is_published()
        versions = {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in rig.stored()}
        rig.want(taints=dict.fromkeys(names, (XID,)))
        await rig.is_published()
        first = rig.stored()
        assert set(taints(first)) == set(names)
        changed = [each for each in first if versions[each["metadata"]["name"]] != each["metadata"]["resourceVersion"]]
        assert len(changed) == 2, "the slice with the GPU's parts and that with the whole GPUs"
        assert {each["spec"]["pool"]["generation"] for each in first} == {1}
        rig.want(taints=dict.fromkeys((*names, "gpu-1"), (XID,)))
        await rig.is_published()
        second = taints(rig.stored())
        assert {name: second[name]["timeAdded"] for name in names} == {
            name: taint["timeAdded"] for name, taint in taints(first).items()
        }
        rig.want()
        await rig.is_published()
        assert taints(rig.stored()) == {}

    told_of(testbed, proxy.kubeconfig, story)


def test_what_someone_else_changed_is_put_right_after_a_while(testbed: Testbed, proxy: ApiProxy) -> None:
    async def story(rig: Rig) -> None:
        rig.want()
        await rig.is_published()
        victim = next(each for each in rig.stored() if each["spec"].get("devices"))
        spec = victim["spec"] | {"devices": victim["spec"]["devices"][1:]}
        testbed.api.replace(victim | {"spec": spec})
        await rig.until(lambda now: complete(rig)(now) and _devices(now) == _devices(resource_slices(GPUS)))
        stray = objects.resource_slice("node-1", DRIVER_NAME, [objects.device("stray")])
        testbed.create(stray)
        await rig.until(complete(rig))

    told_of(testbed, proxy.kubeconfig, story)


def _devices(stored: Sequence[Json]) -> int:
    return sum(len(each["spec"].get("devices") or ()) for each in stored)


@pytest.mark.parametrize(
    ("match", "action", "forwarded"),
    [
        (WRITES, Answer(409), False),
        (WRITES, Answer(429, retry_after_s=0), False),
        (WRITES, Answer(500), False),
        (WRITES, Reset(), False),
        (WRITES, Reset(), True),
        (WRITES, Answer(500), True),
        (Match(verbs=["list"], resources=["resourceslices"]), Answer(410), False),
        (Match(verbs=["list"], resources=["resourceslices"]), Answer(503), False),
        (Match(verbs=["watch"], resources=["resourceslices"]), Answer(410), False),
        (Match(verbs=["get"], resources=["nodes"]), Answer(500), False),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_faults_of_the_api_server_are_waited_out(
    testbed: Testbed, proxy: ApiProxy, match: Match, action: Action, forwarded: bool
) -> None:
    """FI-9: each kind of request fails now and then, also after it has had its effect."""
    fault = Fault(match=match, action=action, forwarded=forwarded, probability=0.3, seed=7)

    async def story(rig: Rig) -> None:
        with proxy.fault(fault):
            rig.want()
            await rig.is_published()
            rig.want(taints={"gpu-0": (XID,), "gpu-0-mps": (XID,)})
            await rig.is_published()
            await asyncio.to_thread(testbed.api.delete_all, objects.RESOURCE_API, "ResourceSlice")
            proxy.cut(Match(verbs=["watch"]))
            await rig.until(complete(rig))

    told = told_of(testbed, proxy.kubeconfig, story)
    assert told.refusals == []
    assert told.features == []


def test_a_node_that_comes_later_is_waited_for(testbed: Testbed, proxy: ApiProxy) -> None:
    async def story(rig: Rig) -> None:
        testbed.api.delete(objects.node("node-1"))
        rig.want()
        await asyncio.sleep(0)
        testbed.create(objects.node("node-1"))
        await rig.is_published()

    told_of(testbed, proxy.kubeconfig, story)


def test_a_node_that_is_registered_anew_owns_its_slices(testbed: Testbed, proxy: ApiProxy) -> None:
    """The garbage collector deletes those of the old one; new ones that named it would be deleted again and again."""

    async def story(rig: Rig) -> None:
        rig.want()
        await rig.is_published()
        await asyncio.to_thread(testbed.api.delete, objects.node("node-1"))
        await rig.until(lambda stored: not stored)
        uid = testbed.create(objects.node("node-1"))[0]["metadata"]["uid"]
        stored = await rig.until(complete(rig))
        assert {each["metadata"]["ownerReferences"][0]["uid"] for each in stored} == {uid}

    told_of(testbed, proxy.kubeconfig, story)


def test_a_storm_of_changes_is_one_write_a_second(testbed: Testbed, proxy: ApiProxy) -> None:
    """FI-9: after the burst the budget decides, however often something else is wanted or deleted."""
    pacing = Pacing(burst=30, write_s=0.2, foreign_s=0.01, first_fault_s=0.01)

    async def story(rig: Rig) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        number = 0
        while len(rig.told.writes) < 40:
            number += 1
            rig.want(taints={"gpu-0": (DeviceTaint("gpu.dovetail.dev/xid", str(number), Effect.NO_SCHEDULE),)})
            await asyncio.sleep(0.001)
        elapsed = loop.time() - begin
        slices = len(resource_slices(GPUS))
        assert len(rig.told.writes) <= 30 + slices + elapsed / 0.2
        assert number > len(rig.told.writes), "more was wanted than written"

    told_of(testbed, proxy.kubeconfig, story, pacing=pacing)


GATES = ("DRAPartitionableDevices", "DRAConsumableCapacity", "DRADeviceTaints")


@pytest.fixture(scope="module")
def older() -> Iterator[ControlPlane]:
    """An API server that drops counters, shares and taints without a word, as 1.34 and 1.35 do by default."""
    options = ControlPlaneOptions(
        feature_gates=dict.fromkeys((*GATES, "DRADeviceTaintRules"), False), default_scheduler=False
    )
    with had_or_skipped(lambda: ControlPlane.start(options, prefix="older")) as control_plane:
        yield control_plane


def test_an_older_server_gets_whole_gpus_and_existing_mig_devices_and_that_is_told(older: ControlPlane) -> None:
    """At no instant are there devices whose exclusion of each other the server has dropped."""
    testbed = Testbed(older)
    testbed.open()
    testbed.create(objects.node("node-1"))
    seen: list[set[str]] = []

    async def story(rig: Rig) -> None:
        rig.controller.want(
            lambda features: resource_slices(partitioned(), taints={"gpu-2": (XID,)}, features=features)
        )
        await rig.is_published()
        seen.append({name for each in rig.stored() for name in _names(each)})
        assert usable(rig.stored())
        count = len(rig.told.writes)
        rig.controller.want(
            lambda features: resource_slices(partitioned(), taints={"gpu-3": (XID,)}, features=features)
        )
        await rig.is_published()
        seen.append({name for each in rig.stored() for name in _names(each)})
        assert len(rig.told.writes) == count + 1, "one slice of whole GPUs"

    told = told_of(testbed, older.kubeconfig, story)
    wholes = {f"gpu-{index}" for index in range(1, 8)}
    assert seen == [
        {"gpu-0-mig-1g10gb-19-0"} | wholes - {"gpu-2"},
        {"gpu-0-mig-1g10gb-19-0"} | wholes - {"gpu-3"},
    ], "what must be kept off is left out"
    assert [each.missing for each in told.features] == [("counters",), ("counters", "taints")]
    assert "does not store counters" in told.texts[0]
    assert "whole GPUs and the MIG devices that exist" in told.texts[0]
    assert told.refusals == []
    testbed.close()


def partitioned() -> NodeGpus:
    """GPU 0 has a MIG device that somebody made."""
    one = MigInstance(
        profile="1g.10gb", profile_id=19, start=0, size=1, gpu_instance=7, compute_instance=0, uuid="MIG-1"
    )
    first = replace(GPUS.gpus[0], instances=(one,))
    return replace(GPUS, gpus=(first, *GPUS.gpus[1:]))


def _names(stored: Json) -> list[str]:
    return [device["name"] for device in stored["spec"].get("devices") or ()]


def test_a_newer_api_server_gets_everything_again(testbed: Testbed, proxy: ApiProxy) -> None:
    """It was upgraded under us; noticed by its version, after a while, without anything else happening."""

    async def story(rig: Rig) -> None:
        await rig.controller._degrade("it dropped sharedCounters", frozenset({"sharedCounters"}))
        rig.controller._server = "an older one"
        rig.want()
        await rig.is_published()
        assert {name for each in rig.stored() for name in _names(each)} == {f"gpu-{index}" for index in range(8)}
        await rig.until(complete(rig))
        assert rig.controller.features == Features()

    told = told_of(testbed, proxy.kubeconfig, story, pacing=replace(QUICK, hopeless_s=1.0))
    assert [each.missing for each in told.features] == [("counters",), ()]


def test_an_admission_policy_that_refuses_is_told_and_nothing_less_is_tried(testbed: Testbed, proxy: ApiProxy) -> None:
    message = "ValidatingAdmissionPolicy 'slices' with binding 'slices' denied request: not the slices of this node"

    async def story(rig: Rig) -> None:
        def invalid(*_: object, **__: object) -> Any:
            raise InvalidObjectError(message, status=422, reason="Invalid")

        rig.controller._client.create = invalid  # type: ignore[method-assign]
        rig.want()
        async with asyncio.timeout(PATIENCE_S):
            while not rig.told.refusals:
                await asyncio.sleep(0.01)

    told = told_of(testbed, proxy.kubeconfig, story)
    assert told.features == []
    assert message in told.refusals[0]


def test_slices_that_no_server_takes_are_told_and_not_tried_again_and_again(testbed: Testbed, proxy: ApiProxy) -> None:
    testbed.create(objects.node("node-1"))

    def wrong(features: Features) -> list[Json]:
        slices = resource_slices(GPUS, features=features)
        for each in slices:
            for device in each["spec"].get("devices") or ():
                device["name"] = "No Label"
        return slices

    async def story(rig: Rig) -> None:
        rig.controller.want(wrong)
        async with asyncio.timeout(PATIENCE_S):
            while not rig.told.refusals:
                await asyncio.sleep(0.01)
        tried = len(rig.told.writes)
        assert not rig.controller.published.is_set()
        rig.want()
        await rig.is_published()
        assert rig.told.writes[tried:] != []

    told = told_of(testbed, proxy.kubeconfig, story)
    assert len(told.refusals) == 1
    assert "No Label" in told.refusals[0]
