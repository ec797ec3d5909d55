"""The whole CDI part on the host tree of every machine of the catalog: what NVML and the kernel say fits together."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from dra_driver.cdi.driverfiles import DriverFiles
from dra_driver.cdi.files import ClaimFiles
from dra_driver.cdi.names import file_name
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.prepare.model import DeviceIntent, Made, MigTarget
from dra_driver.roots import Roots
from tests.dra_driver.cdi.cdirules import applied, device_paths, faults
from tests.dra_driver.cdi.hosts import UID, gpu, record
from topology.catalog import machine_names
from twin import Twin

MACHINES = machine_names()


def roots_of(tree: Path) -> Roots:
    return Roots(
        driver_root=tree, dev_root=tree, proc=tree / "proc", sys=tree / "sys", cdi=tree / "cdi", state=tree / "state"
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_hands_out_its_gpus(tmp_path: Path, machine: str) -> None:
    twin = Twin.create(tmp_path / "state", machine)
    twin.write_tree(tmp_path / "tree")
    roots = roots_of((tmp_path / "tree").resolve())
    with twin.install():
        nvml = PynvmlNvml()
        system, gpus = nvml.system(), nvml.gpus()
    files = ClaimFiles(
        roots,
        DriverFiles(roots, machine=platform.machine()),
        lambda: system.driver_version,
        {each.uuid: each.pci_address for each in gpus}.__getitem__,
    )
    entry = record([DeviceIntent(**gpu_fields(each)) for each in gpus])
    files.write(entry)
    spec: dict[str, Any] = json.loads((roots.cdi / file_name(UID)).read_bytes())
    assert faults(spec) == []
    for each in gpus:
        paths = device_paths(spec, f"{UID}-gpu-{each.minor}")
        assert {path for path in paths if path[len("/dev/nvidia") :].isdigit()} == {f"/dev/nvidia{each.minor}"}
        for node in applied(spec, f"{UID}-gpu-{each.minor}")["deviceNodes"]:
            assert Path(node["hostPath"]).exists()
    for mount in spec["containerEdits"]["mounts"]:
        source = Path(mount["hostPath"])
        assert source.is_file()
        assert not source.is_symlink()
        assert "535.104.05" not in str(source)


def gpu_fields(reading: Any) -> dict[str, Any]:
    named = gpu(reading.minor)
    return {"request": "r", "pool": "p", "device": named.device, "gpu_uuid": reading.uuid, "minor": reading.minor}


def test_a_partition_made_through_nvml_has_the_kernels_capabilities(tmp_path: Path) -> None:
    twin = Twin.create(tmp_path / "state", "hgx-h100-8", mig_enabled=True)
    twin.write_tree(tmp_path / "tree")
    roots = roots_of((tmp_path / "tree").resolve())
    with twin.install():
        nvml = PynvmlNvml()
        version, first = nvml.system().driver_version, nvml.gpus()[0]
        profile = min(nvml.gpu_instance_profiles(first.uuid), key=lambda each: each.size)
        gpu_instance = nvml.create_gpu_instance(first.uuid, profile.profile_id, profile.starts[-1])
        compute = nvml.create_compute_instance(first.uuid, gpu_instance)
    target = MigTarget(profile="1g.10gb", profile_id=profile.profile_id, start=profile.starts[-1], size=profile.size)
    intent = DeviceIntent(request="r", pool="p", device="gpu-0-mig", gpu_uuid=first.uuid, minor=first.minor, mig=target)
    made = Made(gpu_instance=gpu_instance, compute_instance=compute.id, uuid=compute.uuid)
    files = ClaimFiles(roots, DriverFiles(roots), lambda: version, lambda _uuid: first.pci_address)
    files.write(record([intent], [made]))
    spec = json.loads((roots.cdi / file_name(UID)).read_bytes())
    assert faults(spec) == []
    own = {node["path"]: node for node in spec["devices"][0]["containerEdits"]["deviceNodes"]}
    caps = [path for path in own if "nvidia-cap" in path]
    assert len(own) == 3
    assert len(caps) == 2
    folder = roots.proc / f"driver/nvidia/capabilities/gpu{first.minor}/mig/gi{gpu_instance}"
    said = [(folder / path).read_text().split()[1] for path in ("access", f"ci{compute.id}/access")]
    assert caps == [f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in said]
