"""Writes the wanted slices to the API server and keeps them there, for as long as it runs.

    controller = SliceController(client, "node-1", registered=registered)
    controller.want(lambda features: resource_slices(node, features=features))
    await controller.run()

Each round reads all slices of this driver on this node anew and writes what differs (`slices.plan`), so no cache can be
out of date. A round begins when something else is wanted, when a slice is gone (the kubelet deletes them all when it
starts), a while after someone else changed one, and after a fault. Between rounds there is one watch and nothing else.

Nothing is written before `registered`: a pod that is given devices of a driver that the kubelet does not know fails.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dra_driver.publish.features import EVERYTHING, Features
from dra_driver.publish.names import DRIVER_NAME
from dra_driver.slices.compare import FEATURE_OF, Json, TaintKey, dropped, still, times
from dra_driver.slices.pace import Budget, Pacing, Patience
from dra_driver.slices.plan import NEVER, Create, Delete, Write, changes
from dra_driver.slices.seen import SLICE_HEADS, Seen
from kube.client import ApiClient, Selection
from kube.errors import ClusterError, InvalidObjectError
from kube.kinds import NODES, SLICES
from kube.reflector import Reflector, ReflectorSettings
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

DEFAULT_PACING = Pacing()
DEFAULT_WATCHING = ReflectorSettings()

DENIED = "denied"
"""In the API server's answer where an admission policy or webhook refuses: less would not help."""

Build = Callable[[Features], Sequence[Json]]
"""The wanted slices, as far as the API server stores what they need."""


class Told(Protocol):
    """Who hears how publishing fares. Called in the event loop; must not wait."""

    def wrote(self, verb: str, code: int) -> None:
        """Count a write: `create`, `update` or `delete`; HTTP code, 0 where no answer came."""
        ...

    def published(self, slices: int, devices: int, generation: int) -> None:
        """Tell that all is stored as wanted."""
        ...

    def degraded(self, features: Features, text: str) -> None:
        """Tell what the API server stores; `text` says what is lost, and what helps. Empty: nothing, any more."""
        ...

    def refused(self, text: str) -> None:
        """Tell that the API server does not take the slices."""
        ...


class Silent:
    """Tells nobody."""

    def wrote(self, verb: str, code: int) -> None: ...  # noqa: D102
    def published(self, slices: int, devices: int, generation: int) -> None: ...  # noqa: D102
    def degraded(self, features: Features, text: str) -> None: ...  # noqa: D102
    def refused(self, text: str) -> None: ...  # noqa: D102


class _DroppedError(Exception):
    """The API server stored less than was sent."""

    def __init__(self, fields: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(fields)[:8]))
        self.fields = fields


