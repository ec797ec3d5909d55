"""Wakes pods that wait for devices when there may be some, by an annotation on a claim of our own.

kube-scheduler tries pods that an extender refused again when claims change, and not when resource slices do, nor when a
reservation ends that no object shows. Changes that come together wake once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kube.errors import ClusterError, ConflictError, NotFoundError

log = logging.getLogger(__name__)

ANNOTATION = "dovetail.dev/woken"


class Bell(Protocol):
    """The API server, as far as one claim of ours goes."""

    async def change(self, change: Mapping[str, Any]) -> None:
        """Merge a change into the claim. Raises NotFoundError where there is none."""
        ...

    async def create(self, claim: Mapping[str, Any]) -> None:
        """Create it. Raises ConflictError where there is one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeupSettings:
    """Where the claim is, and how often it may change. `gather_s`: so long do changes gather before the first one."""

    namespace: str
    name: str = "dovetail-wakeup"
    gather_s: float = 0.1
    apart_s: float = 1.0


class Wakeup:
    """Rings when asked to, at most every `apart_s`, and only if someone waits."""

    def __init__(
        self,
        bell: Bell,
        settings: WakeupSettings,
        *,
        waits: Callable[[], bool],
        token: Callable[[], str],
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        """Prepare. `waits`: whether pods of ours wait; `token` returns a text that differs each time."""
        self.bell = bell
        self.settings = settings
        self.waits = waits
        self.token = token
        self.sleep = sleep
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """There may be devices for those who wait."""
        self._asked.set()

    async def run(self) -> None:
        """Ring for ever, when asked."""
        while True:
            await self._asked.wait()
            await self.sleep(self.settings.gather_s)
            self._asked.clear()
            if self.waits():
                await self._ring()
                await self.sleep(self.settings.apart_s)

    async def _ring(self) -> None:
        try:
            await self._changed()
        except ClusterError as error:
            log.warning("nobody woken: %s", error)
            self._asked.set()

    async def _changed(self) -> None:
        annotations = {ANNOTATION: self.token()}
        try:
            await self.bell.change({"metadata": {"annotations": annotations}})
        except NotFoundError:
            try:
                await self.bell.create(self._claim(annotations))
            except ConflictError:
                log.info("the claim to wake pods by was made by another replica")

    def _claim(self, annotations: Mapping[str, str]) -> dict[str, Any]:
        metadata = {"namespace": self.settings.namespace, "name": self.settings.name, "annotations": annotations}
        return {"metadata": metadata, "spec": {}}
