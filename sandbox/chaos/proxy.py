"""A proxy in front of an API server that delays, cuts, refuses and holds back what tests choose.

    with ApiProxy(control_plane.kubeconfig) as proxy:
        scheduler = SecondScheduler.start(control_plane, "ours", SchedulerOptions(kubeconfig=proxy.kubeconfig, ...))
        with proxy.fault(Fault(match=Match(verbs=["create"], resources=["pods/binding"]), action=Answer(409), times=3)):
            ...
        with proxy.watches_held(Match(resources=["pods"])):
            ...
        proxy.records(Match(resources=["pods/binding"]))

`proxy.kubeconfig` is the same user behind another address: TLS ends here, so the file holds a client certificate of
the proxy's own, and only its bearer gets the user's certificate towards the API server. A request without it is passed
on as it is, with its token if it has one. Without faults the client sees the API server's own answers, byte for byte.
When the API server goes away, connections are reset.

HTTP/1.1 only: a client that would like HTTP/2 learns that in the TLS handshake (ALPN). So each request has a connection
for itself while it lasts, and a reset hits no other. exec, attach and port-forward are refused.

It runs in a thread of the caller, and ends with the block or the process. Its files lie in a private folder beside the
kubeconfig that it was given.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import trustme
import yaml
from aiohttp import web

from sandbox.chaos.faults import ALL, WATCHES, Armed, Fault, Faults, Match
from sandbox.chaos.forward import MAX_BODY, Forwarder, Record
from sandbox.chaos.holding import Hold, Holds
from sandbox.chaos.listener import Listener
from sandbox.connection import Connection
from sandbox.pki import write_private
from sandbox.ports import LOOPBACK

Asked = TypeVar("Asked")
Had = TypeVar("Had")

STOP_S = 1.0
"""How long open requests may still take when the proxy ends."""


class ApiProxy:
    """One user's way to an API server, with faults."""

    def __init__(self, kubeconfig: Path) -> None:
        self._upstream = kubeconfig
        self._faults = Faults()
        self._holds = Holds()
        self._authority = trustme.CA(organization_name="dovetail-sandbox-proxy")
        # There it goes with the control plane when nobody is left to remove it.
        self._folder = Path(tempfile.mkdtemp(prefix="proxy-", dir=kubeconfig.absolute().parent))
        self.kubeconfig = self._folder / "kubeconfig"
        """For the clients whose requests shall go through the proxy."""
        self._thread = threading.Thread(target=self._run, name="api-proxy", daemon=True)
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        self._forwarder: Forwarder | None = None

    def __enter__(self) -> Self:
        try:
            self._thread.start()
            _, _, port = self._started.result()
            write_private(self.kubeconfig, self._own_kubeconfig(port).encode())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections and stop listening."""
        if self._started.done() and self._started.exception() is None:
            loop, stop, _ = self._started.result()
            with contextlib.suppress(RuntimeError):  # closed twice
                loop.call_soon_threadsafe(stop.set)
            self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, fault: Fault) -> Armed:
        """Put a fault in force until `remove`; returns it with its counts."""
        return self._faults.add(fault)

    def remove(self, armed: Armed) -> None:
        """Take a fault back."""
        self._faults.remove(armed)

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Iterator[Armed]:
        """Put a fault in force for a block."""
        armed = self.add(fault)
        try:
            yield armed
        finally:
            self.remove(armed)

    @contextlib.contextmanager
    def watches_held(self, match: Match = ALL) -> Iterator[Hold]:
        """Hold back the events of matching watches, open ones and new ones; they arrive when the block ends."""
        hold = self._holds.add(match)
        try:
            yield hold
        finally:
            self._ask(self._holds.release, hold)

    def cut(self, match: Match = WATCHES) -> int:
        """Reset all matching requests under way, by default all watches. Returns how many there were."""
        forwarder = self._forwarder
        assert forwarder is not None, "the proxy does not run"
        return self._ask(forwarder.cut, match)

    def records(self, match: Match = ALL) -> list[Record]:
        """Return what was done with each matching request, in the order of arrival."""
        forwarder = self._forwarder
        assert forwarder is not None, "the proxy does not run"
        return [record for record in forwarder.records.copy() if match.accepts(record.request)]

    def _ask(self, call: Callable[[Asked], Had], asked: Asked) -> Had:
        """Call a function in the proxy's thread and return what it returns."""
        loop, _, _ = self._started.result()

        async def in_loop() -> Had:
            return call(asked)

        return asyncio.run_coroutine_threadsafe(in_loop(), loop).result()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as fault:
            if self._started.done():
                raise
            self._started.set_exception(fault)

    async def _serve(self) -> None:
        bare = Connection.read(self._upstream, certified=False)
        certified = Connection.read(self._upstream)
        async with contextlib.AsyncExitStack() as stack:
            self._forwarder = await stack.enter_async_context(Forwarder(certified, bare, self._faults, self._holds))
            application = web.Application(client_max_size=MAX_BODY)
            application.router.add_route("*", "/{path:.*}", self._forwarder.handle)
            runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=STOP_S)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            assert runner.server is not None, "it is set up"
            port = await stack.enter_async_context(Listener(runner.server, self._server_tls()).on_loopback())
            stop = asyncio.Event()
            self._started.set_result((asyncio.get_running_loop(), stop, port))
            await stop.wait()
            self._forwarder.cut(ALL)

    def _server_tls(self) -> ssl.SSLContext:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.set_alpn_protocols(["http/1.1"])
        tls.verify_mode = ssl.CERT_OPTIONAL
        self._authority.issue_cert(LOOPBACK, "localhost", common_name="sandbox-proxy").configure_cert(tls)
        self._authority.configure_trust(tls)
        return tls

    def _own_kubeconfig(self, port: int) -> str:
        """Return the user's kubeconfig with our address, our authority, and a certificate of ours for the user's."""
        document = yaml.safe_load(self._upstream.read_text())
        current = next(each for each in document["contexts"] if each["name"] == document["current-context"])["context"]
        (cluster,) = [each["cluster"] for each in document["clusters"] if each["name"] == current["cluster"]]
        (user,) = [each["user"] for each in document["users"] if each["name"] == current["user"]]
        for entry, name in ((cluster, "certificate-authority"), (user, "client-certificate"), (user, "client-key")):
            if name in entry or f"{name}-data" in entry:
                entry.pop(f"{name}-data", None)
                entry[name] = str(self._folder / name)
        cluster["server"] = f"https://{LOOPBACK}:{port}"
        cluster["certificate-authority"] = str(self._folder / "certificate-authority")
        self._authority.cert_pem.write_to_path(cluster["certificate-authority"])
        issued = self._authority.issue_cert("client.invalid", common_name="bearer")
        write_private(self._folder / "client-key", issued.private_key_pem.bytes())
        write_private(self._folder / "client-certificate", issued.cert_chain_pems[0].bytes())
        return yaml.safe_dump(document, sort_keys=False)
