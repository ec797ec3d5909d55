"""The examples for a real node, as a user applies them: what they print is what their comments promise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sandbox import objects
from sandbox.api import ApiFault
from sandbox.deployed import DeployedPod
from sandbox.waiting import NotYet, wait_for
from tests.driver_node.box import RUN_S, Bed, Box
from tests.driver_node.conftest import bed_of

pytestmark = pytest.mark.node
EXAMPLES = Path(__file__).parents[2] / "examples" / "sandbox"
LAST = "/dev/nvidiactl"
"""Every one lists device nodes."""


@pytest.fixture
def bed(h100: Box, ours: DeployedPod) -> Iterator[Bed]:
    yield from bed_of(h100)


def printed(here: Box, bed: Bed, example: str) -> dict[str, str]:
    """Apply an example on our node; return what its pods print, by their names."""
    text = (EXAMPLES / f"{example}.yaml").read_text()
    assert "hostname: real-1" in text
    manifests = list(yaml.safe_load_all(text.replace("hostname: real-1", f"hostname: {here.node.name}")))
    for each in manifests:
        each["metadata"]["namespace"] = bed.namespace
    bed.create(*manifests)
    pods = [each for each in manifests if each["kind"] == "Pod"]
    for pod in pods:
        bed.api.wait(pod, objects.is_running, timeout_s=RUN_S)
    return {pod["metadata"]["name"]: _log(bed, pod["metadata"]["name"]) for pod in pods}


def _log(bed: Bed, pod: str) -> str:
    def look() -> str | NotYet:
        try:
            said = bed.api.raw(f"/api/v1/namespaces/{bed.namespace}/pods/{pod}/log")
        except ApiFault as fault:
            return NotYet(str(fault.reason))
        return said if LAST in said else NotYet(said)

    return wait_for(f"the words of {pod}", look, timeout_s=RUN_S)


def gpu_of(said: str) -> str:
    (path,) = re.findall(r"^/dev/nvidia\d+$", said, flags=re.MULTILINE)
    return str(path)


def test_a_whole_gpu(h100: Box, bed: Bed) -> None:
    (said,) = printed(h100, bed, "gpu-container").values()
    minor = int(gpu_of(said).removeprefix("/dev/nvidia"))
    assert f"DOVETAIL_DEVICE_GPU_{minor}={h100.twin.gpu(minor).uuid}" in said
    assert "nvidia-cap" not in said


def test_a_mig_device(h100: Box, bed: Bed) -> None:
    (said,) = printed(h100, bed, "mig-container").values()
    assert len(re.findall(r"^nvidia-cap\d+$", said, flags=re.MULTILINE)) == 2
    (instance,) = h100.instances(int(gpu_of(said).removeprefix("/dev/nvidia")))
    (compute,) = instance.compute
    assert f"={compute.uuid}\n" in said
    bed.remove_workload()
    assert all(not gpu.instances for gpu in h100.twin.state.gpus)


def test_two_shares_of_one_gpu(h100: Box, bed: Bed) -> None:
    one, other = printed(h100, bed, "mps-containers").values()
    assert gpu_of(one) == gpu_of(other)
    for said in (one, other):
        assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25" in said
        assert "CUDA_MPS_PIPE_DIRECTORY=" in said
