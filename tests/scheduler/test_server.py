"""Whatever comes in, one request is answered, with a status that says whose fault it is, and the next one is served."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable

import pytest

from kube import connections
from tests.scheduler.http import NODES, POD, FirstNode, Served, question, serving


def run(story: Callable[[Served], Awaitable[None]], *, waits_for: tuple[str, ...] = ()) -> None:
    async def told() -> None:
        async with asyncio.timeout(30), serving(waits_for=waits_for) as served:
            await story(served)

    asyncio.run(told())


async def raw(port: int, *parts: bytes) -> bytes:
    """Send bytes on a connection of their own and return all that comes until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def is_well(served: Served) -> bool:
    status, answer = await served.ask("filter", question())
    return status == 200 and answer["NodeNames"] == [NODES[0]]


def test_every_verb_is_answered() -> None:
    async def story(served: Served) -> None:
        assert await is_well(served)
        status, answer = await served.ask(
            "filter", question({**POD, "metadata": {**POD["metadata"], "name": "refused"}})
        )
        assert (status, answer["NodeNames"]) == (200, [])
        assert answer["FailedAndUnresolvableNodes"] == dict.fromkeys(NODES, "no GPU")
        assert await served.ask("prioritize", question()) == (
            200,
            [{"Host": name, "Score": 10 - at} for at, name in enumerate(NODES)],
        )
        order = {"PodName": "p", "PodNamespace": "n", "PodUID": "u", "Node": "node-0"}
        assert await served.ask("bind", order) == (200, {"Error": ""})
        assert await served.ask("bind", {**order, "PodName": "gone"}) == (200, {"Error": "pod is gone"})
        meta = {"a": {"Pods": [{"UID": "v"}], "NumPDBViolations": 0}, "b": {"Pods": [], "NumPDBViolations": 0}}
        status, answer = await served.ask("preempt", {"Pod": POD, "NodeNameToMetaVictims": meta})
        assert (status, answer) == (200, {"NodeNameToMetaVictims": {"a": meta["a"]}})

    run(story)


def test_t24_null_bodies_missing_pods_and_nil_requests_are_the_askers_fault() -> None:
    async def story(served: Served) -> None:
        for verb in ("filter", "prioritize", "preempt", "bind"):
            for body in (
                b"",
                b"null",
                b"[]",
                b"{}",
                b'{"Pod":null}',
                b'{"Pod":{"metadata":null,"spec":null}}',
                b"\x00",
            ):
                status, answer = await served.ask(verb, body)
                assert status == 400, (verb, body)
                assert answer["path"].startswith("$")
                assert answer["reason"] == "BadRequest"
        assert await is_well(served)

    run(story)


def test_pods_without_containers_claims_and_with_nil_requests_are_read() -> None:
    async def story(served: Served) -> None:
        for spec in (
            {"containers": []},
            {"containers": [{"name": "a", "resources": None}], "resourceClaims": None},
            {"containers": [{"name": "a", "resources": {"requests": None, "limits": None, "claims": None}}]},
        ):
            status, answer = await served.ask("filter", question({**POD, "spec": spec}))
            assert (status, answer["NodeNames"]) == (200, list(NODES))

    run(story)


def test_a_fault_of_ours_is_a_500_and_the_process_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def story(served: Served) -> None:
        status, answer = await served.ask(
            "filter", question({**POD, "metadata": {**POD["metadata"], "name": "broken"}})
        )
        assert (status, answer["reason"]) == (500, "InternalServerError")
        assert "AssertionError" in caplog.text
        assert await is_well(served)
        assert 'dovetail_extender_requests_total{code="500",verb="filter"} 1.0' in (await served.get("/metrics"))[1]

    run(story)


