"""`filter` over HTTP as kube-scheduler asks it: 5,000 node names in, one node out, decision and reservation included.

The client is a process of its own with one connection, as kube-scheduler's scheduling cycle is; every pod is a new one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from kube.access import Access
from kube.client import ApiClient
from kube.kinds import CLAIMS, CLASSES, NAMESPACES, NODES, PODS, SLICES
from kube.objects import DeviceClass, Namespace
from scheduler.assemble import Alone, System
from scheduler.settings import Settings
from tests.kube import builders
from tests.scheduler.http import serving
from tests.scheduler.test_fuzz import KUBECONFIG

NODE_COUNT = 5_000
POD_COUNT = 400
WARM = 50
"""Requests before those that count: the first of a kind of pod fills the tables of scores."""
MACHINE = "hgx-h100-8"

CLIENT = """
import http.client, json, sys, time
port, bodies = int(sys.argv[1]), json.load(open(sys.argv[2]))
connection, took_ms, placed = http.client.HTTPConnection("127.0.0.1", port), [], 0
for body in bodies:
    start_s = time.perf_counter()
    connection.request("POST", "/filter", body, {"Content-Type": "application/json"})
    answer = connection.getresponse().read()
    took_ms.append((time.perf_counter() - start_s) * 1e3)
    placed += len(json.loads(answer)["NodeNames"])
json.dump({"took_ms": took_ms, "placed": placed}, sys.stdout)
"""


def system_of(client: ApiClient, pods: int) -> System:
    """A scheduler that knows the nodes, and a claim for one or two GPUs per pod."""
    system = System(Settings(), None, client)
    system.leadership = Alone(lambda: asyncio.sleep(0))
    system.leadership._open = system.leadership._leads = True  # noqa: SLF001 - nobody answers a take-over here
    names = [f"node-{number:05}" for number in range(NODE_COUNT)]
    expression = f'device.driver == "{builders.DRIVER}"'
    gpus = {"metadata": {"name": builders.DRIVER}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}
    system.feed.replace(NAMESPACES, [builders.decoded({"metadata": {"name": "default"}}, Namespace)])
    system.feed.replace(CLASSES, [builders.decoded(gpus, DeviceClass)])
    system.feed.replace(NODES, [builders.node(name) for name in names])
    system.feed.replace(SLICES, [each for name in names for each in builders.machine_slices(MACHINE, name)])
    system.feed.replace(PODS, [])
    asked = {
        count: [{"name": "gpu", "exactly": {"deviceClassName": builders.DRIVER, "count": count}}] for count in (1, 2)
    }
    claims = [builders.claim(f"claim-{number}", requests=asked[1 + number % 2]) for number in range(pods)]
    system.feed.replace(CLAIMS, claims)
    system.compile()
    system.capacity()
    gc.collect()
    gc.freeze()  # as the program does
    return system


def body_of(number: int) -> str:
    pod = {
        "metadata": {
            "name": f"pod-{number}",
            "namespace": "default",
            "uid": f"uid-pod-{number}",
            "labels": {"app": "a"},
        },
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "busybox",
                    "env": [{"name": f"VARIABLE_{at}", "value": "value"} for at in range(20)],
                    "resources": {"requests": {"cpu": "4", "memory": "16Gi"}, "claims": [{"name": "gpu"}]},
                }
            ],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": f"claim-{number}"}],
            "schedulerName": "dovetail",
        },
        "status": {"phase": "Pending"},
    }
    names = [f"node-{at:05}" for at in range(NODE_COUNT)]
    return json.dumps({"Pod": pod, "Nodes": None, "NodeNames": names}, separators=(",", ":"))


async def measured(folder: Path) -> list[float]:
    kubeconfig, bodies = folder / "kubeconfig", folder / "bodies.json"
    kubeconfig.write_text(KUBECONFIG)
    bodies.write_text(json.dumps([body_of(number) for number in range(POD_COUNT)]))
    async with ApiClient(Access(kubeconfig)) as client, serving(system_of(client, POD_COUNT).decider) as served:
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT, str(served.port), str(bodies)), stdout=subprocess.PIPE
        )
        told, _ = await asking.communicate()
    result = json.loads(told)
    assert result["placed"] == POD_COUNT
    return sorted(result["took_ms"][WARM:])


def test_s3_filter_of_5000_nodes_over_http(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    took_ms = benchmark.pedantic(lambda: asyncio.run(measured(tmp_path)), rounds=1)
    p50, p99 = (took_ms[int(len(took_ms) * share)] for share in (0.5, 0.99))
    benchmark.extra_info |= {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "max_ms": round(took_ms[-1], 2)}
    print(f"S3: filter, {NODE_COUNT} node names: p50 {p50:.2f} ms, p99 {p99:.2f} ms, slowest {took_ms[-1]:.2f} ms")