class SliceController:
    """The slices of one node."""

    def __init__(
        self,
        client: ApiClient,
        node: str,
        *,
        registered: asyncio.Event,
        driver: str = DRIVER_NAME,
        told: Told | None = None,
        pacing: Pacing = DEFAULT_PACING,
        watching: ReflectorSettings = DEFAULT_WATCHING,
        clock: Callable[[], float] = time.monotonic,
        draw: random.Random | None = None,
    ) -> None:
        """Prepare; `run` does it."""
        self._client, self._node, self._registered = client, node, registered
        self._mine = Selection(fields=f"spec.driver={driver},spec.nodeName={node}")
        self._told: Told = told or Silent()
        self._pacing = pacing
        draw = draw or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._budget, self._patience = Budget(pacing, clock), Patience(pacing, draw)
        self._build: Build | None = None
        self._features = EVERYTHING
        self._clock = clock
        self._server, self._upgrade_s = "", 0.0
        self._owner: Json | None = None
        self._generation = 1
        self._since: Mapping[TaintKey, str] = NEVER
        self._due = asyncio.Event()
        self._alarms: dict[str, asyncio.TimerHandle] = {}
        self._seen = Seen(gone=self._due.set, touched=self._touched, listed=self._due.set)
        self.watch = Reflector(client, SLICE_HEADS, self._seen, self._mine, settings=watching, clock=clock)
        self.published = asyncio.Event()
        """Set while everything is stored as wanted, as far as is known."""

    @property
    def features(self) -> Features:
        """What the API server was seen to store."""
        return self._features

    def want(self, build: Build) -> None:
        """Say what the slices shall be, from now on. Called in the event loop."""
        self._build = build
        self.published.clear()
        self._due.set()

    async def run(self) -> None:
        """Keep the slices as wanted until cancelled; they stay when it ends."""
        await self._registered.wait()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.watch.run())
                tasks.create_task(self._keep())
        finally:
            for alarm in self._alarms.values():
                alarm.cancel()

    async def _keep(self) -> None:
        while True:
            await self._due.wait()
            await asyncio.sleep(self._budget.wait_s())
            self._due.clear()
            if self._build is None:
                continue
            try:
                await self._round(self._build)
                self._patience.calm()
            except _DroppedError as fault:
                await self._degrade(f"it dropped {fault}", fault.fields)
            except InvalidInputError as fault:
                # Prepared claims must still be unprepared: the process lives on.
                await self._give_up(f"the devices of node {self._node} cannot be published: {fault}")
            except InvalidObjectError as fault:
                await self._refused(fault)
            except ClusterError as fault:
                await self._wait(fault)

    async def _round(self, build: Build) -> None:
        await self._look_for_upgrade()
        wanted = build(self._features)
        stored = await self._client.list_raw(SLICES, self._mine)
        # A wipe takes the slices, and with them since when a device is tainted.
        since = {**self._since, **times(one["spec"] for one in stored)}
        self._since = still(since, (one["spec"] for one in wanted))
        writes = await self._writes(wanted, stored)
        if writes:
            self.published.clear()
        for write in writes:
            self._budget.spend()
            await self._write(write)
        if self._build is not build:
            return
        self.published.set()
        devices = sum(len(one["spec"].get("devices") or ()) for one in wanted)
        self._told.published(len(wanted), devices, self._generation)

    async def _writes(self, wanted: Sequence[Json], stored: Sequence[Json]) -> tuple[Write, ...]:
        known = self._owner
        if known is None:
            known = await self._read_owner()
        writes = changes(wanted, stored, known, least_generation=self._generation, since=self._since)
        if any(isinstance(one, Create) for one in writes) and await self._read_owner() != known:
            # The node was registered anew; slices that name the old one are deleted by the garbage collector.
            assert self._owner is not None
            writes = changes(wanted, stored, self._owner, least_generation=self._generation, since=self._since)
        made = [one.manifest["spec"]["pool"]["generation"] for one in writes if not isinstance(one, Delete)]
        there = [one["spec"]["pool"].get("generation") or 0 for one in stored]
        self._generation = max([self._generation, *(made or there)])
        return writes

    async def _read_owner(self) -> Json:
        node = await self._client.get(NODES, "", self._node)
        self._owner = {
            "apiVersion": "v1",
            "kind": "Node",
            "name": node.metadata.name,
            "uid": node.metadata.uid,
            "controller": True,
        }
        return self._owner

    async def _write(self, write: Write) -> None:
        metadata = write.manifest["metadata"]
        verb = type(write).__name__.lower()
        try:
            if isinstance(write, Delete):
                uid, version = metadata["uid"], metadata["resourceVersion"]
                self._seen.deleted(uid)
                await self._client.delete(SLICES, "", metadata["name"], uid=uid, resource_version=version)
                stored = None
            elif isinstance(write, Create):
                stored = await self._client.create(SLICES, write.manifest)
            else:
                stored = await self._client.update(SLICES, write.manifest)
        except ClusterError as fault:
            self._told.wrote(verb, fault.status)
            raise
        self._told.wrote(verb, 200)
        log.info("slice written verb=%s name=%s generation=%d", verb, metadata["name"], self._generation)
        if stored is not None:
            self._seen.wrote(stored["metadata"]["resourceVersion"])
            self._since = {**self._since, **times([stored["spec"]])}
            if fields := dropped(write.manifest["spec"], stored["spec"]):
                raise _DroppedError(fields)

    def _touched(self) -> None:
        self._look_after(self._pacing.foreign_s, "someone else has written")

    def _look_after(self, delay_s: float, why: str) -> None:
        if why not in self._alarms:
            self._alarms[why] = asyncio.get_running_loop().call_later(delay_s, self._look, why)

    def _look(self, why: str) -> None:
        del self._alarms[why]
        self._due.set()

    async def _wait(self, fault: ClusterError) -> None:
        delay_s = self._patience.after_s(fault)
        log.warning("publishing waits node=%s delay_s=%.2f fault=%r", self._node, delay_s, str(fault))
        await asyncio.sleep(delay_s)
        self._due.set()

    async def _degrade(self, why: str, fields: frozenset[str]) -> None:
        """Do without what the API server does not store; where that is nothing we can do without, try again later."""
        lost = {FEATURE_OF[field] for field in fields if field in FEATURE_OF}
        less = self._features.without(*lost)
        if less == self._features:
            await self._give_up(f"the API server does not store the devices of node {self._node} as sent: {why}")
            return
        self._features = less
        self._server, self._upgrade_s = await self._version(), self._clock() + self._pacing.hopeless_s
        text = (
            f"the API server does not store {', '.join(less.missing)} ({why}): published are {_what_is_left(less)}; "
            "Kubernetes 1.36 and later store all, earlier ones with the feature gates DRAPartitionableDevices, "
            "DRAConsumableCapacity and DRADeviceTaints"
        )
        log.warning("publishing less node=%s: %s", self._node, text)
        self._told.degraded(less, text)
        self._due.set()

    async def _refused(self, fault: InvalidObjectError) -> None:
        """Try with less: an old server may refuse what a newer one stores."""
        least = self._features.without("counters", "shares", "taints")
        if least != self._features and DENIED not in str(fault):
            await self._degrade(f"it answered {fault}", frozenset(FEATURE_OF))
        else:
            await self._give_up(f"the API server refuses the devices of node {self._node}: {fault}")

    async def _give_up(self, text: str) -> None:
        """Wait until something else is wanted or happens to the slices, or for a long time."""
        log.error("publishing failed node=%s: %s", self._node, text)
        self._told.refused(text)
        try:
            async with asyncio.timeout(self._pacing.hopeless_s):
                await self._due.wait()
        except TimeoutError:
            self._due.set()

    async def _version(self) -> str:
        return await self._client.raw("/version")

    async def _look_for_upgrade(self) -> None:
        """Try everything again where the API server is another than the one that lacked something."""
        if self._features == EVERYTHING:
            return
        if self._clock() < self._upgrade_s:
            self._look_after(self._pacing.hopeless_s, "the API server may be newer")
            return
        self._upgrade_s = self._clock() + self._pacing.hopeless_s
        if await self._version() != self._server:
            self._features = EVERYTHING
            self._told.degraded(EVERYTHING, "")


def _what_is_left(features: Features) -> str:
    if not features.counters:
        return "whole GPUs and the MIG devices that exist"
    parts = ["whole GPUs", "MIG placements"] + (["shares"] if features.shares else [])
    return ", ".join(parts) + ("" if features.taints else "; devices that must not be used are left out")
