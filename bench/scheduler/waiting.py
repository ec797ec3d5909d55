"""Wake-ups under load: how long new pods that fit take while many others wait for devices that nobody has.

Every node lends one GPU to a pod that stays, so pods that ask for all GPUs of a node wait. Small pods come around them
at a fixed rate, whether or not earlier ones are bound (an open loop), live for a while and go. kube-scheduler tries
pods that an extender refused again at any event: each small pod makes several. The same stream, shorter and with nobody
waiting, comes first, for comparison.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.scheduler import meters
from bench.scheduler.rig import OUR_EXTENDER, OURS, Rig, running, whole_gpus
from dovetail import sandbox_cmd_gpus as gpus
from sandbox.load.bound import BoundWatch
from sandbox.load.client import LoadClient, LoadError, for_each
from sandbox.load.result import LoadResult, percentile
from sandbox.load.workload import Workload
from sandbox.objects import Manifest

DRIVER = "gpu.dovetail.dev"
MACHINE, GPUS = "hgx-h100-8", 8
NAMESPACE = "default"
LIVES_S = 2.0
"""From its binding to the deletion of a small pod."""
TIMEOUT_S = 300.0
BEFORE_S = 20.0
PARTS = 6
"""Of a stream, each with a median of its own: pods that just began to wait are tried again sooner than old ones."""
LOOK_EVERY_S = 1.0
ASKED_AGAIN = 500
PROGRAMS = (OUR_EXTENDER, "our kube-scheduler", "kube-apiserver", "etcd", "kube-controller-manager")
VERB_S, DECISIONS = "dovetail_extender_duration_seconds", "dovetail_decisions_total"


@dataclass(frozen=True, slots=True)
class Asked:
    """Calls of `filter` over an interval, from the extender's metrics."""

    calls: float
    mean_ms: float
    outcomes: Mapping[str, float]
    """placed, rejected, passed, error -> calls."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of small pods."""

    waiting: int
    result: LoadResult
    took_s: float
    filter: Asked
    cpu_cores: Mapping[str, float]
    """Program -> processor time over time."""
    load: float
    """Of the machine over the last minute, at the end."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run found."""

    streams: list[Stream]
    quiet: Asked
    """Rejections while nothing changes: all but the first are answered from memory."""
    quiet_cpu_ms: float
    """Processor time of the extender for each of them, reading and writing HTTP included."""
    quiet_wall_ms: list[float] = field(repr=False)
    """Of each of them, over HTTP."""
    woken_s: list[float]
    """From a claim freed to a waiting pod bound."""
    slice_s: float
    """From a slice created to a waiting pod bound."""


def measured(nodes: int, waiting: int, per_s: float, seconds: float) -> Figures:
    """Run all of it on one control plane. Raises LoadError where a pod takes minutes."""
    with running(MACHINE, nodes) as rig:
        return asyncio.run(_measured(rig, nodes, waiting, per_s, seconds))


async def _measured(rig: Rig, nodes: int, waiting: int, per_s: float, seconds: float) -> Figures:
    async with LoadClient(rig.plane.kubeconfig) as client:
        holders = await _hold_one_gpu_each(client, rig)
        await _stream(rig, client, "warm", 0, per_s, 5.0)
        streams = [await _stream(rig, client, "before", 0, per_s, min(seconds, BEFORE_S))]
        _told(streams[-1])
        load = Workload(
            namespace=NAMESPACE,
            name="waits",
            pods=waiting,
            scheduler=OURS,
            claims="named",
            device_class=DRIVER,
            devices=GPUS,
        )
        began_s = time.monotonic()
        await for_each(lambda number: _create(client, load, number), load.numbers())
        await _all_refused(client, load)
        print(f"{waiting} pods wait, all told so after {time.monotonic() - began_s:.1f} s", flush=True)
        streams.append(await _stream(rig, client, "new", waiting, per_s, seconds))
        _told(streams[-1])
        quiet, cpu_ms, wall_ms = await _rejected_again(rig, client, load)
        woken_s, slice_s = await _wake(rig, client, load, holders[:5], nodes)
        return Figures(streams, quiet, cpu_ms, wall_ms, woken_s, slice_s)


async def _hold_one_gpu_each(client: LoadClient, rig: Rig) -> list[str]:
    names = sorted(node["metadata"]["name"] for node in rig.plane.api.list("v1", "Node"))
    load = Workload(
        namespace=NAMESPACE, name="holds", pods=len(names), scheduler=OURS, claims="named", device_class=DRIVER
    )

    async def create(number: int) -> None:
        claim, pod = load.claim(number), load.pod(number, gated=False)
        assert claim is not None
        pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": names[number]}
        await client.create(claim)
        await client.create(pod)

    async with BoundWatch(client, load) as watch:
        await for_each(create, load.numbers())
        await watch.all(TIMEOUT_S)
    return [load.pod_name(number) for number in load.numbers()]


