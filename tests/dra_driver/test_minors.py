"""NVML's index is not the minor of the device node: what is published, planned, made and handed out is the same GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dra_driver.cdi.names import file_name
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.resolve import claim_ref
from dra_driver.publish import resource_slices
from tests.dra_driver.prepare.sites import Site, claim, site
from twin.tree.capabilities import capability_minor

MINORS = (11, 3, 2, 0, 9, 8, 7, 5)
"""Gaps, as in a virtual machine that was given some GPUs of a host; in no order, as after a GPU was plugged again."""


def published(host: Site) -> dict[str, str]:
    """Name -> UUID of whole GPUs as the slices say."""
    devices = [device for one in resource_slices(host.gpus) for device in one["spec"].get("devices", ())]
    return {
        device["name"]: device["attributes"]["uuid"]["string"]
        for device in devices
        if device["attributes"]["type"]["string"] == "gpu"
    }


def nodes(host: Site, name: str) -> set[str]:
    spec: dict[str, Any] = json.loads((host.roots.cdi / file_name(claim_ref(claim(name)).uid)).read_bytes())
    edits = [spec.get("containerEdits", {}), *(device["containerEdits"] for device in spec["devices"])]
    return {node["path"] for each in edits for node in each.get("deviceNodes", ())}


@pytest.mark.parametrize("index", range(8))
def test_the_gpu_that_was_allocated_is_the_one_that_is_handed_out(index: int, tmp_path: Path) -> None:
    minor = MINORS[index]
    with site(tmp_path, minors=MINORS) as host:
        host.whole_host()
        uuid = host.twin.gpu(index).uuid
        assert published(host)[f"gpu-{minor}"] == uuid
        state = host.start()
        state.prepare(claim("whole", f"gpu-{minor}"), Patient())
        assert {path for path in nodes(host, "whole") if path[11:].isdigit()} == {f"/dev/nvidia{minor}"}
        state.unprepare(claim_ref(claim("whole")), Patient())
        state.prepare(claim("part", f"gpu-{minor}-mig-1g10gb-19-4"), Patient())
        assert [(at, each.start) for at, gpu in enumerate(host.twin.state.gpus) for each in gpu.instances] == [
            (index, 4)
        ]
        caps = {f"/dev/nvidia-caps/nvidia-cap{capability_minor(minor, 0, compute)}" for compute in (None, 0)}
        assert caps <= nodes(host, "part")
        assert f"/dev/nvidia{minor}" in nodes(host, "part")
