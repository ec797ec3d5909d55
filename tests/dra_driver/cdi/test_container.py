"""CDI files in real containers: what is handed out opens, whatever else of the node does not (HI-14, T18)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dra_driver.cdi.names import file_name
from dra_driver.prepare.model import Record
from tests.dra_driver.cdi import oci
from tests.dra_driver.cdi.hosts import MADE_NOTHING, UID, VERSION, Host, capability, gpu, made, partition, record, share

GPUS, CAPS, UVM = 195, 3001, 3002
"""The last two are majors that no driver of this machine has: opening such a device says ENXIO, nothing else."""
EVERYTHING = (
    *((GPUS, minor) for minor in range(9)),
    *((GPUS, minor) for minor in (254, 255)),
    *((CAPS, minor) for minor in range(1, 41)),
    *((UVM, minor) for minor in range(3)),
)
COMMON = {(GPUS, 255), (UVM, 0)}

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(
        os.geteuid() != 0 or oci.RUNC is None or oci.SHELL is None, reason="needs root, runc and a static busybox"
    ),
]

TRY_ALL = f"""
for number in {" ".join(f"{major}:{minor}" for major, minor in EVERYTHING)}; do
  mknod /tmp/probe c ${{number%%:*}} ${{number##*:}}
  echo "$number $(cat /tmp/probe 2>&1)"
  rm /tmp/probe
done
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.put("proc/devices", f"Character devices:\n{GPUS} nvidia\n{CAPS} nvidia-caps\n{UVM} nvidia-uvm\n")
    host.put("proc/driver/nvidia/capabilities/mig/monitor", capability(2))
    host.instance(0, 3, 0, (30, 31))
    host.instance(0, 4, 0, (39, 40))
    return host


def spec_of(host: Host, entry: Record) -> dict[str, Any]:
    host.files().write(entry)
    spec: dict[str, Any] = json.loads((host.roots.cdi / file_name(UID)).read_bytes())
    return spec


def openable(host: Host, spec: dict[str, Any], *devices: str) -> set[tuple[int, int]]:
    """Numbers that the device cgroup lets a container open, with nodes of its own making."""
    answers = {}
    for line in oci.run(host.root, TRY_ALL, spec, *devices).splitlines():
        number, _space, answer = line.partition(" ")
        major, minor = number.split(":")
        answers[int(major), int(minor)] = answer
    assert set(answers) == set(EVERYTHING)
    refused = {number for number, answer in answers.items() if "Operation not permitted" in answer}
    no_driver = {number for number, answer in answers.items() if "No such device or address" in answer}
    assert refused | no_driver == set(EVERYTHING)
    return no_driver


PARTITIONS = [f"{UID}-gpu-0-mig-1g10gb-19-{start}" for start in (0, 1)]


@pytest.mark.parametrize(
    ("entry", "devices", "own"),
    [
        (record([gpu(3)]), [f"{UID}-gpu-3"], {(GPUS, 3)}),
        (record([gpu(0), gpu(1)]), [f"{UID}-gpu-0", f"{UID}-gpu-1"], {(GPUS, 0), (GPUS, 1)}),
        (record([gpu(0), gpu(1)]), [f"{UID}-gpu-1"], {(GPUS, 1)}),
        (record([partition(0, 0)], [made(3)]), PARTITIONS[:1], {(GPUS, 0), (CAPS, 30), (CAPS, 31)}),
        (
            record([partition(0, 0), partition(0, 1)], [made(3), made(4)]),
            PARTITIONS[1:],
            {(GPUS, 0), (CAPS, 39), (CAPS, 40)},
        ),
        (
            record([partition(0, 0), gpu(2)], [made(3), MADE_NOTHING]),
            [PARTITIONS[0], f"{UID}-gpu-2"],
            {(GPUS, 0), (GPUS, 2), (CAPS, 30), (CAPS, 31)},
        ),
        (record([share(4, "")]), [f"{UID}-gpu-4-mps"], {(GPUS, 4)}),
        (record([gpu(5, admin=True)]), [f"{UID}-gpu-5"], {(GPUS, 5), (CAPS, 2)}),
    ],
    ids=["gpu", "two", "one-of-two", "partition", "one-of-two-partitions", "partition-and-gpu", "share", "admin"],
)
def test_t18_hi14_what_was_given_opens_and_nothing_else(
    host: Host, entry: Record, devices: list[str], own: set[tuple[int, int]]
) -> None:
    assert openable(host, spec_of(host, entry), *devices) == COMMON | own


def test_a_container_without_the_claim_opens_nothing(host: Host) -> None:
    spec = spec_of(host, record([gpu(0)]))
    spec.pop("containerEdits")
    assert openable(host, spec) == set()


def test_a_user_without_privileges_reaches_what_was_given(host: Host) -> None:
    """Capability nodes lie in a folder of their own; NVIDIA has a hook for its mode, which runtimes make unneeded."""
    spec = spec_of(host, record([partition(0, 0)], [made(3)]))
    script = "for node in $(ls -d /dev/nvidia* /dev/nvidia-caps/*); do [ -c $node ] && cat $node 2>&1; done; true"
    said = oci.run(host.root, script, spec, PARTITIONS[0], user=1000).splitlines()
    nodes = ("nvidia-caps/nvidia-cap30", "nvidia-caps/nvidia-cap31", "nvidia-uvm", "nvidia0", "nvidiactl")
    assert sorted(said) == sorted(f"cat: can't open '/dev/{node}': No such device or address" for node in nodes)


def test_libraries_nodes_and_environment_arrive(host: Host) -> None:
    spec = spec_of(host, record([gpu(0)]))
    script = "ls /dev/nvidia* /usr/lib64 /usr/lib/x86_64-linux-gnu; env; touch /usr/lib64/libcuda.so.1 2>&1; true"
    said = oci.run(host.root, script, spec, f"{UID}-gpu-0").splitlines()
    for word in ("/dev/nvidia0", "/dev/nvidiactl", "libcuda.so.1", f"libcuda.so.{VERSION}", "libnvidia-ml.so.1"):
        assert word in said
    assert {"NVIDIA_VISIBLE_DEVICES=void", "DOVETAIL_DEVICE_GPU_0=GPU-0"} <= set(said)
    assert "Read-only file system" in said[-1]