async def _stream(rig: Rig, client: LoadClient, name: str, waiting: int, per_s: float, seconds: float) -> Stream:
    load = Workload(
        namespace=NAMESPACE,
        name=name,
        pods=round(per_s * seconds),
        scheduler=OURS,
        claims="named",
        device_class=DRIVER,
    )
    free_s: dict[str, float] = {}
    begin_s = time.time()

    async def one(number: int) -> None:
        await asyncio.sleep(begin_s + number / per_s - time.time())
        claim, pod, pod_name = load.claim(number), load.pod(number, gated=False), load.pod_name(number)
        assert claim is not None
        await client.create(claim)
        free_s[pod_name] = time.time()
        await client.create(pod)
        await watch.one(pod_name, TIMEOUT_S)
        await asyncio.sleep(LIVES_S)
        await client.delete("Pod", NAMESPACE, pod_name)
        await client.delete("ResourceClaim", NAMESPACE, pod_name)

    with _asked(rig) as asked, meters.CpuMeter(rig.pids()) as cpu:
        async with BoundWatch(client, load) as watch:
            await for_each(one, load.numbers(), at_once=load.pods)
        bound_s, end_s = watch.bound_s, time.time()
    names = [load.pod_name(number) for number in load.numbers()]
    result = LoadResult(
        scheduler=OURS,
        free_s=tuple(free_s[each] for each in names),
        bound_s=tuple(bound_s[each] for each in names),
        lateness_s=None,
        breaks=watch.breaks,
    )
    used = cpu.between(begin_s, end_s)
    cores = {program: used[program] / (end_s - begin_s) for program in PROGRAMS if program in used}
    return Stream(waiting, result, end_s - begin_s, asked[0], cores, os.getloadavg()[0])


async def _create(client: LoadClient, load: Workload, number: int) -> None:
    claim = load.claim(number)
    assert claim is not None
    await client.create(claim)
    await client.create(load.pod(number, gated=False))


async def _all_refused(client: LoadClient, load: Workload) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        pods = (await client.list("Pod", load.namespace, load.selector, whole=True))["items"]
        told = sum(_is_refused(each) for each in pods)
        if told == load.pods:
            return
        if time.monotonic() > deadline_s:
            raise LoadError(f"{told} of {load.pods} pods are told that they wait after {TIMEOUT_S:g} s")
        await asyncio.sleep(LOOK_EVERY_S)


def _is_refused(pod: Manifest) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(each["type"] == "PodScheduled" and each["reason"] == "Unschedulable" for each in conditions)


@contextmanager
def _asked(rig: Rig) -> Iterator[list[Asked]]:
    """Yield a list that holds the calls of `filter` during the block once it ended."""
    found: list[Asked] = []
    before = meters.plain_metrics(rig.extender())
    yield found
    after = meters.plain_metrics(rig.extender())

    def grown(name: str, label: str) -> dict[str, float]:
        growth = meters.grown(*(meters.series(text, name, label) for text in (before, after)))
        return {key[0]: value for key, value in growth.items()}

    calls = grown(f"{VERB_S}_count", "verb").get("filter", 0.0)
    total_s = grown(f"{VERB_S}_sum", "verb").get("filter", 0.0)
    found.append(Asked(calls, total_s / max(calls, 1) * 1e3, grown(DECISIONS, "outcome")))


