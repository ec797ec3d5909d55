"""D4 and D7: the driver idle and starting, on a node with a real kubelet and a real API server.

The machine is a twin of eight H100 with all MIG placements and all shares. Idle it is as on a node: a Pod from the
manifests. `DOVETAIL_IDLE_S` says for how long (180 s).
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pytest_benchmark.fixture import BenchmarkFixture

from dovetail import sandbox_cmd_driver as driver_program
from sandbox import kustomize
from sandbox.controlplane import ControlPlane
from sandbox.pytest_plugin import had_or_skipped
from sandbox.waiting import wait_for
from tests.driver_node.box import Box, bare_box
from tests.driver_node.test_pod import LABEL, ROLL_S, apply, rolled_out, said

IDLE_S = float(os.environ.get("DOVETAIL_IDLE_S", "180"))
SETTLE_S = 15.0
STARTS = 5
WRITES = {"post", "put", "patch", "delete"}
PUBLISHED = 8 * 24
"""At least: each GPU as a whole, 21 placements of MIG partitions, shares of two kinds."""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with had_or_skipped(ControlPlane.start) as plane:
        yield plane


@dataclass(frozen=True)
class Seen:
    """One process at one moment."""

    at_s: float
    cpu_s: float
    rss_mb: float
    private_mb: float
    """What would be free if it ended."""
    threads: int
    writes: float
    """Requests to the API server that change something, by the driver's own count."""
    requests: float


def driver_on(box: Box) -> psutil.Process:
    (found,) = [
        each
        for each in psutil.process_iter(["cmdline"])
        if {"driver", f"--node-name={box.node.name}"} <= set(each.info["cmdline"] or ())
    ]
    return found


def look(process: psutil.Process) -> Seen:
    memory, cpu = process.memory_full_info(), process.cpu_times()
    (listen,) = [word for word in process.cmdline() if word.startswith("--listen=")]
    calls = api_calls(listen.removeprefix("--listen="))
    return Seen(
        at_s=time.monotonic(),
        cpu_s=cpu.user + cpu.system,
        rss_mb=memory.rss / 2**20,
        private_mb=memory.uss / 2**20,
        threads=process.num_threads(),
        writes=sum(count for verb, count in calls if verb in WRITES),
        requests=sum(count for _, count in calls),
    )


def api_calls(address: str) -> list[tuple[str, float]]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = [sample for family in families for sample in family.samples]
    return [(each.labels["verb"], each.value) for each in samples if each.name == "dovetail_api_requests_total"]


def test_idle(benchmark: BenchmarkFixture, plane: ControlPlane) -> None:
    with bare_box(plane, "hgx-h100-8", "idle-1") as box:
        plane.api.patch(box.node.reference, LABEL)
        apply(box, "base")
        wait_for("the driver's pod", lambda: rolled_out(box), timeout_s=ROLL_S, account=lambda: said(box))
        time.sleep(SETTLE_S)
        slices = json.dumps(box.slices(), sort_keys=True)
        process = driver_on(box)
        before = look(process)
        benchmark.pedantic(time.sleep, args=(IDLE_S,), rounds=1)
        after = look(process)
        unchanged = json.dumps(box.slices(), sort_keys=True) == slices
        kustomize.delete(plane.kubeconfig, [box.workload()])
    used = (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)
    benchmark.extra_info |= {
        "cpu_percent_of_a_core": round(100 * used, 2),
        "rss_mb": round(after.rss_mb, 1),
        "private_mb": round(after.private_mb, 1),
        "threads": after.threads,
        "api_writes": after.writes - before.writes,
        "api_requests": after.requests - before.requests,
        "load": round(os.getloadavg()[0], 1),
    }
    print(benchmark.extra_info)
    assert after.writes == before.writes, "nothing changed, and something was written"
    assert unchanged, "resourceVersions included"
    assert used <= 0.01
    assert after.rss_mb <= 90


def test_start(benchmark: BenchmarkFixture, plane: ControlPlane) -> None:
    """To readiness: interpreter up, NVML read, journal in order, known to the kubelet, all slices stored."""
    used_s: list[float] = []

    def begin() -> None:
        driver_program.start(plane, box.node, box.gpus)

    def end() -> None:
        if used_s or Path(box.node.paths.directory / "driver.kubeconfig").exists():
            cpu = driver_on(box).cpu_times()
            used_s.append(cpu.user + cpu.system)
            box.node.programs.stop(driver_program.NAME)

    with bare_box(plane, "hgx-h100-8", "start-1") as box:
        benchmark.pedantic(begin, setup=end, rounds=STARTS)
        end()
        devices = sum(len(each["spec"].get("devices", ())) for each in box.slices())
    benchmark.extra_info |= {"cpu_s": [round(each, 2) for each in used_s], "devices": devices}
    benchmark.extra_info |= {"load": round(os.getloadavg()[0], 1)}
    print(benchmark.extra_info)
    assert devices >= PUBLISHED
