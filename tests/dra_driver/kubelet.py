"""The kubelet as far as a DRA driver meets it: the plugin watcher, the DRA manager and its checkpoint, wiping, health.

It does what pkg/kubelet/pluginmanager and pkg/kubelet/cm/dra of Kubernetes 1.36 do, in the same order, over the real
sockets, with shorter timers. Two in a row on one folder are a kubelet that restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from uuid import uuid4

import grpc
from grpc import aio

from dra_driver.pb import (
    dra_health_v1_pb2,
    dra_health_v1_pb2_grpc,
    dra_health_v1alpha1_pb2,
    dra_health_v1alpha1_pb2_grpc,
    dra_v1_pb2,
    dra_v1_pb2_grpc,
    dra_v1beta1_pb2,
    dra_v1beta1_pb2_grpc,
    pluginregistration_v1_pb2,
    pluginregistration_v1_pb2_grpc,
)
from dra_driver.plugin.ports import Claims
from kube.objects import ResourceClaim

PATIENCE_S = 15.0
"""How long a test waits for what must come; no rule depends on it."""


@dataclass(frozen=True, slots=True)
class Api:
    """What one version of the kubelet speaks."""

    dra: str
    messages: ModuleType
    stubs: ModuleType
    health: str
    health_messages: ModuleType
    health_stubs: ModuleType


V1 = Api("v1.DRAPlugin", dra_v1_pb2, dra_v1_pb2_grpc, "v1", dra_health_v1_pb2, dra_health_v1_pb2_grpc)
V1BETA1 = Api(
    "v1beta1.DRAPlugin",
    dra_v1beta1_pb2,
    dra_v1beta1_pb2_grpc,
    "v1alpha1",
    dra_health_v1alpha1_pb2,
    dra_health_v1alpha1_pb2_grpc,
)


@dataclass(slots=True, kw_only=True)
class Timers:
    """The kubelet's own in the comments."""

    look_s: float = 0.01  # fsnotify, reconciled every 1 s
    call_s: float = 10.0  # 45 s
    wipe_s: float = 0.3  # 30 s
    retry_s: float = 0.02  # 10-15 s
    health_retry_s: float = 0.05  # 5 s


class NotReadyError(Exception):
    """A pod cannot start, or cannot end, yet: what people see in its events."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod by the names of its claims, all in namespace "default"."""

    name: str
    claims: Sequence[str]
    uid: str = field(default_factory=lambda: str(uuid4()))


@dataclass(slots=True)
class ClaimInfo:
    """What the kubelet remembers of a claim; `prepared` it forgets when it restarts."""

    uid: str
    name: str
    drivers: list[str]
    pods: list[str] = field(default_factory=list)
    cdi: list[str] = field(default_factory=list)
    prepared: bool = False


class Connection:
    """A registered plugin."""

    def __init__(self, name: str, endpoint: str, service: str, api: Api) -> None:
        self.name, self.endpoint, self.service, self.api = name, endpoint, service, api
        self.channel = aio.insecure_channel(f"unix:{endpoint}", options=[("grpc.max_reconnect_backoff_ms", 100)])
        self.stub = api.stubs.DRAPluginStub(self.channel)
        self.connected = False
        self.tasks: list[asyncio.Task[None]] = []

    async def watch(self, changed: Callable[[], None]) -> None:
        """Keep the connection up, and tell when it comes and goes."""
        while True:
            state = self.channel.get_state(try_to_connect=True)
            self.connected = state is grpc.ChannelConnectivity.READY
            changed()
            await self.channel.wait_for_state_change(state)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.channel.close()


