"""Keeps a picture of one kind of objects: lists them once, then follows the changes, for as long as it runs.

    async with asyncio.TaskGroup() as tasks:
        reflectors = [Reflector(client, kind, sink) for kind in (NODES, SLICES, CLAIMS)]
        for reflector in reflectors:
            tasks.create_task(reflector.run())
        for reflector in reflectors:
            await reflector.synced.wait()

What the sink has been told is a state that the API server had, and never goes back in time. A watch that ends, breaks
or falls silent is taken up where it was. Where the API server does not remember that far (410), everything is listed
again, and the sink gets the exact set. Every other fault is waited out, longer each time.

A malformed object is left out, counted, and named in one log line. What the sink knew of it before stays until the
next list. In place of a malformed claim the sink gets a stand-in that holds its devices (`kube.salvage`), events and
lists alike.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from kube.client import EVERYTHING, PAGE, ApiClient, Selection
from kube.decoding import BOOKMARK, DELETED, Event, Page
from kube.errors import ClusterError, GoneError, MalformedObjectError, NotFoundError, UnavailableError
from kube.kinds import Kind

log = logging.getLogger(__name__)

T = TypeVar("T")


class Sink(Protocol):
    """Who is told. Called in the event loop, so it must be quick; it must not raise."""

    def keep(self, kind: Kind[Any], objects: Sequence[Any]) -> Sequence[Any]:
        """Return what to keep of a page of objects until the list is whole, for `replace`; they may be large."""
        ...

    def replace(self, kind: Kind[Any], objects: Sequence[Any]) -> None:
        """Take `objects`, as `keep` returned them, for all there are of the kind (in the selection)."""
        ...

    def put(self, kind: Kind[Any], found: Any) -> None:  # noqa: ANN401 - an object of the kind
        """Add an object, or take it for the newer state of one."""
        ...

    def remove(self, kind: Kind[Any], found: Any) -> None:  # noqa: ANN401
        """Forget an object. `found` is its last state, or where that is malformed, its metadata with an empty spec.

        One that the sink was never told of may be among them: it was malformed all its life.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectorSettings:
    """How patient a reflector is."""

    page: int = PAGE
    watch_s: tuple[int, int] = (240, 300)
    """How long one watch lasts; drawn, so that those of many clients do not end together."""
    silence_s: float = 90.0
    """After so long without a byte a watch is taken up anew. API servers send a bookmark every minute."""
    first_delay_s: float = 0.5
    most_delay_s: float = 30.0
    absent_s: float = 300.0
    """How often to look whether a kind has come that the API server does not have."""


@dataclass(slots=True)
class Progress:
    """How a reflector fares. Times are of its clock, -1: never."""

    kind: str
    listed_s: float = -1.0
    """When the last list was complete."""
    heard_s: float = -1.0
    """When the last event or bookmark came: what the sink knows is of then, or newer."""
    resource_version: str = ""
    lists: int = 0
    watches: int = 0
    events: int = 0
    malformed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """Faults of the API server and the way to it, by type of error."""
    absent: bool = False
    """The API server does not have this kind."""

    def age_s(self, now_s: float) -> float:
        """Return how old the picture may be; infinite before the first list."""
        last = max(self.listed_s, self.heard_s)
        return now_s - last if last >= 0 else float("inf")


