"""The process: one event loop with the watches, the decisions, the tasks beside them and the HTTP server.

It is ready once all kinds are listed and the kernels are compiled. Told to end, it refuses new requests, finishes the
bindings under way and goes. A task that fails ends the process with its words: nothing goes on half.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence

from aiohttp import web

from kube.access import Access
from kube.client import ApiClient
from kube.connections import LimitedServer
from kube.errors import ClusterError
from kube.running import Tasks, run
from packing.mix import DemandMix
from scheduler import collecting, tls
from scheduler.assemble import System, assemble
from scheduler.feed import Watches
from scheduler.metrics import Gauges, Metrics
from scheduler.scoresystem import ScoreSystem
from scheduler.server import Extender, Probes
from scheduler.settings import Settings
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

DRAIN_S = 20.0
"""Bindings end by themselves within their time-outs, which are shorter."""
KERNELS = "compiled kernels"
END = "its end"


class Readiness:
    """What the process still waits for."""

    def __init__(self) -> None:
        self.watches: Watches | None = None
        self.compiled = False
        self.ending = False

    def lacks(self) -> Sequence[str]:
        """Return it in words."""
        kinds = ["the API server"] if self.watches is None else self.watches.missing()
        return [*kinds, *([] if self.compiled else [KERNELS]), *([END] if self.ending else [])]


def main(settings: Settings, mix: DemandMix | None) -> str:
    """Run until told to end; return what failed, nothing for a clean end."""

    async def serve(told: asyncio.Event) -> None:
        await _serve(settings, mix, told)

    try:
        return run(serve)
    except (ClusterError, InvalidInputError) as error:
        return str(error)


async def _serve(settings: Settings, mix: DemandMix | None, told: asyncio.Event) -> None:
    began_s = time.monotonic()
    readiness = Readiness()
    context = None if settings.tls is None else tls.make_context(settings.tls)
    async with ApiClient(Access(settings.kubeconfig)) as client, asyncio.TaskGroup() as group:
        system = assemble(settings, mix, client)
        watches = readiness.watches = Watches(client, system.feed)
        metrics = Metrics(_gauges(system, watches, readiness))
        client.watch_calls(metrics.called)
        probes = Probes(waits_for=readiness.lacks, settings=settings.public(), explain=system.explain)
        tasks = Tasks(group)
        async with _Listener(settings, Extender(system.decider, probes, metrics), context):
            for reflector in watches.reflectors:
                tasks.start(f"watch of {reflector.progress.kind}", reflector.run())
            if settings.tls is not None and context is not None:
                tasks.start("certificates", tls.keep_fresh(context, settings.tls))
            preparing = asyncio.create_task(_prepare(system, watches, readiness, tasks, began_s))
            ended = asyncio.create_task(told.wait())
            try:
                await asyncio.wait({preparing, ended}, return_when=asyncio.FIRST_COMPLETED)
                if preparing.done():
                    preparing.result()
                    await ended
            finally:
                preparing.cancel()
                ended.cancel()
                readiness.ending = True
            log.info("ending")
            await asyncio.wait_for(system.drain(), DRAIN_S)
        tasks.stop()


async def _prepare(
    system: System | ScoreSystem, watches: Watches, readiness: Readiness, tasks: Tasks, began_s: float
) -> None:
    """Compile while the lists come, then start what acts on the whole picture."""
    with collecting.seldom():
        compiling = asyncio.create_task(asyncio.to_thread(system.compile))
        await watches.synced()
        await compiling
        await system.prepare()
    for name, work in system.tasks():
        tasks.start(name, work)
    readiness.compiled = True
    log.info("ready after_s=%.1f", time.monotonic() - began_s)


class _Listener:
    """The HTTP servers as a context."""

    def __init__(self, settings: Settings, extender: Extender, context: ssl.SSLContext | None) -> None:
        self._sites = [(settings.listen, "--listen", extender.handle, context)]
        if settings.observe is not None:
            self._sites.append((settings.observe, "--observe", extender.observe, None))
        self._runners: list[web.ServerRunner] = []

    async def __aenter__(self) -> None:
        for address, flag, handle, context in self._sites:
            runner = web.ServerRunner(LimitedServer(handle))
            self._runners.append(runner)
            await runner.setup()
            try:
                await web.TCPSite(runner, address.host, address.port, ssl_context=context).start()
            except OSError as error:
                await self.__aexit__()
                raise InvalidInputError("scheduler settings", flag, f"{address}: {error.strerror}") from error
            log.info("listening flag=%s address=%s tls=%s", flag, address, context is not None)

    async def __aexit__(self, *_fault: object) -> None:
        for runner in self._runners:
            await runner.cleanup()


def _gauges(system: System | ScoreSystem, watches: Watches, readiness: Readiness) -> Gauges:
    return Gauges(
        capacity=system.capacity,
        reservations=system.reservations,
        watch_lag_s=watches.silence_s,
        malformed=watches.malformed,
        ready=lambda: not readiness.lacks(),
    )
