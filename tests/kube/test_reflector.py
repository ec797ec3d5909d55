"""A reflector's picture becomes what the API server has, whatever happens on the way: real server, faulty proxy."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from dataclasses import replace
from typing import Any

import pytest

from kube.client import ApiClient, Selection
from kube.errors import ClusterError, GoneError, UnavailableError
from kube.kinds import CLAIMS, SLICES, Kind
from kube.objects import Namespace, ResourceSlice
from kube.reflector import Reflector, ReflectorSettings
from sandbox import objects
from sandbox.api import Manifest
from sandbox.chaos.faults import Action, Answer, Delay, Fault, Match, Reset
from sandbox.chaos.proxy import ApiProxy
from sandbox.testbed import Testbed
from tests.kube.picture import PATIENCE_S, QUICK, Picture, custom_kind, following, started

LISTS = Match(verbs=["list"], resources=["resourceclaims"])
WATCHES = Match(verbs=["watch"], resources=["resourceclaims"])
BOTH = Match(verbs=["list", "watch"], resources=["resourceclaims"])


def claim(testbed: Testbed, name: str) -> Manifest:
    return objects.claim(testbed.namespace, name, "gpu.example.com")


def of_claims(client: ApiClient, testbed: Testbed, picture: Picture, **settings: Any) -> Reflector[Any]:
    quick = ReflectorSettings(page=5, first_delay_s=0.02, most_delay_s=0.2, **settings)
    here = Selection(namespace=testbed.namespace)
    return Reflector(client, CLAIMS, picture, here, settings=quick, draw=random.Random(1))


def stored(testbed: Testbed) -> dict[str, str]:
    listed = testbed.api.list("resource.k8s.io/v1", "ResourceClaim", testbed.namespace)
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listed}


def test_the_first_list_comes_whole_from_several_pages(testbed: Testbed, proxy: ApiProxy) -> None:
    testbed.api.create_all(claim(testbed, f"claim-{number}") for number in range(12))
    before = len(proxy.records(LISTS))

    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        reflector = started(tasks, of_claims(client, testbed, picture))
        assert reflector.progress.age_s(0) == float("inf")
        await reflector.synced.wait()
        assert picture.versions == stored(testbed)
        assert len(picture.replaced) == 1
        assert len(proxy.records(LISTS)) - before == 3

    following(proxy.kubeconfig, work)


def test_changes_arrive_and_a_field_selector_is_kept_to(testbed: Testbed) -> None:
    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        everything, one = Picture(), Picture()
        reflector = started(tasks, of_claims(client, testbed, everything))
        chosen = Selection(namespace=testbed.namespace, fields="metadata.name=b")
        await started(tasks, Reflector(client, CLAIMS, one, chosen)).synced.wait()
        await reflector.synced.wait()
        for name in ("a", "b", "c"):
            testbed.api.create(claim(testbed, name))
        testbed.api.delete(claim(testbed, "a"))
        await everything.until(lambda: set(everything.known) == {"b", "c"})
        await one.until(lambda: set(one.known) == {"b"})
        assert everything.versions == stored(testbed)
        assert (reflector.progress.lists, reflector.progress.events, reflector.progress.failures) == (1, 4, {})

    following(testbed.control_plane.kubeconfig, work)


def test_a_watch_that_is_cut_goes_on_where_it_was(testbed: Testbed, proxy: ApiProxy) -> None:
    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        reflector = started(tasks, of_claims(client, testbed, picture))
        await reflector.synced.wait()
        for number in range(3):
            testbed.api.create(claim(testbed, f"claim-{number}"))
            await picture.until(lambda: f"claim-{number}" in picture.known)  # noqa: B023 - awaited at once
            proxy.cut(WATCHES)
        testbed.api.create(claim(testbed, "last"))
        await picture.until(lambda: "last" in picture.known)
        assert picture.versions == stored(testbed)
        assert reflector.progress.lists == 1
        assert reflector.progress.failures["UnavailableError"] >= 3

    following(proxy.kubeconfig, work)


def test_410_lists_again_and_what_went_meanwhile_is_gone(testbed: Testbed, proxy: ApiProxy) -> None:
    testbed.api.create_all(claim(testbed, name) for name in ("stays", "goes"))

    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        reflector = started(tasks, of_claims(client, testbed, picture))
        await reflector.synced.wait()
        with proxy.fault(Fault(match=WATCHES, action=Answer(410), times=1)), proxy.watches_held(WATCHES):
            testbed.api.delete(claim(testbed, "goes"))
            testbed.api.create(claim(testbed, "comes"))
            proxy.cut(WATCHES)
            await picture.until(lambda: len(picture.replaced) == 2)
        assert picture.replaced[1] == {"stays", "comes"}
        assert picture.versions == stored(testbed)
        assert reflector.progress.failures["GoneError"] == 1

    following(proxy.kubeconfig, work)


def test_410_within_a_watch_lists_again(testbed: Testbed) -> None:
    """As the real server says it: a watch that begins well, whose first event is the error."""
    kind = custom_kind(testbed, "things", Namespace)
    testbed.create(thing(testbed, kind, "one"))

    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        reflector: Reflector[Any] = Reflector(client, kind, picture, settings=QUICK)
        reflector._version = "1"
        started(tasks, reflector)
        await picture.until(lambda: set(picture.known) == {"one"})
        assert reflector.progress.failures["GoneError"] == 1

    following(testbed.control_plane.kubeconfig, work)


def test_pages_that_took_too_long_are_listed_in_one(testbed: Testbed, proxy: ApiProxy) -> None:
    testbed.api.create_all(claim(testbed, f"claim-{number}") for number in range(12))

    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        with proxy.fault(Fault(match=LISTS, action=Answer(410), skip=1, times=1)) as armed:
            await started(tasks, of_claims(client, testbed, picture)).synced.wait()
        assert armed.met == 3
        assert picture.replaced == [{f"claim-{number}" for number in range(12)}]

    following(proxy.kubeconfig, work)


def test_a_silent_watch_is_taken_up_anew(testbed: Testbed, proxy: ApiProxy) -> None:
    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        reflector = started(tasks, of_claims(client, testbed, picture, silence_s=0.3))
        await reflector.synced.wait()
        with proxy.watches_held(WATCHES):
            testbed.api.create(claim(testbed, "one"))
            async with asyncio.timeout(PATIENCE_S):
                while reflector.progress.watches < 4:
                    await asyncio.sleep(0.02)
            assert not picture.known
        await picture.until(lambda: "one" in picture.known)
        assert reflector.progress.lists == 1

    following(proxy.kubeconfig, work)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_goes_wrong_the_picture_becomes_what_is_stored(testbed: Testbed, proxy: ApiProxy, seed: int) -> None:
    draw = random.Random(seed)
    actions: tuple[Action, ...] = (
        Answer(410),
        Answer(429, retry_after_s=0),
        Answer(500),
        Answer(503),
        Reset(),
        Delay(0.05),
    )
    faults = [
        Fault(match=BOTH, action=action, probability=0.15, seed=seed * 100 + number)
        for number, action in enumerate(actions)
    ]

    def change() -> None:
        name = f"claim-{draw.randrange(12)}"
        if testbed.api.find(claim(testbed, name)) is None:
            testbed.api.create(claim(testbed, name))
        elif draw.random() < 0.5:
            testbed.api.delete(claim(testbed, name))
        else:
            testbed.api.patch(claim(testbed, name), {"metadata": {"labels": {"n": str(draw.random())}}})

    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        reflector = started(tasks, of_claims(client, testbed, picture))
        armed = [proxy.add(fault) for fault in faults]
        for _ in range(60):
            await asyncio.to_thread(change)
            if draw.random() < 0.3:
                proxy.cut(WATCHES)
        for fault in armed:
            proxy.remove(fault)
        wanted = stored(testbed)
        await picture.until(lambda: picture.versions == wanted)
        assert reflector.progress.failures

    following(proxy.kubeconfig, work)


def thing(testbed: Testbed, kind: Kind[Any], name: str, **spec: object) -> Manifest:
    return {
        "apiVersion": kind.api_version,
        "kind": "Thing",
        "metadata": {"namespace": testbed.namespace, "name": name},
        "spec": spec,
    }


def test_malformed_objects_are_named_and_stop_nothing(testbed: Testbed, caplog: pytest.LogCaptureFixture) -> None:
    """A custom kind stores what a built-in one would refuse."""
    kind = replace(custom_kind(testbed, "slices", ResourceSlice), blank=SLICES.blank)
    good = {"driver": "gpu.example.com", "pool": {"name": "a", "generation": 1, "resourceSliceCount": 1}}
    listed = thing(testbed, kind, "listed", driver=7)
    testbed.create(thing(testbed, kind, "first", **good), listed)

    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        reflector = started(tasks, Reflector(client, kind, picture, settings=QUICK))
        await reflector.synced.wait()
        testbed.create(thing(testbed, kind, "watched", driver="gpu.example.com", pool={"name": ["a"]}))
        testbed.create(thing(testbed, kind, "last", **good))
        await picture.until(lambda: set(picture.known) == {"first", "last"})
        assert reflector.progress.malformed == 2
        testbed.api.patch(thing(testbed, kind, "last"), {"spec": {"pool": 1}})
        testbed.api.delete(thing(testbed, kind, "last"))
        await picture.until(lambda: set(picture.known) == {"first"})
        assert reflector.progress.malformed == 4

    with caplog.at_level(logging.WARNING, "kube.reflector"):
        following(testbed.control_plane.kubeconfig, work)
    lines = [line for line in caplog.messages if "malformed" in line]
    assert [line.split(" fault=")[0] for line in lines] == [
        f"malformed object skipped kind=Thing namespace={testbed.namespace} name={name} field={field}"
        for name, field in (
            ("listed", "$.spec.driver"),
            ("watched", "$.spec.pool.name"),
            ("last", "$.spec.pool"),
            ("last", "$.spec.pool"),
        )
    ]


def test_a_claim_of_two_thousand_brackets_is_stored_and_stops_nothing(testbed: Testbed) -> None:
    """Any user may write one; decoders answer with RecursionError, to the whole page."""
    faulty = claim(testbed, "deep")
    faulty["spec"]["devices"]["config"] = [{"opaque": {"driver": "gpu.example.com", "parameters": {"a": "deep"}}}]
    text = json.dumps(faulty).replace('"deep"}}}', "[" * 2000 + "]" * 2000 + "}}}").encode()
    path = CLAIMS.path(testbed.namespace)

    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        await client._transport.call("POST", path, body=text)
        testbed.api.create(claim(testbed, "good"))
        picture = Picture()
        reflector = started(tasks, of_claims(client, testbed, picture))
        await picture.until(lambda: set(picture.known) == {"good", "deep"})  # a stand-in (kube.salvage)
        await client.patch(CLAIMS, testbed.namespace, "good", {"metadata": {"labels": {"a": "b"}}})
        version = (await client.get(CLAIMS, testbed.namespace, "good")).metadata.resource_version
        await picture.until(lambda: picture.versions["good"] == version)
        assert reflector.progress.malformed >= 1
        assert len(await client.list_raw(CLAIMS, Selection(namespace=testbed.namespace))) == 2
        await client.delete(CLAIMS, testbed.namespace, "deep")  # what cleans up behind the test could not read it

    following(testbed.control_plane.kubeconfig, work)


def test_a_kind_that_is_not_served_has_no_objects_until_it_comes(testbed: Testbed) -> None:
    group = f"{testbed.namespace}.example.com"
    absent: Kind[Namespace] = Kind(name="Thing", plural="late", type=Namespace, group=group, versions=("v2", "v1"))

    async def work(client: ApiClient, tasks: asyncio.TaskGroup) -> None:
        picture = Picture()
        settings = ReflectorSettings(absent_s=0.05, first_delay_s=0.02)
        reflector = started(tasks, Reflector(client, absent, picture, settings=settings))
        await reflector.synced.wait()
        assert reflector.progress.absent
        assert picture.replaced[0] == set()
        kind = await asyncio.to_thread(custom_kind, testbed, "late", Namespace)
        await asyncio.to_thread(testbed.create, thing(testbed, kind, "one"))
        await picture.until(lambda: "one" in picture.known)
        assert not reflector.progress.absent

    following(testbed.control_plane.kubeconfig, work)


@pytest.mark.parametrize(
    ("fault", "before", "least_s", "most_s"),
    [
        (UnavailableError("x"), 0, 0.25, 0.5),
        (UnavailableError("x"), 1, 0.5, 1.0),
        (UnavailableError("x"), 1000, 15.0, 30.0),
        (UnavailableError("x", retry_after_s=5.0), 0, 5.0, 5.25),
        (UnavailableError("x", retry_after_s=1e9), 0, 30.0, 30.25),
        (ClusterError("x"), 2, 1.0, 2.0),
        (GoneError("x"), 0, 0.0, 0.0),
        (GoneError("x"), 1, 0.5, 1.0),
    ],
)
def test_delays_double_up_to_a_limit_and_hear_the_server(
    fault: ClusterError, before: int, least_s: float, most_s: float
) -> None:
    reflector: Reflector[Any] = Reflector(None, CLAIMS, Picture(), draw=random.Random(0))  # type: ignore[arg-type]
    reflector._faults_in_a_row = before
    delays = [reflector._delay(fault) for _ in range(200)]
    assert all(least_s <= delay <= most_s for delay in delays)
    assert len(set(delays)) > 100 or least_s == most_s
