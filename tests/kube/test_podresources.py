"""What a pod needs in all: the rules of component-helpers `PodRequests`."""

from __future__ import annotations

from typing import Any

import pytest

from kube.objects import Pod
from kube.podresources import cpu_milli, memory_mib, pod_requests
from packing.model import MAX_AMOUNT
from tests.kube.builders import decoded


def container(cpu: str, memory: str = "0", *, sidecar: bool = False, **resources: Any) -> dict[str, Any]:
    resources = resources or {"requests": {"cpu": cpu, "memory": memory}}
    return {"name": "c", "resources": resources, **({"restartPolicy": "Always"} if sidecar else {})}


@pytest.mark.parametrize(
    ("spec", "cpu", "memory"),
    [
        ({"containers": [container("1", "1Gi"), container("500m", "512Mi")]}, 1500, 1536),
        ({"containers": [container("1", "1Gi")], "initContainers": [container("3", "512Mi")]}, 3000, 1024),
        ({"containers": [container("1")], "initContainers": [container("1", sidecar=True)]}, 2000, 0),
        (
            {"containers": [container("1")], "initContainers": [container("1", sidecar=True), container("4")]},
            5000,
            0,
        ),
        (
            {"containers": [container("1")], "initContainers": [container("4"), container("1", sidecar=True)]},
            4000,
            0,
        ),
        ({"containers": [container("1")], "overhead": {"cpu": "250m", "memory": "120Mi"}}, 1250, 120),
        ({"containers": [container("1")], "resources": {"requests": {"cpu": "3"}}, "overhead": {"cpu": "1"}}, 4000, 0),
        ({"containers": [container("", limits={"cpu": "2"})]}, 2000, 0),
        ({"containers": [container("", limits={"cpu": "2"}, requests={"cpu": "1"})]}, 1000, 0),
        ({"containers": [container("1n", "1")]}, 1, 1),
        ({"containers": []}, 0, 0),
        ({"containers": [container("9e15", "8Ei")]}, MAX_AMOUNT, MAX_AMOUNT),
    ],
)
def test_pod_requests(spec: dict[str, Any], cpu: int, memory: int):
    found = pod_requests(decoded({"metadata": {"name": "p"}, "spec": spec}, Pod))
    assert (cpu_milli(found), memory_mib(found)) == (cpu, memory)