def test_nothing_is_decided_before_the_caches_are_filled() -> None:
    async def story(served: Served) -> None:
        status, answer = await served.ask("filter", question())
        assert (status, answer["message"]) == (503, "not ready: waits for nodes, kernels")
        assert await served.get("/readyz") == (503, "waits for nodes, kernels")
        assert await served.get("/healthz") == (200, "ok")

    run(story, waits_for=("nodes", "kernels"))


def test_probes_settings_and_explanations() -> None:
    async def story(served: Served) -> None:
        assert await served.get("/readyz") == (200, "ok")
        assert json.loads((await served.get("/configz"))[1]) == {"mode": "allocate"}
        assert json.loads((await served.get("/explain/default/pod"))[1]) == {"pod": "default/pod"}
        assert json.loads((await served.get("/explain/a%2Fb/pod"))[1]) == {"pod": "a/b/pod"}
        for path in ("/explain/default/none", "/explain/default", "/explain//pod", "/explain/a/b/c", "/", "/filter/x"):
            assert (await served.get(path))[0] == 404
        assert (await served.get("/filter"))[0] == 405
        async with served.client.post(f"http://127.0.0.1:{served.port}/metrics") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET")

    run(story)


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(served: Served) -> None:
        head = b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n"
        assert (await raw(served.port, head)).startswith(b"HTTP/1.1 413 ")
        monkeypatch.setattr(connections, "MAX_BODY_BYTES", 10_000)
        chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
        head = b"POST /filter HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await raw(served.port, head, *[chunk] * 10)).startswith(b"HTTP/1.1 413 ")
        assert await is_well(served)

    run(story)


def test_a_body_that_comes_too_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READ_S", 0.1)

    async def story(served: Served) -> None:
        head = b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        assert (await raw(served.port, head)).startswith(b"HTTP/1.1 408 ")
        assert await is_well(served)

    run(story)


def test_a_head_that_comes_too_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_REQUEST_S", 0.1)

    async def story(served: Served) -> None:
        dribbling = [raw(served.port, b"POST /filter HTTP/1.1\r\nX-A: b") for _ in range(100)]
        answers = asyncio.gather(raw(served.port), *dribbling)
        assert await is_well(served)
        assert set(await answers) == {b""}
        assert await is_well(served)

    run(story)


def test_more_connections_than_the_limit_are_closed_and_those_before_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 5)

    async def story(served: Served) -> None:
        assert await is_well(served)
        idle = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(4)]
        assert await raw(served.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert await is_well(served)
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()

    run(story)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", b"400"),
        (b"POST /filter HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 9000 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: b\r\n" % n for n in range(500)) + b"\r\n", b"400"),
    ],
)
def test_what_is_no_http_is_refused(request_bytes: bytes, status: bytes) -> None:
    async def story(served: Served) -> None:
        answer = await raw(served.port, request_bytes)
        assert answer.split(b" ")[1] == status
        assert await is_well(served)

    run(story)


def test_packed_bodies_are_not_unpacked() -> None:
    async def story(served: Served) -> None:
        body = gzip.compress(json.dumps(question()).encode())
        headers = {"Content-Encoding": "gzip"}
        async with served.client.post(f"http://127.0.0.1:{served.port}/filter", data=body, headers=headers) as response:
            assert response.status == 400

    run(story)


def test_a_client_that_leaves_does_not_stop_its_binding() -> None:
    class Slow(FirstNode):
        def __init__(self) -> None:
            super().__init__()
            self.started, self.may_end, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def bind(self, order: object) -> str:
            self.started.set()
            await self.may_end.wait()
            self.ended.set()
            return ""

    async def told() -> None:
        verbs = Slow()
        async with asyncio.timeout(30), serving(verbs) as served:
            body = b'{"PodName":"p","PodNamespace":"n","PodUID":"u","Node":"a"}'
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(b"POST /bind HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await verbs.started.wait()
            writer.close()
            await writer.wait_closed()
            assert await is_well(served)
            verbs.may_end.set()
            await verbs.ended.wait()

    asyncio.run(told())
