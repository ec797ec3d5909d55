"""The controller on a real API server, behind a proxy that misbehaves: it converges with few writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from dra_driver.publish import DRIVER_NAME, resource_slices
from dra_driver.publish.taints import DeviceTaint, Effect
from dra_driver.slices.pace import Pacing
from sandbox import objects
from sandbox.chaos.faults import Action, Answer, Fault, Match, Reset
from sandbox.chaos.proxy import ApiProxy
from sandbox.testbed import Testbed
from tests.dra_driver.slices.rig import GPUS, XID, Json, Rig, complete, told_of

pytestmark = pytest.mark.cluster

WRITES = Match(verbs=["create", "update", "delete", "patch"], resources=["resourceslices"])


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


def test_taints_keep_their_time_when_the_kubelet_wipes_the_slices(testbed: Testbed, proxy: ApiProxy) -> None:
    """A pod that tolerates a taint for a while was given that while again with each start of the kubelet."""

    def time_of(stored: Sequence[Json]) -> str:
        devices = [device for each in stored for device in each["spec"].get("devices", ())]
        (found,) = [taint["timeAdded"] for device in devices for taint in device.get("taints", ())]
        return str(found)

    async def story(rig: Rig) -> None:
        rig.want(taints={"gpu-0": (XID,)})
        await rig.is_published()
        before = rig.stored()
        # API times have whole seconds: the wiped one would get another.
        later_s = datetime.fromisoformat(time_of(before)).timestamp() + 1
        await rig.until(lambda _: time.time() >= later_s)
        uids = {each["metadata"]["uid"] for each in before}
        await asyncio.to_thread(testbed.api.delete_all, objects.RESOURCE_API, "ResourceSlice")
        stored = await rig.until(
            lambda now: complete(rig)(now) and not uids & {each["metadata"]["uid"] for each in now}
        )
        assert time_of(stored) == time_of(before)
        rig.want()
        await rig.is_published()
        rig.want(taints={"gpu-0": (XID,)})
        await rig.is_published()
        assert time_of(rig.stored()) > time_of(before), "it had gone: it begins anew"

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


def test_gpus_that_cannot_be_published_are_told_and_what_is_published_stays(testbed: Testbed, proxy: ApiProxy) -> None:
    """Figures of NVML that the API cannot hold ended the driver: no pod of the node could end any more."""

    async def story(rig: Rig) -> None:
        rig.want()
        await rig.is_published()
        before = rig.stored()
        strange = replace(GPUS, driver_version="580.105.08-strange")
        rig.controller.want(lambda features: resource_slices(strange, features=features))
        await rig.until(lambda _: bool(rig.told.refusals))
        assert "driverVersion: is '580.105.08-strange'" in rig.told.refusals[0]
        assert rig.stored() == before
        rig.want()
        await rig.is_published()
        assert rig.stored() == before

    told_of(testbed, proxy.kubeconfig, story)


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
