"""Reading a large cluster: 50,000 pods as a busy cluster has them, 6 kB each with all that we skip.

Text is made page by page and thrown away, as when it comes over the wire; memory is what the decoded pods keep.
"""

from __future__ import annotations

import gc
import json
import random
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from kube.decoding import decoder
from kube.kinds import PODS, SLICES
from kube.objects import Pod

POD_COUNT = 50_000
NODE_COUNT = 5_000
PAGE = 500
SEED = 20
TIME = "2026-08-01T10:00:00Z"
SIZES = ("250m", "500m", "1", "2", "4")


def fields_of(manager: str, names: int) -> dict[str, Any]:
    """One manager's managedFields, which make up a third of every object."""
    owned: dict[str, Any] = {
        f'k:{{"name":"field-{index}"}}': {".": {}, "f:name": {}, "f:value": {}} for index in range(names)
    }
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "v1",
        "time": TIME,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:containers": owned}},
    }


def container(name: str, cpu: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"registry.example.com/team/{name}@sha256:{'0123456789abcdef' * 4}",
        "env": [{"name": f"VARIABLE_{index}", "value": f"value of variable {index}"} for index in range(8)],
        "resources": {"requests": {"cpu": cpu, "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
        "volumeMounts": [
            {"name": f"volume-{index}", "mountPath": f"/var/run/{index}", "readOnly": True} for index in range(3)
        ],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def condition(kind: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "observedGeneration": 1, "lastProbeTime": None, "lastTransitionTime": TIME}


def pod(number: str, app: str, team: str, node: str, cpu: str) -> dict[str, Any]:
    """A pod of a Deployment with a sidecar, as `kubectl get -o json` shows it."""
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    state = {"restartCount": 0, "ready": True, "started": True, "state": {"running": {"startedAt": TIME}}}
    return {
        "metadata": {
            "name": f"{app}-{number}",
            "generateName": f"{app}-",
            "namespace": team,
            "uid": f"00000000-0000-4000-8000-{number}",
            "resourceVersion": f"1{number}",
            "creationTimestamp": TIME,
            "labels": {"app": app, "pod-template-hash": "5d4f8c7b9", "tier": "backend"},
            "annotations": {"checksum/config": "0123456789abcdef" * 4},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": "u", "controller": True}
            ],
            "managedFields": [fields_of("kube-controller-manager", 16), fields_of("kubelet", 10)],
        },
        "spec": {
            "volumes": [
                {"name": f"volume-{index}", "configMap": {"name": f"config-{index}", "defaultMode": 420}}
                for index in range(3)
            ],
            "containers": [container("main", cpu), container("proxy", "100m")],
            "restartPolicy": "Always",
            "nodeName": node,
            "schedulerName": "default-scheduler",
            "priority": 0,
            "tolerations": [
                {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
                for key in ("not-ready", "unreachable")
            ],
        },
        "status": {
            "phase": "Running",
            "conditions": [condition(kind) for kind in kinds],
            "hostIP": "10.0.0.1",
            "podIPs": [{"ip": "10.1.0.1"}],
            "startTime": TIME,
            "containerStatuses": [{"name": name, "image": "i" * 60, **state} for name in ("main", "proxy")],
            "qosClass": "Burstable",
        },
    }


MARKS = ("@number@", "@app@", "@team@", "@node@", "@cpu@")
TEMPLATE = json.dumps(pod(*MARKS))
"""Filled in for each pod: making the text must not take longer than what is measured."""


def pod_text(number: int, draw: random.Random) -> str:
    node, cpu = f"node-{draw.randrange(NODE_COUNT)}", draw.choice(SIZES)
    text = TEMPLATE
    for mark, value in zip(
        MARKS, (f"{number:012}", f"app-{number % 300}", f"team-{number % 50}", node, cpu), strict=True
    ):
        text = text.replace(mark, value)
    return text


def pages() -> Iterator[bytes]:
    draw = random.Random(SEED)
    head = (
        '{"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1", "continue": "more"}, "items": ['
    )
    for first in range(0, POD_COUNT, PAGE):
        yield f"{head}{', '.join(pod_text(number, draw) for number in range(first, first + PAGE))}]}}".encode()


def decoded() -> tuple[list[Pod], float, int]:
    """All pods, the seconds of CPU that decoding took, and the bytes of text."""
    decode = decoder(PODS).page
    found: list[Pod] = []
    took, size = 0.0, 0
    for text in pages():
        start = time.process_time()
        found += decode(text).objects
        took += time.process_time() - start
        size += len(text)
    return found, took, size


def test_decode_50000_pods(benchmark: BenchmarkFixture) -> None:
    """Gate: 1 s. The benchmark's own time has making the text in it, `decoding_s` has not."""
    found, took, size = benchmark.pedantic(decoded, rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["decoding_s"] = round(took, 3)
    print(f"\n{len(found)} pods, {size >> 20} MiB of text: {took:.2f} s of CPU")
    assert len({pod.metadata.uid for pod in found}) == POD_COUNT
    used = {container.resources.requests["cpu"] for pod in found for container in pod.spec.containers}
    assert used == {*SIZES, "100m"}
    assert all(pod.spec.node_name and pod.status.scheduled for pod in found)


def test_memory_of_50000_pods(benchmark: BenchmarkFixture) -> None:
    decode = decoder(PODS).page
    found: list[Pod] = []

    def kept() -> int:
        before = tracemalloc.get_traced_memory()[0]
        for text in pages():
            found.extend(decode(text).objects)
        del text
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    size = benchmark.pedantic(kept, rounds=1)  # type: ignore[no-untyped-call]
    tracemalloc.stop()
    benchmark.extra_info["bytes_a_pod"] = size // POD_COUNT
    print(f"\n{size // POD_COUNT} bytes a pod, {size >> 20} MiB in all")
    assert len(found) == POD_COUNT


def test_decode_watch_events_of_pods(benchmark: BenchmarkFixture) -> None:
    """An event costs what the same pod in a list costs."""
    draw = random.Random(SEED)
    lines = [f'{{"type": "MODIFIED", "object": {pod_text(number, draw)}}}'.encode() for number in range(5_000)]
    decode = decoder(PODS).event
    events = benchmark(lambda: [decode(line) for line in lines])
    assert [int(event.object.metadata.uid[-12:]) for event in events] == list(range(5_000))


def test_decode_slices_of_5000_nodes(benchmark: BenchmarkFixture) -> None:
    """40,000 GPUs in 5,000 resource slices."""
    texts = [
        json.dumps({"metadata": {}, "items": [resource_slice(node) for node in range(first, first + PAGE)]}).encode()
        for first in range(0, NODE_COUNT, PAGE)
    ]
    decode = decoder(SLICES).page
    found = benchmark(lambda: [each for text in texts for each in decode(text).objects])
    assert len({each.spec.pool.name for each in found}) == NODE_COUNT
    assert sum(len(each.spec.devices) for each in found) == 8 * NODE_COUNT


def resource_slice(node: int) -> dict[str, Any]:
    """Eight GPUs with the attributes that drivers publish."""
    name = f"node-{node}"
    devices = [
        {
            "name": f"gpu-{index}",
            "attributes": {
                "uuid": {"string": f"GPU-{node:08x}-{index}"},
                "productName": {"string": "NVIDIA H100 80GB HBM3"},
                "architecture": {"string": "Hopper"},
                "index": {"int": index},
                "driverVersion": {"version": "580.65.6"},
                "cudaComputeCapability": {"version": "9.0.0"},
                "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{index:02x}"},
                "resource.kubernetes.io/pciBusID": {"string": f"0000:{index:02x}:00.0"},
            },
            "capacity": {"memory": {"value": "81559Mi"}},
        }
        for index in range(8)
    ]
    spec = {"driver": "gpu.example.com", "nodeName": name, "devices": devices}
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    metadata = {"name": f"{name}-gpu", "uid": f"u-{node}", "resourceVersion": str(node), "creationTimestamp": TIME}
    return {"metadata": metadata | {"managedFields": [fields_of("driver", 40)]}, "spec": {**spec, "pool": pool}}
