"""A model of the API server for the scheduler's writes: resourceVersions, late and lost writes, watches that lag.

Every write waits until a test delivers it, or lets its answer be lost, or lets it time out and land later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kube.errors import ConflictError, NotFoundError, UnavailableError
from kube.objects import (
    AllocationResult,
    Metadata,
    OwnerReference,
    Pod,
    PodMetadata,
    PodSpec,
    ResourceClaim,
    ResourceClaimConsumerReference,
    ResourceClaimStatus,
)
from scheduler.view import FINALIZER

Edit = Callable[[], Any]


@dataclass(eq=False)
class Request:
    """A call on its way. `answer` is None once its sender has given up."""

    what: str
    run: Edit
    answer: asyncio.Future[Any] | None
    sender: object
    claim: ResourceClaim | None = None
    devices: tuple[str, ...] = ()


@dataclass
class ModelApi:
    version: int = 100
    claims: dict[str, ResourceClaim] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    log: dict[str, list[tuple[str, Any]]] = field(default_factory=lambda: {"claims": [], "pods": []})
    inflight: list[Request] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    faults: list[BaseException | None] = field(default_factory=list)
    """What ended a piece of work of the scheduler that should have ended otherwise."""
    events: list[str] = field(default_factory=list)
    _uids: int = 0

    # What users and controllers do

    def new_claim(self, name: str, owner: Pod | None = None) -> None:
        owners = (OwnerReference(uid=owner.metadata.uid, kind="Pod", controller=True),) if owner else ()
        meta = Metadata(name=name, namespace="ns", uid=f"claim-{self._uid()}", owner_references=owners)
        self._store(ResourceClaim(metadata=meta))

    def new_pod(self, name: str, spec: Mapping[str, Any]) -> Pod:
        meta = PodMetadata(name=name, namespace="ns", uid=f"pod-{self._uid()}")
        pod = Pod(metadata=meta, spec=msgspec.convert({"containers": [], **spec}, PodSpec))
        return self._store_pod(pod)

    def remove_pod(self, name: str) -> None:
        self.log["pods"].append(("gone", self.pods.pop(name)))

    def remove_claim(self, name: str) -> None:
        self.version += 1
        self.log["claims"].append(("gone", self.claims.pop(name)))

    def collect(self) -> None:
        """Do what the claim controller does: free the claims of pods that are gone, delete those they owned."""
        alive = {pod.metadata.uid for pod in self.pods.values()}
        for claim in list(self.claims.values()):
            owner = claim.metadata.controller
            if owner is not None and owner.uid not in alive:
                self.remove_claim(claim.metadata.name)
                continue
            users = tuple(each for each in claim.status.reserved_for if each.uid in alive)
            if users != claim.status.reserved_for:
                kept = claim.status.allocation if users else None
                finalizers = claim.metadata.finalizers if users else ()
                status = ResourceClaimStatus(allocation=kept, reserved_for=users)
                self._store(_with(claim, status=status, finalizers=finalizers))

    # Writes

    def allocate(self, claim: ResourceClaim, allocation: Mapping[str, Any], pod: Pod) -> ResourceClaim:
        current = self._current(claim, versioned=True)
        if current.status.allocation is not None:
            raise ConflictError("the allocation is immutable", status=409)
        user = _user(pod)
        status = ResourceClaimStatus(allocation=msgspec.convert(allocation, AllocationResult), reserved_for=(user,))
        taken = {device for each in self.claims.values() for device in devices_of(each)}
        self.double += sorted(taken & set(_devices(status.allocation)))
        return self._store(_with(current, status=status))

    def join(self, claim: ResourceClaim, pod: Pod) -> ResourceClaim:
        current = self._current(claim, versioned=True)
        users = (*current.status.reserved_for, _user(pod))
        status = ResourceClaimStatus(allocation=current.status.allocation, reserved_for=users)
        return self._store(_with(current, status=status))

    def release(self, claim: ResourceClaim, pods: Sequence[str]) -> ResourceClaim:
        current = self._current(claim, versioned=True)
        users = tuple(each for each in current.status.reserved_for if each.uid not in pods)
        kept = current.status.allocation if users else None
        return self._store(_with(current, status=ResourceClaimStatus(allocation=kept, reserved_for=users)))

    def touch(self, claim: ResourceClaim) -> ResourceClaim:
        return self._store(self._current(claim))

    def finalize(self, claim: ResourceClaim) -> ResourceClaim:
        return self._store(_with(self._current(claim, versioned=True), finalizers=(FINALIZER,)))

    def unfinalize(self, claim: ResourceClaim) -> ResourceClaim:
        return self._store(_with(self._current(claim, versioned=True), finalizers=()))

    def read_claim(self, name: str) -> ResourceClaim:
        if name not in self.claims:
            raise NotFoundError(name, status=404)
        return self.claims[name]

    def read_pod(self, name: str) -> Pod:
        if name not in self.pods:
            raise NotFoundError(name, status=404)
        return self.pods[name]

    def bind(self, pod: Pod, node: str) -> None:
        current = self.read_pod(pod.metadata.name)
        if current.metadata.uid != pod.metadata.uid or current.spec.node_name:
            raise ConflictError("already assigned, or another pod", status=409)
        self._store_pod(msgspec.structs.replace(current, spec=msgspec.structs.replace(current.spec, node_name=node)))

    def delete_pod(self, pod: Pod) -> None:
        if self.read_pod(pod.metadata.name).metadata.uid == pod.metadata.uid:
            self.remove_pod(pod.metadata.name)

    # Inside

    def _current(self, claim: ResourceClaim, *, versioned: bool = False) -> ResourceClaim:
        current = self.read_claim(claim.metadata.name)
        if current.metadata.uid != claim.metadata.uid:
            raise ConflictError("another claim", status=409)
        if versioned and current.metadata.resource_version != claim.metadata.resource_version:
            raise ConflictError("it has moved on", status=409)
        return current

    def _store(self, claim: ResourceClaim) -> ResourceClaim:
        self.version += 1
        meta = msgspec.structs.replace(claim.metadata, resource_version=str(self.version))
        claim = msgspec.structs.replace(claim, metadata=meta)
        self.claims[claim.metadata.name] = claim
        self.log["claims"].append(("put", claim))
        return claim

    def _store_pod(self, pod: Pod) -> Pod:
        self.version += 1
        meta = msgspec.structs.replace(pod.metadata, resource_version=str(self.version))
        pod = msgspec.structs.replace(pod, metadata=meta)
        self.pods[pod.metadata.name] = pod
        self.log["pods"].append(("put", pod))
        return pod

    def _uid(self) -> int:
        self._uids += 1
        return self._uids


@dataclass
class ModelWrites:
    """The calls of one sender. They wait in `api.inflight`, or run at once where `direct`."""

    api: ModelApi
    sender: object
    direct: bool = False
    dead: bool = False
    calls: list[str] = field(default_factory=list)

    async def _call(self, what: str, run: Edit, claim: ResourceClaim | None = None, devices: Any = ()) -> Any:
        if self.dead:
            raise asyncio.CancelledError
        self.calls.append(what)
        if self.direct:
            await asyncio.sleep(0)
            return run()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.api.inflight.append(Request(what, run, answer, self.sender, claim, tuple(devices)))
        return await answer

    async def read_claim(self, namespace: str, name: str, *, timeout_s: float) -> ResourceClaim:
        return await self._call("read claim", lambda: self.api.read_claim(name))

    async def list_claims(self, *, timeout_s: float) -> Sequence[ResourceClaim]:
        return await self._call("list", lambda: list(self.api.claims.values()))

    async def read_pod(self, namespace: str, name: str, *, timeout_s: float) -> Pod:
        return await self._call("read pod", lambda: self.api.read_pod(name))

    async def finalize(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        return await self._call("finalize", lambda: self.api.finalize(claim), claim)

    async def allocate(
        self, claim: ResourceClaim, allocation: Mapping[str, Any], pod: Pod, *, timeout_s: float
    ) -> ResourceClaim:
        devices = _devices(msgspec.convert(allocation, AllocationResult))
        return await self._call("allocate", lambda: self.api.allocate(claim, allocation, pod), claim, devices)

    async def join(self, claim: ResourceClaim, pod: Pod, *, timeout_s: float) -> ResourceClaim:
        return await self._call("join", lambda: self.api.join(claim, pod), claim)

    async def release(self, claim: ResourceClaim, pods: Sequence[str], *, timeout_s: float) -> ResourceClaim:
        return await self._call("release", lambda: self.api.release(claim, pods), claim)

    async def touch(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        return await self._call("touch", lambda: self.api.touch(claim), claim)

    async def unfinalize(self, claim: ResourceClaim, *, timeout_s: float) -> ResourceClaim:
        return await self._call("unfinalize", lambda: self.api.unfinalize(claim), claim)

    async def bind(self, pod: Pod, node: str, *, timeout_s: float) -> None:
        await self._call("bind", lambda: self.api.bind(pod, node))

    async def delete_pod(self, pod: Pod, *, timeout_s: float) -> None:
        await self._call("delete pod", lambda: self.api.delete_pod(pod))

    async def event(self, pod: Pod, reason: str, text: str, *, timeout_s: float) -> None:
        self.api.events.append(f"{pod.metadata.name}: {reason}: {text}")


def execute(request: Request) -> None:
    """Let a call be done while its answer is still on its way."""
    try:
        result = request.run()
    except (ConflictError, NotFoundError) as error:
        fault = error

        def answer() -> Any:
            raise fault
    else:

        def answer() -> Any:
            return result

    request.what, request.run = "answer", answer


def deliver(api: ModelApi, request: Request, *, answer: bool = True) -> None:
    """Let a call reach the API server; without `answer`, nobody hears of it."""
    api.inflight.remove(request)
    fault: Exception | None = None
    result = None
    try:
        result = request.run()
    except (ConflictError, NotFoundError) as error:
        fault = error
    if request.answer is None or request.answer.done():
        return
    if not answer:
        request.answer.set_exception(UnavailableError("the connection broke"))
    elif fault is not None:
        request.answer.set_exception(fault)
    else:
        request.answer.set_result(result)


def time_out(request: Request) -> None:
    """Let the sender give up while the call is still on its way."""
    if request.answer is not None and not request.answer.done():
        request.answer.set_exception(UnavailableError("timed out"))
    request.answer = None


def devices_of(claim: ResourceClaim) -> tuple[str, ...]:
    return _devices(claim.status.allocation)


def _devices(allocation: AllocationResult | None) -> tuple[str, ...]:
    return tuple(each.device for each in allocation.devices.results) if allocation is not None else ()


def _user(pod: Pod) -> ResourceClaimConsumerReference:
    return ResourceClaimConsumerReference(uid=pod.metadata.uid, name=pod.metadata.name, resource="pods")


def _with(claim: ResourceClaim, *, status: Any = None, finalizers: Any = None) -> ResourceClaim:
    meta = claim.metadata
    if finalizers is not None:
        meta = msgspec.structs.replace(meta, finalizers=tuple(finalizers))
    return msgspec.structs.replace(claim, metadata=meta, status=claim.status if status is None else status)
