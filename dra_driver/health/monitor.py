"""The thread that waits for events of GPUs, and looks at each of them now and then. It survives every fault of NVML.

    monitor = HealthMonitor(nvml, board)
    with monitor:          # starts the thread, and ends it
        ...

An XID is on the board at once; what makes no event (a GPU that is lost, a recovery action on older drivers) within
`look_s`. Both ways lead through `health.judge`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from dra_driver.health.board import HealthBoard
from dra_driver.health.judge import SETTLE_S, after_look, after_xid
from dra_driver.health.model import GpuHealth, Look, Part
from dra_driver.health.xids import named
from dra_driver.nvml.api import (
    EventWatch,
    GpuEvent,
    GpuInstance,
    GpuLostError,
    NotFoundError,
    Nvml,
    NvmlError,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """Times in seconds."""

    look_s: float = 3.0
    """How often each GPU is looked at."""
    wait_s: float = 1.0
    """The longest wait for an event: so long may an end take."""
    settle_s: float = SETTLE_S
    first_fault_s: float = 0.5
    most_fault_s: float = 30.0
    """Pauses before events are registered for again, after a fault."""
    ignored_xids: frozenset[int] = frozenset()
    """Beside those of applications, XIDs that are no fault where NVIDIA's driver tells no recovery action."""


class Counts(Protocol):
    """Who counts what happens. Called from the thread."""

    def xid(self, number: int) -> None:
        """Count an XID."""
        ...

    def failed(self, call: str) -> None:
        """Count a call of NVML that failed."""
        ...


MOST_AT_ONCE = 1000
"""Events taken before a look: a storm that goes on must not keep other GPUs from being looked at."""


class _Uncounted:
    def xid(self, number: int) -> None: ...
    def failed(self, call: str) -> None: ...


WATCHING = Watching()