class Reflector(Generic[T]):
    """Follows one kind."""

    def __init__(
        self,
        client: ApiClient,
        kind: Kind[T],
        sink: Sink,
        selection: Selection = EVERYTHING,
        *,
        settings: ReflectorSettings = ReflectorSettings(),
        draw: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `run` does it. The sink gets `kind`, in whichever version the API server has it."""
        self._client, self._kind, self._sink, self._selection = client, kind, sink, selection
        self._settings = settings
        self._draw = draw or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._clock = clock
        self._served = kind
        self._version = ""
        self._faults_in_a_row = 0
        self.synced = asyncio.Event()
        """Set once the sink has had all objects."""
        self.progress = Progress(kind.name)

    async def run(self) -> None:
        """Follow the kind until cancelled."""
        while True:
            try:
                await self._follow()
            except ClusterError as fault:
                await asyncio.sleep(self._after(fault))

    async def _follow(self) -> None:
        """List where there is nothing to go on from, then watch until the watch ends."""
        if not self._version:
            if not await self._find():
                return
            await self._list()
        began_s = self._clock()
        low, high = self._settings.watch_s
        self.progress.watches += 1
        heard = 0
        watch = self._client.watch(
            self._served,
            self._version,
            self._selection,
            duration_s=self._draw.randint(low, high),
            silence_s=self._settings.silence_s,
        )
        async with aclosing(watch) as events:
            async for event in events:
                self._take(event)
                heard += 1
        if not heard and self._clock() - began_s < self._settings.first_delay_s:
            raise UnavailableError(f"watch {self._kind.plural}: ended as soon as it began")
        self._faults_in_a_row = 0

    async def _find(self) -> bool:
        """Look which version of the kind is served. Where none is, there are no objects: wait for a later look."""
        if len(self._kind.versions) == 1:
            return True
        served = await self._client.served(self._kind)
        self.progress.absent = served is None
        if served is not None:
            self._served = served
            return True
        self._replaced((), "")
        await asyncio.sleep(self._settings.absent_s)
        return False

    async def _list(self) -> None:
        try:
            pages = await self._pages(self._settings.page)
        except GoneError:
            # The pages took longer than the API server remembers. All in one it must hold for us.
            pages = await self._pages(0)
        for page in pages:
            for fault in page.malformed:
                self._skip(fault)
        self._replaced([found for page in pages for found in page.objects], pages[-1].metadata.resource_version)

    async def _pages(self, size: int) -> list[Page[Any]]:
        return [
            replace(page, objects=tuple(self._sink.keep(self._kind, page.objects)))
            async for page in self._client.list_pages(self._served, self._selection, page=size)
        ]

    def _replaced(self, objects: Sequence[Any], version: str) -> None:
        self._sink.replace(self._kind, objects)
        self._version = version
        self.progress.resource_version = version
        self.progress.lists += 1
        self.progress.listed_s = self._clock()
        self.synced.set()

    def _take(self, event: Event[T]) -> None:
        self._faults_in_a_row = 0
        if event.resource_version:
            self._version = self.progress.resource_version = event.resource_version
        self.progress.heard_s = self._clock()
        if event.type == BOOKMARK:
            return
        self.progress.events += 1
        if event.malformed is not None:
            self._skip(event.malformed)
        if event.object is None:
            return
        if event.type == DELETED:
            self._sink.remove(self._kind, event.object)
        else:
            self._sink.put(self._kind, event.object)

    def _skip(self, fault: MalformedObjectError) -> None:
        self.progress.malformed += 1
        log.warning(
            "malformed object skipped kind=%s namespace=%s name=%s field=%s fault=%r",
            fault.kind,
            fault.namespace,
            fault.name,
            fault.field,
            str(fault),
        )

    def _after(self, fault: ClusterError) -> float:
        """Count a fault, say it, and return how long to wait."""
        kind = type(fault).__name__
        self.progress.failures[kind] = self.progress.failures.get(kind, 0) + 1
        if isinstance(fault, GoneError | NotFoundError):
            self._version = ""
        delay_s = self._delay(fault)
        log.warning("reflector waits kind=%s delay_s=%.1f fault=%r", self._kind.name, delay_s, str(fault))
        self._faults_in_a_row += 1
        return delay_s

    def _delay(self, fault: ClusterError) -> float:
        """Twice as long each time, half of it drawn; at least what the API server wishes; none before a relist."""
        if isinstance(fault, GoneError) and not self._faults_in_a_row:
            return 0.0
        settings = self._settings
        doubled: float = settings.first_delay_s * 2 ** min(self._faults_in_a_row, 30)
        half_s = min(doubled, settings.most_delay_s) / 2
        wish_s = fault.retry_after_s if isinstance(fault, UnavailableError) else None
        return min(max(wish_s or 0.0, half_s), settings.most_delay_s) + self._draw.uniform(0, half_s)
