"""Loads for schedulers, and schedulers compared in one run.

    burst     all pods wait behind a scheduling gate, with their claims made, and are released together: what is
              measured is the scheduler and the API server, not the creation of pods.
              Devices that ended in two claims are counted
    churn     a number of pods is alive at any time: each that is bound goes, and the next one comes (a closed loop:
              a slower scheduler gets less to do, so compare rates, not waits)
    compared  the same burst for several schedulers in turn, A B A B, on the same cluster with all of them alive, and
              nothing of one load left when the next begins

Every load removes what it made, also when it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sandbox.load.bound import BoundWatch, corrected
from sandbox.load.client import LoadClient, LoadError, for_each
from sandbox.load.result import LoadResult
from sandbox.load.workload import Workload
from sandbox.objects import Manifest

LOOK_EVERY_S = 0.1
LOOK_S_PER_POD = 0.002
"""Added per pod of the load: lists of thousands of pods ten times a second would be most of the load."""
OPEN_GATE = {"spec": {"schedulingGates": None}}


def burst(kubeconfig: Path, workload: Workload, *, timeout_s: float = 300.0) -> LoadResult:
    """Release all pods of a workload at once and wait until the last is bound.

    Raises LoadError when a request is refused or a step takes longer than `timeout_s`.
    """
    return asyncio.run(_burst(kubeconfig, workload, timeout_s))


def churn(kubeconfig: Path, workload: Workload, *, alive: int, timeout_s: float = 300.0) -> LoadResult:
    """Send the pods of a workload through the cluster, `alive` at a time; no pod may wait longer than `timeout_s`.

    Raises LoadError when a request is refused or a pod waits longer.
    """
    return asyncio.run(_churn(kubeconfig, workload, alive, timeout_s))


def compared(
    kubeconfig: Path, workload: Workload, schedulers: Sequence[str], *, rounds: int = 3, timeout_s: float = 300.0
) -> list[LoadResult]:
    """Give each scheduler the same burst in turn, `rounds` times; a small burst for each comes first, unmeasured."""
    warm_up = [replace(workload, scheduler=name, pods=min(workload.pods, 10)) for name in schedulers]
    turns = [replace(workload, scheduler=name) for _ in range(rounds) for name in schedulers]
    results = [burst(kubeconfig, each, timeout_s=timeout_s) for each in [*warm_up, *turns]]
    return results[len(warm_up) :]


async def _burst(kubeconfig: Path, load: Workload, timeout_s: float) -> LoadResult:
    free_s: dict[str, float] = {}

    async with LoadClient(kubeconfig) as client, _cleared(client, load, timeout_s):

        async def create(number: int) -> None:
            await _create(client, load, number, gated=True)

        async def release(number: int) -> None:
            name = load.pod_name(number)
            free_s[name] = time.time()
            await client.patch("Pod", load.namespace, name, OPEN_GATE)

        await _create_template(client, load)
        await for_each(create, load.numbers())
        await _wait_for_claims(client, load, timeout_s)
        async with BoundWatch(client, load) as watch:
            await for_each(release, load.numbers())
            await watch.all(timeout_s)
        pods = (await client.list("Pod", load.namespace, load.selector, whole=True))["items"]
        claims = (await client.list("ResourceClaim", load.namespace, whole=True))["items"]
        bound_s, late_s = corrected(watch.bound_s, pods)
        timed = _result(load, free_s, bound_s, watch.breaks)
        return replace(timed, lateness_s=late_s, doubled=tuple(allocated_twice(claims)))


async def _churn(kubeconfig: Path, load: Workload, alive: int, timeout_s: float) -> LoadResult:
    free_s: dict[str, float] = {}
    numbers = load.numbers()  # shared: each worker takes the next

    async with LoadClient(kubeconfig) as client, _cleared(client, load, timeout_s):

        async def worker(_: int) -> None:
            for number in numbers:
                name = load.pod_name(number)
                free_s[name] = time.time()
                await _create(client, load, number, gated=False)
                await watch.one(name, timeout_s)
                await client.delete("Pod", load.namespace, name)
                if load.claims == "named":
                    await client.delete("ResourceClaim", load.namespace, name)

        await _create_template(client, load)
        async with BoundWatch(client, load) as watch:
            await for_each(worker, range(alive), at_once=alive)
        return _result(load, free_s, watch.bound_s, watch.breaks)


def _result(load: Workload, free_s: dict[str, float], bound_s: dict[str, float], breaks: int) -> LoadResult:
    names = [load.pod_name(number) for number in load.numbers()]
    return LoadResult(
        scheduler=load.scheduler,
        free_s=tuple(free_s[name] for name in names),
        bound_s=tuple(bound_s[name] for name in names),
        lateness_s=None,
        breaks=breaks,
    )


def allocated_twice(claims: Iterable[Manifest]) -> list[str]:
    """Return the devices that more than one claim holds, of those that nobody may share."""
    holders = Counter(
        f"{each['driver']}/{each['pool']}/{each['device']}"
        for claim in claims
        for each in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
        if not each.get("shareID") and not each.get("adminAccess")
    )
    return sorted(device for device, count in holders.items() if count > 1)


async def _create_template(client: LoadClient, load: Workload) -> None:
    if template := load.template():
        await client.create(template)


async def _create(client: LoadClient, load: Workload, number: int, *, gated: bool) -> None:
    if claim := load.claim(number):
        await client.create(claim)
    await client.create(load.pod(number, gated=gated))


async def _wait_for_claims(client: LoadClient, load: Workload, timeout_s: float) -> None:
    """Wait until the controller has made the claims of all pods and told them, so that it is idle when they start."""
    if load.claims != "template":
        return
    deadline = time.monotonic() + timeout_s
    while True:
        pods = (await client.list("Pod", load.namespace, load.selector, whole=True))["items"]
        told = sum(bool(pod["status"].get("resourceClaimStatuses")) for pod in pods)
        if told == load.pods:
            return
        if time.monotonic() > deadline:
            raise LoadError(f"{told} of {load.pods} pods have a claim after {timeout_s:g} s")
        await asyncio.sleep(LOOK_EVERY_S + LOOK_S_PER_POD * load.pods)


@contextlib.asynccontextmanager
async def _cleared(client: LoadClient, load: Workload, timeout_s: float) -> AsyncIterator[None]:
    """Remove all objects of a load when the block ends, and wait until its pods and claims are gone."""
    try:
        yield
    finally:
        for kind in ("Pod", "ResourceClaim", "ResourceClaimTemplate"):
            await client.delete_all(kind, load.namespace, load.selector)
        await _wait_gone(client, load, ("Pod", "ResourceClaim"), timeout_s)


async def _wait_gone(client: LoadClient, load: Workload, kinds: Iterable[str], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for kind in kinds:
        while left := await _count(client, load, kind):
            if time.monotonic() > deadline:
                raise LoadError(f"{left} objects of kind {kind} are left after {timeout_s:g} s")
            await asyncio.sleep(LOOK_EVERY_S + LOOK_S_PER_POD * load.pods)


async def _count(client: LoadClient, load: Workload, kind: str) -> int:
    """Count the objects of a load. A claim made from its template has the pod's name in its own."""
    stored = await client.list(kind, load.namespace)
    return sum(item["metadata"]["name"].startswith(f"{load.name}-") for item in stored["items"])