class HealthMonitor:
    """Keeps the board. One thread; a context manager starts and ends it."""

    def __init__(
        self,
        nvml: Nvml,
        board: HealthBoard,
        *,
        watching: Watching = WATCHING,
        counts: Counts | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`clock` never goes back; `wall` gives Unix seconds."""
        self._nvml, self._board, self._watching = nvml, board, watching
        self._counts: Counts = counts or _Uncounted()
        self._clock, self._wall = clock, wall
        self._health: dict[str, GpuHealth] = {}
        self._instances: dict[str, dict[int, Part]] = {}
        self._unwatched: frozenset[str] = frozenset()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, name="gpu-health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread; one that hangs in NVML is left behind, it ends with the process."""
        self._stop.set()
        self._thread.join(2 * self._watching.wait_s + 1)

    def run(self) -> None:
        """Follow events until the context ends."""
        delay_s = self._watching.first_fault_s
        while not self._stop.is_set():
            began_s = self._clock()
            try:
                self._follow()
            except NvmlError as fault:
                self._failed("event wait", fault)
                if self._clock() - began_s > self._watching.most_fault_s:
                    delay_s = self._watching.first_fault_s
                self._pause(delay_s)
                delay_s = min(2 * delay_s, self._watching.most_fault_s)
            except Exception:  # without this thread no fault would ever be seen
                log.exception("health monitoring failed; it goes on")
                self._stop.wait(self._watching.most_fault_s)

    def _pause(self, delay_s: float) -> None:
        """Wait without events, and look all the same."""
        end_s = self._clock() + delay_s
        while (left_s := end_s - self._clock()) > 0 and not self._stop.wait(min(left_s, self._watching.look_s)):
            self.look()

    def _follow(self) -> None:
        """Register for the events of the GPUs that answer, and take events until others answer."""
        self.look()
        uuids = self._answering()
        if not uuids:
            self._stop.wait(self._watching.look_s)
            return
        with self._nvml.watch(uuids) as watch:
            self._unwatched = frozenset(watch.unwatched)
            self.look()
            if self._unwatched >= {*uuids}:
                self._stop.wait(self._watching.look_s)  # there is nothing to wait for in NVML
            else:
                self._wait(watch, uuids)

    def _wait(self, watch: EventWatch, uuids: Sequence[str]) -> None:
        next_look_s = self._clock() + self._watching.look_s
        while not self._stop.is_set():
            left_s = next_look_s - self._clock()
            if left_s <= 0:
                self.look()
                next_look_s = self._clock() + self._watching.look_s
                if self._answering() != uuids:
                    return
                continue
            try:
                event = watch.wait(min(left_s, self._watching.wait_s))
            except GpuLostError:
                self.look()
                if self._answering() == uuids:
                    raise
                return  # the others' events go on at once
            if event is not None:
                self.take((event, *_waiting(watch)))

    def take(self, events: Sequence[GpuEvent]) -> None:
        """Take events, and tell the board. A storm of them costs one look at each GPU."""
        lost = self._lost()
        looks = {uuid: self._look_at(uuid, lost) for uuid in {each.uuid for each in events} & {*self._health}}
        for event in events:
            if event.xid and event.uuid in looks:
                self._xid(event, looks[event.uuid] or Look())
        for uuid, look in looks.items():
            if look is not None:
                self._health[uuid] = after_look(self._health[uuid], look, self._clock(), self._watching.settle_s)
        self._board.report(self._health)

    def _xid(self, event: GpuEvent, look: Look) -> None:
        self._counts.xid(event.xid)
        log.warning("gpu event uuid=%s gi=%s %s", event.uuid, event.gpu_instance, named(event.xid))
        ignored = self._watching.ignored_xids
        self._health[event.uuid] = after_xid(self._health[event.uuid], event.xid, self._part(event), look, ignored)

    def look(self) -> None:
        """Look at each published GPU, and tell the board."""
        self._health = {uuid: self._health.get(uuid, GpuHealth()) for uuid in self._board.uuids()}
        lost = self._lost()
        for uuid, health in self._health.items():
            look = self._look_at(uuid, lost)
            if look is None:
                continue  # the time of the last check tells
            judged = after_look(health, look, self._clock(), self._watching.settle_s)
            monitored = uuid not in self._unwatched
            self._health[uuid] = replace(judged, checked_s=self._wall(), monitored=monitored)
        self._board.report(self._health)

    def _look_at(self, uuid: str, lost: frozenset[str]) -> Look | None:
        """Return what a look shows; None where NVML fails in another way than for a GPU that is gone."""
        if uuid in lost:
            return Look(lost=True)
        try:
            return Look(action=self._nvml.recovery_action(uuid), instances=self._read_instances(uuid))
        except (GpuLostError, NotFoundError):
            return Look(lost=True)
        except NvmlError as fault:
            self._failed("look", fault)
            return None

    def _lost(self) -> frozenset[str]:
        try:
            return frozenset(self._nvml.lost())
        except NvmlError as fault:
            self._failed("look for lost GPUs", fault)
            return frozenset()

    def _read_instances(self, uuid: str) -> tuple[GpuInstance, ...] | None:
        """Return GPU instances, and remember where they are: an event comes with an id alone."""
        try:
            found = tuple(self._nvml.gpu_instances(uuid))
        except GpuLostError:
            raise
        except NvmlError:  # not supported, not permitted: whether the GPU is well does not hang on it
            return None
        known = self._instances.setdefault(uuid, {})
        known.update({each.id: Part(gpu_instance=each.id, start=each.start, size=each.size) for each in found})
        return found

    def _part(self, event: GpuEvent) -> Part | None:
        """Return the part that an event is about; None: the whole GPU, also where nobody knows that part."""
        if event.gpu_instance is None:
            return None
        return self._instances.get(event.uuid, {}).get(event.gpu_instance)

    def _answering(self) -> tuple[str, ...]:
        lost = self._lost()
        return tuple(uuid for uuid in self._health if uuid not in lost)

    def _failed(self, what: str, fault: NvmlError) -> None:
        self._counts.failed(fault.call)
        log.warning("nvml failed at=%s fault=%s", what, fault)


def _waiting(watch: EventWatch) -> Iterator[GpuEvent]:
    """Yield the events that have come already, as many as are taken at a time.

    A fault ends them and is not told: the events before it count, and the next wait fails again.
    """
    for _ in range(MOST_AT_ONCE):
        try:
            event = watch.wait(0)
        except NvmlError:
            return
        if event is None:
            return
        yield event
