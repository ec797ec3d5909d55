"""Requests made wrong in every way are answered with 200 or 400, nothing fails inside, and memory stays flat."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kube.access import Access
from kube.client import ApiClient
from kube.kinds import CLAIMS, CLASSES, NAMESPACES, NODES, PODS, SLICES
from kube.objects import DeviceClass, Namespace
from scheduler.assemble import Alone, System
from scheduler.settings import Settings
from scheduler.wire import SLACK_ANNOTATION
from tests.kube import builders
from tests.scheduler.http import DATA, POD, question, serving
from tests.scheduler.http import NODES as NAMES
from tests.scheduler.mutate import Mutator

SEED = 6
VERBS = ("filter", "prioritize", "preempt", "bind")
GROWTH_MIB = 16
"""What a process may grow by between its first fifth of the requests and its end."""


def recorded() -> dict[str, list[Any]]:
    """Right requests by verb: what kube-scheduler sent in our tests, and the shapes of its documentation."""
    order = {"PodName": "pod", "PodNamespace": "default", "PodUID": "u-1", "Node": NAMES[0]}
    meta = {name: {"Pods": [{"UID": f"v-{name}"}], "NumPDBViolations": 0} for name in NAMES}
    full = {name: {"Pods": [POD], "NumPDBViolations": 1} for name in NAMES}
    preemption = {"Pod": POD, "NodeNameToVictims": None, "NodeNameToMetaVictims": meta}
    whole = {"items": [{"metadata": {"name": name}} for name in NAMES]}
    annotated = {**POD, "metadata": {**POD["metadata"], "annotations": {SLACK_ANNOTATION: "0.5"}}}
    seeds: dict[str, list[Any]] = {
        "filter": [question(), question(annotated), {"Pod": POD, "Nodes": whole, "NodeNames": None}],
        "prioritize": [question()],
        "preempt": [preemption, {"Pod": POD, "NodeNameToVictims": full, "NodeNameToMetaVictims": None}],
        "bind": [order],
    }
    for path in sorted(DATA.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            sent = json.loads(line)
            seeds[sent["verb"]].append(sent["body"])
    return seeds


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: nobody
contexts: [{name: nobody, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: nobody, user: {token: none}}]
"""
MACHINES = {"a100-8-pcie-nvlink-pairs": 2, "l4-8-pcie": 2}


def pods_of(seeds: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [each["Pod"] for verb in ("filter", "preempt") for each in seeds[verb]]


def scheduler(client: ApiClient, seeds: dict[str, list[Any]]) -> System:
    """The whole scheduler on the cluster that the requests are about; no API server answers it."""
    system = System(Settings(), None, client)
    system.leadership = Alone(lambda: asyncio.sleep(0))
    system.leadership._open = system.leadership._leads = True
    names = {
        name: machine for machine, count in MACHINES.items() for name in (f"{machine}-{at}" for at in range(count))
    }
    pods = pods_of(seeds)
    expression = f'device.driver == "{builders.DRIVER}"'
    gpus = {"metadata": {"name": builders.DRIVER}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}
    system.feed.replace(NAMESPACES, [builders.decoded({"metadata": {"name": "test"}}, Namespace)])
    system.feed.replace(CLASSES, [builders.decoded(gpus, DeviceClass)])
    system.feed.replace(NODES, [builders.node(name) for name in [*names, *NAMES]])
    slices = [each for name, machine in names.items() for each in builders.machine_slices(machine, name)]
    system.feed.replace(SLICES, slices)
    system.feed.replace(PODS, [])
    claims = {
        each["resourceClaimName"]: pod["metadata"]["namespace"]
        for pod in pods
        for each in pod["status"].get("resourceClaimStatuses", [])
    }
    asked = [{"name": "gpu", "exactly": {"deviceClassName": builders.DRIVER, "count": 2}}]
    found = [builders.claim(name, namespace=namespace, requests=asked) for name, namespace in claims.items()]
    system.feed.replace(CLAIMS, found)
    return system


async def fuzz(requests: int, kubeconfig: Path) -> tuple[Counter[tuple[str, int]], float]:
    """Send mutated requests; returns how many of each verb got which status, and by how many MiB the process grew."""
    seeds = recorded()
    mutators = {verb: Mutator(seeds[verb], SEED + at) for at, verb in enumerate(VERBS)}
    seen: Counter[tuple[str, int]] = Counter()
    after_warm_mib = 0.0
    async with ApiClient(Access(kubeconfig)) as client, serving(scheduler(client, seeds).decider) as served:
        for number in range(requests):
            if number % 1000 == 0:  # the right ones are placed
                for verb in ("filter", "prioritize", "preempt"):
                    assert {(await served.ask(verb, body))[0] for body in seeds[verb]} == {200}
            if number == requests // 5:
                after_warm_mib = resident_mib()
            verb = VERBS[number % 10] if number % 10 < len(VERBS) else "filter"
            body = mutators[verb].request()
            status, answer = await served.ask(verb, body)
            assert status in {200, 400}, (SEED, number, verb, status, body[:2000])
            assert status == 200 or answer["path"].startswith("$"), (number, answer)
            seen[verb, status] += 1
        assert await served.get("/healthz") == (200, "ok")
    return seen, resident_mib() - after_warm_mib


def check(requests: int, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    seen, growth_mib = asyncio.run(fuzz(requests, kubeconfig))
    sys.stderr.write(f"seed {SEED}: {dict(seen)}, grew by {growth_mib:.1f} MiB\n")
    assert caplog.records == []
    assert growth_mib < GROWTH_MIB
    assert all(seen[verb, status] > requests // 100 for verb in VERBS for status in (200, 400)), seen


def test_ten_thousand_mutated_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(10_000, tmp_path, caplog)


@pytest.mark.soak
def test_a_million_mutated_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(1_000_000, tmp_path, caplog)
