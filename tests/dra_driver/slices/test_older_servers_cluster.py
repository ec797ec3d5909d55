"""API servers that store less than is sent, or nothing of it: what is published then, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dra_driver.inventory import MigInstance, NodeGpus
from dra_driver.publish import resource_slices
from dra_driver.publish.features import Features
from kube.errors import InvalidObjectError
from sandbox import objects
from sandbox.chaos.proxy import ApiProxy
from sandbox.controlplane import ControlPlane, ControlPlaneOptions
from sandbox.pytest_plugin import had_or_skipped
from sandbox.testbed import Testbed
from tests.dra_driver.slices.rig import GPUS, PATIENCE_S, QUICK, XID, Json, Rig, complete, names_of, told_of, usable

pytestmark = pytest.mark.cluster


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
        seen.append({name for each in rig.stored() for name in names_of(each)})
        assert usable(rig.stored())
        count = len(rig.told.writes)
        rig.controller.want(
            lambda features: resource_slices(partitioned(), taints={"gpu-3": (XID,)}, features=features)
        )
        await rig.is_published()
        seen.append({name for each in rig.stored() for name in names_of(each)})
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


def test_a_newer_api_server_gets_everything_again(testbed: Testbed, proxy: ApiProxy) -> None:
    """It was upgraded under us; noticed by its version, after a while, without anything else happening."""

    async def story(rig: Rig) -> None:
        await rig.controller._degrade("it dropped sharedCounters", frozenset({"sharedCounters"}))
        rig.controller._server = "an older one"
        rig.want()
        await rig.is_published()
        assert {name for each in rig.stored() for name in names_of(each)} == {f"gpu-{index}" for index in range(8)}
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
