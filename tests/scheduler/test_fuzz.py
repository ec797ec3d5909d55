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

from tests.scheduler.http import DATA, NODES, POD, question, serving
from tests.scheduler.mutate import Mutator

SEED = 6
VERBS = ("filter", "prioritize", "preempt", "bind")
GROWTH_MIB = 16
"""What a process may grow by between its first fifth of the requests and its end."""


def recorded() -> dict[str, list[Any]]:
    """Right requests by verb: what kube-scheduler sent in our tests, and the shapes of its documentation."""
    order = {"PodName": "pod", "PodNamespace": "default", "PodUID": "u-1", "Node": NODES[0]}
    meta = {name: {"Pods": [{"UID": f"v-{name}"}], "NumPDBViolations": 0} for name in NODES}
    full = {name: {"Pods": [POD], "NumPDBViolations": 1} for name in NODES}
    preemption = {"Pod": POD, "NodeNameToVictims": None, "NodeNameToMetaVictims": meta}
    whole = {"items": [{"metadata": {"name": name}} for name in NODES]}
    seeds: dict[str, list[Any]] = {
        "filter": [question(), {"Pod": POD, "Nodes": whole, "NodeNames": None}],
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


async def fuzz(requests: int) -> tuple[Counter[tuple[str, int]], float]:
    """Send mutated requests; returns how many of each verb got which status, and by how many MiB the process grew."""
    seeds = recorded()
    mutators = {verb: Mutator(seeds[verb], SEED + at) for at, verb in enumerate(VERBS)}
    seen: Counter[tuple[str, int]] = Counter()
    after_warm_mib = 0.0
    async with serving() as served:
        for number in range(requests):
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


def check(requests: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    seen, growth_mib = asyncio.run(fuzz(requests))
    sys.stderr.write(f"seed {SEED}: {dict(seen)}, grew by {growth_mib:.1f} MiB\n")
    assert caplog.records == []
    assert growth_mib < GROWTH_MIB
    assert all(seen[verb, status] > requests // 100 for verb in VERBS for status in (200, 400)), seen


def test_ten_thousand_mutated_requests(caplog: pytest.LogCaptureFixture) -> None:
    check(10_000, caplog)


@pytest.mark.soak
def test_a_million_mutated_requests(caplog: pytest.LogCaptureFixture) -> None:
    check(1_000_000, caplog)