class FakeKubelet:
    """Use as an asynchronous context manager: from its start to its stop."""

    def __init__(
        self, root: Path, claims: Claims, wipe: Callable[[str], None], *, api: Api = V1, timers: Timers
    ) -> None:
        """`wipe` deletes the ResourceSlices of a driver on this node; of all drivers for the empty name."""
        self.root, self.claims, self.wipe, self.api, self.timers = root, claims, wipe, api, timers
        self.registry = root / "plugins_registry"
        self.checkpoint = root / "dra_manager_state"
        self.plugins: dict[str, list[Connection]] = {}
        self.refuse: str = ""
        """Register no plugin, for this reason."""
        self.infos: dict[str, ClaimInfo] = {}
        self.health: dict[tuple[str, str], Any] = {}
        """(pool, device) -> last health message."""
        self.health_lists: list[Any] = []
        self._seen: dict[Path, tuple[int, Connection | None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wipes: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        if self.checkpoint.exists():
            self.infos = {name: ClaimInfo(**info) for name, info in json.loads(self.checkpoint.read_text()).items()}
        self.wipe("")
        self._tasks = [asyncio.create_task(self._watch_registry())]
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks, *self._wipes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in [each for plugins in self.plugins.values() for each in plugins]:
            await connection.close()

    # Plugins come and go.

    async def _watch_registry(self) -> None:
        while True:
            found = {path: path.stat().st_ctime_ns for path in self.registry.glob("[!.]*") if path.is_socket()}
            for path in [path for path, (made, _) in self._seen.items() if found.get(path) != made]:
                await self._deregister(self._seen.pop(path)[1])
            for path, made in found.items():
                if path not in self._seen:
                    with contextlib.suppress(aio.AioRpcError):
                        self._seen[path] = made, await self._register(path)
            await asyncio.sleep(self.timers.look_s)

    async def _register(self, path: Path) -> Connection | None:
        messages = pluginregistration_v1_pb2
        async with aio.insecure_channel(f"unix:{path}") as channel:
            stub = pluginregistration_v1_pb2_grpc.RegistrationStub(channel)
            info = await stub.GetInfo(messages.InfoRequest(), timeout=1)
            assert info.type == "DRAPlugin"
            service = next((each for each in info.supported_versions if each == self.api.dra), "")
            known = [each.endpoint for each in self.plugins.get(info.name, ())]
            problem = self.refuse
            if not service:
                problem = f"none of {list(info.supported_versions)} is supported"
            elif info.endpoint in known:
                problem = f"endpoint {info.endpoint} already registered"
            if problem:
                await stub.NotifyRegistrationStatus(messages.RegistrationStatus(error=problem), timeout=5)
                return None
            connection = self._add(info.name, info.endpoint, service)
            await stub.NotifyRegistrationStatus(messages.RegistrationStatus(plugin_registered=True), timeout=5)
            return connection

    def _add(self, name: str, endpoint: str, service: str) -> Connection:
        connection = Connection(name, endpoint, service, self.api)
        connection.tasks = [
            asyncio.create_task(connection.watch(lambda: self._sync(name))),
            asyncio.create_task(self._watch_health(connection)),
        ]
        self.plugins.setdefault(name, []).append(connection)
        self._sync(name)
        return connection

    async def _deregister(self, connection: Connection | None) -> None:
        if connection is not None:
            self.plugins[connection.name].remove(connection)
            await connection.close()
            self._sync(connection.name)

    def _sync(self, name: str) -> None:
        """Wipe slices a while after the last instance of a driver is lost."""
        if any(each.connected for each in self.plugins[name]):
            if pending := self._wipes.pop(name, None):
                pending.cancel()
        elif name not in self._wipes:
            self._wipes[name] = asyncio.create_task(self._wipe_later(name))

    async def _wipe_later(self, name: str) -> None:
        await asyncio.sleep(self.timers.wipe_s)
        self.wipe(name)

    def plugin(self, name: str) -> Connection:
        """Return the newest instance that is connected, else the newest."""
        plugins = self.plugins.get(name) or ()
        for each in reversed(plugins):
            if each.connected:
                return each
        if not plugins:
            raise NotReadyError(f"DRA driver {name} is not registered")
        return plugins[-1]

    async def _watch_health(self, connection: Connection) -> None:
        stub = self.api.health_stubs.DRAResourceHealthStub(connection.channel)
        while True:
            with contextlib.suppress(aio.AioRpcError):
                async for message in stub.NodeWatchResources(self.api.health_messages.NodeWatchResourcesRequest()):
                    self.health_lists.append(message)
                    for device in message.devices:
                        self.health[device.device.pool_name, device.device.device_name] = device
            await asyncio.sleep(self.timers.health_retry_s)

    # Pods start and end.

    async def start(self, pod: Pod) -> list[str]:
        """Try once to start a pod. Returns the CDI ids its containers get. Raises NotReadyError."""
        batches: dict[str, list[ClaimInfo]] = {}
        fetched = [await self._checked(pod, name) for name in pod.claims]
        plugins = {driver: self.plugin(driver) for info in fetched for driver in info.drivers}
        for fresh in fetched:
            info = self.infos.setdefault(fresh.name, fresh)
            if info.uid != fresh.uid:
                raise NotReadyError(f"old ResourceClaim with same name {info.name} and different UID still exists")
            if pod.uid not in info.pods:
                info.pods.append(pod.uid)
            self._save()
            if not info.prepared:
                for driver in info.drivers:
                    batches.setdefault(driver, []).append(info)
        for driver, infos in batches.items():
            await self._prepare(plugins[driver], infos)
        for info in {each.uid: each for infos in batches.values() for each in infos}.values():
            info.prepared = True
        self._save()
        return [cdi for fresh in fetched for cdi in self.infos[fresh.name].cdi]

    async def _checked(self, pod: Pod, name: str) -> ClaimInfo:
        claim: ResourceClaim = await self.claims.get("default", name)
        if pod.uid not in [each.uid for each in claim.status.reserved_for]:
            raise NotReadyError(f"pod {pod.name} is not allowed to use ResourceClaim {name}")
        assert claim.status.allocation is not None
        drivers = sorted({result.driver for result in claim.status.allocation.devices.results})
        return ClaimInfo(claim.metadata.uid, name, drivers)

    async def _prepare(self, plugin: Connection, infos: Sequence[ClaimInfo]) -> None:
        messages = plugin.api.messages
        request = messages.NodePrepareResourcesRequest(claims=[_claim(messages, info) for info in infos])
        response = await self._call(plugin.stub.NodePrepareResources(request, timeout=self.timers.call_s))
        by_uid = {info.uid: info for info in infos}
        for uid, result in response.claims.items():
            if uid not in by_uid:
                raise NotReadyError(f"NodePrepareResources returned result for unknown claim UID {uid}")
            if result.error:
                raise NotReadyError(f"NodePrepareResources failed for ResourceClaim {by_uid[uid].name}: {result.error}")
            for device in result.devices:
                by_uid[uid].cdi += [each for each in device.cdi_device_ids if each not in by_uid[uid].cdi]
        if left_out := len(infos) - len(response.claims):
            raise NotReadyError(f"NodePrepareResources skipped {left_out} ResourceClaims")

    async def end(self, pod: Pod) -> None:
        """Try once to end a pod: unprepare what no other pod uses. The claims may be gone. Raises NotReadyError."""
        batches: dict[str, list[ClaimInfo]] = {}
        for info in [self.infos[name] for name in pod.claims if name in self.infos]:
            if pod.uid in info.pods and len(info.pods) > 1:
                info.pods.remove(pod.uid)
            elif pod.uid in info.pods:
                info.prepared = False
                for driver in info.drivers:
                    batches.setdefault(driver, []).append(info)
        self._save()
        for driver, infos in batches.items():
            await self._unprepare(self.plugin(driver), infos)
        for info in {each.uid: each for infos in batches.values() for each in infos}.values():
            del self.infos[info.name]
        self._save()

    async def _unprepare(self, plugin: Connection, infos: Sequence[ClaimInfo]) -> None:
        messages = plugin.api.messages
        request = messages.NodeUnprepareResourcesRequest(claims=[_claim(messages, info) for info in infos])
        response = await self._call(plugin.stub.NodeUnprepareResources(request, timeout=self.timers.call_s))
        for uid, result in response.claims.items():
            if result.error:
                raise NotReadyError(f"NodeUnprepareResources failed for {uid}: {result.error}")
        if left_out := len(infos) - len(response.claims):
            raise NotReadyError(f"NodeUnprepareResources skipped {left_out} ResourceClaims")

    async def _call(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except aio.AioRpcError as fault:
            raise NotReadyError(f"{fault.code().name}: {fault.details()}") from fault
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotReadyError("CANCELLED: the plugin was deregistered meanwhile") from None

    async def until_started(self, pod: Pod) -> list[str]:
        """Retry as the kubelet does until the pod starts."""
        return await self._retried(lambda: self.start(pod))

    async def until_ended(self, pod: Pod) -> None:
        """Retry as the kubelet does until the pod has ended."""
        await self._retried(lambda: self.end(pod))

    async def _retried(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(NotReadyError):
                    return await attempt()
                await asyncio.sleep(self.timers.retry_s)

    def _save(self) -> None:
        kept = {name: {**asdict(info), "prepared": False} for name, info in self.infos.items()}
        self.checkpoint.write_text(json.dumps(kept))


def _claim(messages: Any, info: ClaimInfo) -> Any:
    return messages.Claim(namespace="default", name=info.name, uid=info.uid)


async def until(true: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


@contextlib.asynccontextmanager
async def background(work: Awaitable[Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """Have something run beside the block; it is cancelled at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield task  # type: ignore[misc]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
