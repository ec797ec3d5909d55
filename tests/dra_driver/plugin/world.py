"""A node in a folder: claims of an API server, a preparer that keeps what it did in files, the plugin before them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import pytest

from dra_driver.errors import CancelledError, DeviceError, HeldError
from dra_driver.plugin.caller import RpcCaller
from dra_driver.plugin.calls import ClaimCalls
from dra_driver.plugin.claims import OurNode
from dra_driver.plugin.plugin import Plugin, PluginSettings
from dra_driver.plugin.ports import Caller, DeviceHealth, Preparer
from dra_driver.plugin.sockets import SocketPaths
from dra_driver.prepare.model import ClaimRef, PreparedDevice
from dra_driver.publish.names import pool_name
from dra_driver.roots import DRIVER_NAME, Roots
from kube.errors import NotFoundError, UnavailableError
from kube.objects import (
    AllocationResult,
    DeviceAllocationResult,
    DeviceRequestAllocationResult,
    Metadata,
    ResourceClaim,
    ResourceClaimConsumerReference,
    ResourceClaimStatus,
)
from tests.dra_driver.kubelet import PATIENCE_S, V1, V1BETA1, Api, FakeKubelet, Pod, Timers

T = TypeVar("T")

NODE = "node-1"
POOL = pool_name(DRIVER_NAME, NODE)
FOREVER = RpcCaller(None)
"""Who waits as long as it takes."""
OURS = OurNode(driver=DRIVER_NAME, pool=POOL, node=NODE)


def encoded(claims: Sequence[ResourceClaim]) -> bytes:
    return msgspec.json.encode(claims, enc_hook=dict)  # read-only maps are none to msgspec


@dataclass
class FakeApi:
    """Claims in a file, so that other processes see them; ResourceSlices by driver, as the kubelet wipes them."""

    file: Path
    down: bool = False
    delay: asyncio.Event | None = None
    """Answers wait for it."""
    gets: int = 0
    slices: set[str] = field(default_factory=set)
    wiped: list[str] = field(default_factory=list)

    async def get(self, namespace: str, name: str) -> ResourceClaim:
        self.gets += 1
        if self.delay is not None:
            await self.delay.wait()
        if self.down:
            raise UnavailableError("GET resourceclaims: connection refused")
        for claim in self._claims():
            if (claim.metadata.namespace, claim.metadata.name) == (namespace, name):
                return claim
        raise NotFoundError(f'resourceclaims "{name}" not found', status=404)

    def wipe(self, driver: str) -> None:
        self.wiped.append(driver)
        self.slices -= {driver} if driver else self.slices

    def put(self, claim: ResourceClaim) -> ResourceClaim:
        kept = [each for each in self._claims() if each.metadata.full_name != claim.metadata.full_name]
        self.file.write_bytes(encoded([*kept, claim]))
        return claim

    def delete(self, name: str) -> None:
        self.file.write_bytes(encoded([each for each in self._claims() if each.metadata.name != name]))

    def _claims(self) -> list[ResourceClaim]:
        return msgspec.json.decode(self.file.read_bytes(), type=list[ResourceClaim]) if self.file.exists() else []


@dataclass
class FileNode:
    """A preparer whose effects are files: a journal and a CDI file for each claim."""

    root: Path
    driver: str = DRIVER_NAME
    calls: list[tuple[str, str]] = field(default_factory=list)
    faults: deque[Exception] = field(default_factory=deque)
    """Raised one by one, before anything is done."""
    locked: threading.Event = field(default_factory=threading.Event)
    """Cleared: a call waits, as for a lock, before it asks whether its caller is there."""
    quick: threading.Event = field(default_factory=threading.Event)
    """Cleared: a call hangs in the middle of its work."""
    journal_lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.locked.set()
        self.quick.set()
        for folder in ("journal", "cdi"):
            (self.root / folder).mkdir(exist_ok=True, parents=True)

    def prepare(self, claim: ResourceClaim, caller: Caller) -> Sequence[PreparedDevice]:
        uid = claim.metadata.uid
        self._begin("prepare", uid, caller)
        assert claim.status.allocation is not None
        results = [each for each in claim.status.allocation.devices.results if each.driver == self.driver]
        names = [result.device for result in results]
        with self.journal_lock:
            self._take(uid, names)
        return [
            PreparedDevice(
                requests=(each.request.split("/")[0],),
                pool=each.pool,
                device=each.device,
                cdi_ids=(f"k8s.{self.driver}/claim={uid}-{each.device}",),
                share_id=each.share_id,
            )
            for each in results
        ]

    def unprepare(self, claim: ClaimRef, caller: Caller) -> None:
        self._begin("unprepare", claim.uid, caller)
        with self.journal_lock:
            for folder in ("cdi", "journal"):
                (self.root / folder / f"{claim.uid}.json").unlink(missing_ok=True)

    def _take(self, uid: str, names: Sequence[str]) -> None:
        held = {device: path.stem for path in self._journal() for device in json.loads(path.read_text())}
        for device in names:
            if held.get(device, uid) != uid:
                raise HeldError(f"device {device} is held by claim {held[device]} until it is unprepared")
        for folder in ("journal", "cdi"):
            (self.root / folder / f"{uid}.json").write_text(json.dumps(names))

    def prepared(self) -> set[str]:
        return {path.stem for path in self._journal()}

    def cdi(self) -> set[str]:
        return {path.stem for path in (self.root / "cdi").iterdir()}

    def release(self) -> None:
        self.locked.set()
        self.quick.set()

    def _journal(self) -> list[Path]:
        return list((self.root / "journal").iterdir())

    def _begin(self, verb: str, uid: str, caller: Caller) -> None:
        self.calls.append((verb, uid))
        assert self.locked.wait(PATIENCE_S)
        if caller.is_gone():
            raise CancelledError("given up")
        if self.faults:
            raise self.faults.popleft()
        assert self.quick.wait(PATIENCE_S)


@dataclass
class FakeHealth:
    """A health source."""

    now: list[DeviceHealth] = field(default_factory=list)
    told: list[Callable[[], None]] = field(default_factory=list)

    def devices(self) -> Sequence[DeviceHealth]:
        return self.now

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        self.told.append(changed)
        return lambda: self.told.remove(changed)

    def set(self, *devices: DeviceHealth) -> None:
        self.now = list(devices)
        for tell in self.told:
            tell()


@dataclass
class Reports:
    """What people are told."""

    refusals: list[tuple[ClaimRef, DeviceError]] = field(default_factory=list)
    calls: list[tuple[str, int, int]] = field(default_factory=list)

    def refused(self, claim: ClaimRef, fault: DeviceError) -> None:
        self.refusals.append((claim, fault))

    def answered(self, method: str, seconds: float, *, claims: int, refused: int) -> None:
        assert seconds >= 0
        self.calls.append((method, claims, refused))


class World:
    """A node, its API server, and who lives on it."""

    def __init__(self, root: Path, api_of_kubelet: Api = V1, driver: str = DRIVER_NAME) -> None:
        self.root, self.version, self.driver = root, api_of_kubelet, driver
        for folder in ("plugins", "plugins_registry"):
            (root / folder).mkdir(mode=0o750, exist_ok=True)
        self.roots = Roots(kubelet=root, state=root / "plugins" / driver)
        self.api = FakeApi(root / "claims.json")
        self.node = FileNode(root / driver if driver != DRIVER_NAME else root, driver)
        self.preparer: Preparer = self.node
        self.health = FakeHealth()
        self.reports = Reports()

    def neighbour(self, driver: str) -> World:
        """Return another driver on the same node."""
        other = World(self.root, self.version, driver)
        other.api = self.api
        return other

    def paths(self, pod_uid: str = "") -> SocketPaths:
        return SocketPaths.of(self.roots, self.driver, pod_uid)

    def kubelet(self, timers: Timers | None = None) -> FakeKubelet:
        return FakeKubelet(self.root, self.api, self.api.wipe, api=self.version, timers=timers or Timers())

    def calls(self) -> ClaimCalls:
        ours = OurNode(driver=self.driver, pool=pool_name(self.driver, NODE), node=NODE)
        return ClaimCalls(ours=ours, preparer=self.preparer, claims=self.api, reporter=self.reports)

    def plugin(self, pod_uid: str = "", *, quiet_s: float = 0.0, **changes: Any) -> Plugin:
        settings = PluginSettings(driver=self.driver, paths=self.paths(pod_uid), quiet_s=quiet_s, **changes)
        return Plugin(settings, self.calls(), self.health)

    @contextlib.asynccontextmanager
    async def both(self, timers: Timers | None = None) -> AsyncIterator[tuple[FakeKubelet, Plugin]]:
        """A kubelet and the plugin, registered."""
        async with self.kubelet(timers) as kubelet, self.plugin() as plugin:
            await plugin.registered.wait()
            yield kubelet, plugin

    def claim(self, name: str, *pods: Pod, device: str = "gpu-0", uid: str = "", **changes: Any) -> ResourceClaim:
        """Put an allocated claim, reserved for the pods, into the API server. `changes` are of its result."""
        return self.claim_of(name, [self.result(**({"device": device} | changes))], *pods, uid=uid)

    def result(self, **changes: Any) -> DeviceRequestAllocationResult:
        """Return a device of ours given to request "gpu"."""
        ours: dict[str, Any] = {"request": "gpu", "driver": self.driver, "pool": pool_name(self.driver, NODE)}
        return DeviceRequestAllocationResult(**(ours | {"device": "gpu-0"} | changes))

    def claim_of(
        self, name: str, results: Sequence[DeviceRequestAllocationResult], *pods: Pod, uid: str = ""
    ) -> ResourceClaim:
        return self.api.put(
            ResourceClaim(
                metadata=Metadata(namespace="default", name=name, uid=uid or str(uuid4())),
                status=ResourceClaimStatus(
                    allocation=AllocationResult(devices=DeviceAllocationResult(results=tuple(results))),
                    reserved_for=tuple(
                        ResourceClaimConsumerReference(uid=pod.uid, name=pod.name, resource="pods") for pod in pods
                    ),
                ),
            )
        )

    def pod(self, name: str, *claims: str, device: str = "gpu-0") -> Pod:
        """Return a pod with allocated claims of its own, the first on `device`, the next on devices of their own."""
        pod = Pod(name, claims or (name,))
        for position, claim in enumerate(pod.claims):
            self.claim(claim, pod, device=device if position == 0 else f"{device}-{position}")
        return pod

    def uid(self, name: str) -> str:
        return next(claim.metadata.uid for claim in self.api._claims() if claim.metadata.name == name)

    @contextlib.contextmanager
    def released_at_end(self) -> Iterator[None]:
        """Let go at the end what a failed story still holds up, so that its threads can end."""
        try:
            yield
        finally:
            self.node.release()

    def calls_of(self, verb: str) -> list[str]:
        return [uid for each, uid in self.node.calls if each == verb]


@contextlib.contextmanager
def new_world(api_of_kubelet: Api = V1) -> Iterator[World]:
    """A world in a folder with a short path: those of sockets have little room."""
    root = Path(tempfile.mkdtemp(prefix="dt-"))
    try:
        yield World(root, api_of_kubelet)
    finally:
        shutil.rmtree(root)


def played(story: Callable[[World, ClaimCalls], Awaitable[T]]) -> T:
    """Play a story about the plugin's calls, without gRPC and kubelet."""

    async def play(world: World) -> T:
        with world.released_at_end():
            return await story(world, world.calls())

    with new_world() as world:
        return asyncio.run(asyncio.wait_for(play(world), 4 * PATIENCE_S))


