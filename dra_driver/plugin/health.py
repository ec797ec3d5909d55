"""Health of devices as a stream: the complete list at once, at each change, and again before the kubelet forgets it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from dra_driver.changes import changes
from dra_driver.plugin.ports import DeviceHealth, Health, HealthSource

KEEP_S = 30
"""How long the kubelet believes a message."""
REFRESH_S = 10.0
PAUSE_S = 0.2
"""At least so long from one list to the next, so that a storm of changes becomes few lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFeed:
    """Lists for one or more streams. They end when `closing` is set."""

    source: HealthSource
    closing: asyncio.Event
    refresh_s: float = REFRESH_S
    keep_s: float = KEEP_S

    async def lists(self) -> AsyncGenerator[Sequence[DeviceHealth], None]:
        """Yield complete lists. What was not checked for `keep_s` is unknown: a source that hangs proves no health."""
        with changes(self.source) as changed:
            while not self.closing.is_set():
                changed.clear()
                yield [_believed(each, time.time(), self.keep_s) for each in self.source.devices()]
                await _first((self.closing,), PAUSE_S)
                await _first((self.closing, changed), self.refresh_s)


async def _first(events: Sequence[asyncio.Event], timeout_s: float) -> None:
    """Wait until one of the events is set, or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


def _believed(device: DeviceHealth, now: float, keep_s: float) -> DeviceHealth:
    """Return the health that may be told at `now` (Unix seconds). A check from the future is as good as one now."""
    age_s = now - device.checked_at
    if age_s <= keep_s:
        return replace(device, checked_at=min(now, device.checked_at))
    message = f"not checked for {age_s:.0f} s; the driver or the GPU hangs"
    return replace(device, health=Health.UNKNOWN, checked_at=now, message=message)
