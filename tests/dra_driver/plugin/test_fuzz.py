"""HI-2: hostile messages on all methods, and raw frames on the socket, break nothing and leave nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc import aio

from dra_driver.pb import dra_v1_pb2 as dra
from dra_driver.plugin.plugin import MAX_REQUEST
from tests.dra_driver.plugin import fuzz
from tests.dra_driver.plugin.world import World, new_world

SEED = 20261121
AT_ONCE = 64
ALL_SEEN = 20_000
"""So many messages reach every answer that is planned."""
PLANNED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,  # not protobuf
    grpc.StatusCode.UNIMPLEMENTED,  # no such method
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # larger than MAX_REQUEST
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Every refusal is logged; a million are no news."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def ask(world: World, channel: aio.Channel, rng: random.Random, counted: Counter[str]) -> None:
    """Send one message, judge its answer."""
    method, request = fuzz.unary(rng)
    try:
        answer = await channel.unary_unary(method)(request, timeout=60)
    except aio.AioRpcError as fault:
        assert fault.code() in PLANNED, (method, request, fault)  # noqa: PT017
        counted[fault.code().name] += 1
        return
    counted["OK"] += 1
    if method in fuzz.PREPARES:
        asked = dra.NodePrepareResourcesRequest.FromString(request)
        answered = dra.NodePrepareResourcesResponse.FromString(answer).claims
        assert set(answered) == {claim.uid for claim in asked.claims}
        assert all(result.error and result.error.isprintable() for result in answered.values())
    if method in fuzz.UNPREPARES:
        asked = dra.NodeUnprepareResourcesRequest.FromString(request)
        assert set(dra.NodeUnprepareResourcesResponse.FromString(answer).claims) == {
            claim.uid for claim in asked.claims
        }


async def watch(channel: aio.Channel, rng: random.Random, counted: Counter[str]) -> None:
    """Open a health stream, read a list or none, leave."""
    call = channel.unary_stream(rng.choice(fuzz.STREAMS))(rng.randbytes(rng.choice((0, 0, 3))), timeout=60)
    try:
        if rng.random() < 0.7:
            await call.read()
        call.cancel()
        counted["stream"] += 1
    except aio.AioRpcError as fault:
        assert fault.code() in PLANNED, fault  # noqa: PT017
        counted[fault.code().name] += 1


async def throw(path: Path, rng: random.Random, counted: Counter[str]) -> None:
    """Open a connection, send bytes of chance, hang up."""
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.write(fuzz.frames(rng))
    writer.close()
    counted["raw"] += 1


async def storm(world: World, count: int) -> Counter[str]:
    rng = random.Random(SEED)
    counted: Counter[str] = Counter()
    paths = world.paths()
    pod = world.pod("pod")
    kept = dra.Claim(namespace="default", name="pod", uid=world.uid("pod"))
    async with (
        world.plugin() as plugin,
        aio.insecure_channel(f"unix:{paths.plugin}") as calls,
        aio.insecure_channel(f"unix:{paths.registration}") as registration,
    ):
        stub = calls.unary_unary(fuzz.PREPARES[0])
        request = dra.NodePrepareResourcesRequest(claims=[kept]).SerializeToString()
        before = await stub(request)
        left = iter(range(count))

        async def client() -> None:
            for _ in left:
                chance = rng.random()
                if chance < 0.02:
                    await throw(rng.choice((paths.plugin, paths.registration)), rng, counted)
                elif chance < 0.05:
                    await watch(calls, rng, counted)
                else:
                    await ask(world, rng.choice((calls, calls, registration)), rng, counted)

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        assert await stub(request) == before, "who behaves is served as ever"
        assert plugin._calls.turns._locks == {}
    assert world.node.prepared() == {world.uid("pod")} == {kept.uid}
    assert {path.name for path in world.root.rglob("*.json")} <= {"claims.json", f"{kept.uid}.json"}
    assert pod.claims == ("pod",)
    return counted


def weathered(count: int) -> None:
    with new_world() as world:
        threads = threading.active_count()
        counted = asyncio.run(storm(world, count))
        assert threading.active_count() <= threads + 32
    assert sum(counted.values()) == count
    if count >= ALL_SEEN:
        assert {code.name for code in PLANNED} <= set(counted), "every planned answer was seen"
        assert counted["stream"]
        assert counted["raw"]


def test_hi2_20_000_hostile_messages_break_nothing() -> None:
    weathered(ALL_SEEN)


@pytest.mark.soak
def test_hi2_1_000_000_hostile_messages_break_nothing() -> None:
    weathered(1_000_000)
    print(f"HI-2: 1,000,000 messages, seed {SEED}, 0 crashes")  # noqa: T201 - takes minutes


def test_fuzz_reaches_the_claims_and_the_parser() -> None:
    """What is sent is neither all garbage nor all well-formed, else one half of the plugin would go untested."""
    rng = random.Random(SEED)
    parsed = Counter[bool]()
    for _ in range(2000):
        try:
            dra.NodePrepareResourcesRequest.FromString(fuzz.message(rng, fuzz.prepare))
            parsed[True] += 1
        except DecodeError:
            parsed[False] += 1
    assert min(parsed[True], parsed[False]) > 200


def test_request_of_the_largest_size_is_taken_and_one_more_byte_is_not() -> None:
    """The cap is checked by gRPC from the frame's length, before anything is parsed or stored."""

    async def story(world: World) -> list[grpc.StatusCode]:
        codes = []
        async with world.plugin(), aio.insecure_channel(f"unix:{world.paths().plugin}") as channel:
            for size in (MAX_REQUEST, MAX_REQUEST + 1):
                field = b"\x7a" + (size - 4).to_bytes(3, "little")  # an unknown field of the size that is missing
                head = bytes((0x7A, (size - 4) & 0x7F | 0x80, (size - 4) >> 7 & 0x7F | 0x80, (size - 4) >> 14))
                assert len(field) == len(head)
                call = channel.unary_unary(fuzz.PREPARES[0])(head + bytes(size - 4))
                codes.append(await call.code())
        return codes

    with new_world() as world:
        assert asyncio.run(story(world)) == [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED]