def ref(world: World, claim: str, **changes: str) -> ClaimRef:
    """Name a claim as the kubelet does."""
    return ClaimRef(**({"namespace": "default", "name": claim, "uid": world.uid(claim)} | changes))


Scenario = Callable[[World], Awaitable[None]]


def scenario(story: Scenario) -> Callable[[Api], None]:
    """Make a test of a story: it is played with a kubelet of each version."""

    @pytest.mark.parametrize("version", [V1, V1BETA1], ids=["v1", "v1beta1"])
    @functools.wraps(story, assigned=("__module__", "__name__", "__qualname__", "__doc__"), updated=())
    def test(version: Api) -> None:
        async def play(world: World) -> None:
            with world.released_at_end():
                await story(world)

        with new_world(version) as world:
            asyncio.run(asyncio.wait_for(play(world), 4 * PATIENCE_S))

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would ask for the story's arguments
    return test


async def serve(root: Path, pod_uid: str) -> None:
    """Serve a plugin until the process is killed: `python -m tests.dra_driver.plugin.world ROOT [POD_UID]`."""
    roots = Roots(kubelet=root, state=root / "plugins" / DRIVER_NAME)
    calls = ClaimCalls(ours=OURS, preparer=FileNode(root), claims=FakeApi(root / "claims.json"), reporter=Reports())
    settings = PluginSettings(driver=DRIVER_NAME, paths=SocketPaths.of(roots, DRIVER_NAME, pod_uid))
    async with Plugin(settings, calls, FakeHealth()) as plugin:
        await plugin.failed()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), "".join(sys.argv[2:])))