async def _rejected_again(rig: Rig, client: LoadClient, load: Workload) -> tuple[Asked, float, list[float]]:
    """Ask for pods that wait anyway, as kube-scheduler asks, once it has grown quiet."""
    await _quiet(rig)
    nodes = sorted(node["metadata"]["name"] for node in rig.plane.api.list("v1", "Node"))
    pods = (await client.list("Pod", load.namespace, load.selector, whole=True))["items"]
    bodies = [json.dumps({"Pod": pod, "NodeNames": nodes}).encode() for pod in pods[:ASKED_AGAIN]]
    took_ms, extender = [], rig.pids()[OUR_EXTENDER]
    before_s = meters.used_s(extender)
    with _asked(rig) as asked:
        for body in bodies:
            start_s = time.perf_counter()
            request = urllib.request.Request(
                f"{_verbs(rig)}/filter", data=body, headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert set(json.load(answer)["FailedAndUnresolvableNodes"]) == set(nodes)
            took_ms.append((time.perf_counter() - start_s) * 1e3)
    return asked[0], (meters.used_s(extender) - before_s) / len(bodies) * 1e3, took_ms


def _verbs(rig: Rig) -> str:
    (container,) = [each for each in rig.pod.containers if each.container == "extender"]
    (address,) = [each.removeprefix("--listen=") for each in container.argv if each.startswith("--listen=")]
    return f"http://{address}"


async def _quiet(rig: Rig) -> None:
    """Wait until kube-scheduler has asked nothing for 3 seconds."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        with _asked(rig) as asked:
            await asyncio.sleep(3 * LOOK_EVERY_S)
        if asked[0].calls == 0:
            return
    raise LoadError(f"kube-scheduler still asks after {TIMEOUT_S:g} s")


async def _wake(
    rig: Rig, client: LoadClient, load: Workload, holders: list[str], nodes: int
) -> tuple[list[float], float]:
    """Let pods go that keep others waiting, then let a node appear and, when that woke nobody, its slices."""
    async with BoundWatch(client, load) as watch:

        async def next_bound(before: int) -> None:
            async with asyncio.timeout(TIMEOUT_S):
                while len(watch.bound_s) <= before:
                    await asyncio.sleep(0.001)

        async def since(start_s: float, before: int) -> float:
            await next_bound(before)
            return sorted(watch.bound_s.values())[before] - start_s

        woken_s = []
        for name in holders:
            await _quiet(rig)
            start_s, before = time.time(), len(watch.bound_s)
            await client.delete("Pod", NAMESPACE, name)
            woken_s.append(await since(start_s, before))
        await _quiet(rig)
        slices = _new_node(rig, nodes)
        await _quiet(rig)
        start_s, before = time.time(), len(watch.bound_s)
        for each in slices:
            await asyncio.to_thread(rig.plane.api.create, each)
        return woken_s, await since(start_s, before)


def _new_node(rig: Rig, nodes: int) -> list[Manifest]:
    """Add a node and return its slices, not created yet."""
    wanted, uids = {MACHINE: nodes + 1}, {}
    for each in gpus.node_manifests(wanted):
        stored = rig.plane.api.find(each) or rig.plane.api.create(each)
        uids[each["metadata"]["name"]] = stored["metadata"]["uid"]
    *_, last = whole_gpus(wanted, uids)
    return [each for each in whole_gpus(wanted, uids) if each["spec"]["nodeName"] == last["spec"]["nodeName"]]


def _told(each: Stream) -> None:
    wait_s = {f"p{share * 100:g}": round(each.result.wait_s(share), 3) for share in (0.5, 0.99, 1.0)}
    print(
        f"\n{each.waiting} waiting: {each.result.pods} new pods that fit, {each.result.pods / each.took_s:.1f} a second"
    )
    print(f"  creation to bound, s: {wait_s}, watch opened anew {each.result.breaks} times")
    print(f"  medians of the parts of the stream, s: {[round(part, 2) for part in _medians(each.result)]}")
    print(f"  filter: {each.filter.calls / each.took_s:.0f} calls/s, mean {each.filter.mean_ms:.2f} ms;", end=" ")
    print({name: round(calls) for name, calls in each.filter.outcomes.items()})
    print(
        f"  cores: { {name: round(used, 2) for name, used in each.cpu_cores.items()} }; load {each.load:.1f}",
        flush=True,
    )


def _medians(result: LoadResult) -> list[float]:
    waits_s = [bound - free for free, bound in zip(result.free_s, result.bound_s, strict=True)]
    size = -(-len(waits_s) // PARTS)
    return [percentile(waits_s[at : at + size], 0.5) for at in range(0, len(waits_s), size)]


def report(found: Figures) -> None:
    """Print what is known once all is over; the streams were told as they ended."""
    wall = {f"p{share * 100:g}": round(percentile(found.quiet_wall_ms, share), 2) for share in (0.5, 0.99)}
    print(
        f"\ncached rejection: mean {found.quiet.mean_ms:.3f} ms in the extender of {found.quiet.calls:.0f};",
        f"{found.quiet_cpu_ms:.2f} ms of its processor time with HTTP;",
        f"{wall} ms over HTTP",
    )
    print(f"freed claim to a waiting pod bound, s: {[round(each, 2) for each in found.woken_s]}")
    print(f"new slice to a waiting pod bound, s: {found.slice_s:.2f}; load {os.getloadavg()[0]:.1f}", flush=True)
