"""Which device nodes a claim opens: by the kernel's numbers, and nothing beyond what was given to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dra_driver.cdi import nodes
from dra_driver.cdi.kernel import KernelError, read_majors
from dra_driver.cdi.model import DeviceNode
from dra_driver.prepare.model import DeviceIntent, Made
from dra_driver.roots import Roots
from tests.dra_driver.cdi.hosts import MADE_NOTHING, Host, capability, gpu, made, partition, share


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def common_nodes(roots: Roots) -> tuple[DeviceNode, ...]:
    return nodes.common_nodes(roots, read_majors(roots.proc))


def device_nodes(roots: Roots, device: DeviceIntent, made: Made, pci_address: str) -> tuple[DeviceNode, ...]:
    return nodes.device_nodes(roots, read_majors(roots.proc), device, made, pci_address)


def numbers(found: tuple[DeviceNode, ...]) -> dict[str, tuple[int, int]]:
    return {node.path: (node.major, node.minor) for node in found}


def test_everybody_gets_control_and_unified_memory(host: Host) -> None:
    assert numbers(common_nodes(host.roots)) == {"/dev/nvidiactl": (195, 255), "/dev/nvidia-uvm": (511, 0)}


def test_tools_and_modeset_come_where_the_host_has_them(host: Host) -> None:
    host.put("dev/nvidia-uvm-tools")
    host.put("dev/nvidia-modeset")
    common = numbers(common_nodes(host.roots))
    assert common["/dev/nvidia-uvm-tools"] == (511, 1)
    assert common["/dev/nvidia-modeset"] == (195, 254)


def test_a_gpu_is_its_own_node(host: Host) -> None:
    assert numbers(device_nodes(host.roots, gpu(3), MADE_NOTHING, "")) == {"/dev/nvidia3": (195, 3)}


def test_a_gpu_brings_its_own_display_and_render_nodes(host: Host) -> None:
    drm = "sys/bus/pci/devices/0000:53:00.0/drm"
    host.put(f"{drm}/card1/dev", "226:1\n")
    host.put(f"{drm}/renderD128/dev", "226:128\n")
    host.put(f"{drm}/card1-HDMI-A-1/status", "connected")
    host.put(f"{drm}/controlD64/dev", "226:64\n")
    host.put("sys/bus/pci/devices/0000:54:00.0/drm/renderD129/dev", "226:129\n")
    assert numbers(device_nodes(host.roots, gpu(0), MADE_NOTHING, "0000:53:00.0")) == {
        "/dev/nvidia0": (195, 0),
        "/dev/dri/card1": (226, 1),
        "/dev/dri/renderD128": (226, 128),
    }


def test_a_partition_is_its_two_capabilities_and_never_the_display(host: Host) -> None:
    host.instance(2, 5, 0, (57, 58))
    host.put("sys/bus/pci/devices/0000:53:00.0/drm/card1/dev", "226:1\n")
    assert numbers(device_nodes(host.roots, partition(2, 0), made(5), "0000:53:00.0")) == {
        "/dev/nvidia2": (195, 2),
        "/dev/nvidia-caps/nvidia-cap57": (234, 57),
        "/dev/nvidia-caps/nvidia-cap58": (234, 58),
    }


def test_capabilities_are_those_of_the_instance_that_was_made_now(host: Host) -> None:
    """Ids are used again and minors change with the MIG mode: nothing is remembered."""
    host.instance(0, 1, 0, (12, 13))
    assert "/dev/nvidia-caps/nvidia-cap12" in numbers(device_nodes(host.roots, partition(0, 0), made(1), ""))
    host.instance(0, 1, 0, (112, 113))
    assert set(numbers(device_nodes(host.roots, partition(0, 0), made(1), ""))) == {
        "/dev/nvidia0",
        "/dev/nvidia-caps/nvidia-cap112",
        "/dev/nvidia-caps/nvidia-cap113",
    }


def test_a_share_is_its_gpu(host: Host) -> None:
    assert numbers(device_nodes(host.roots, share(1, ""), MADE_NOTHING, "")) == {"/dev/nvidia1": (195, 1)}


def test_an_administrator_may_also_look_at_partitions(host: Host) -> None:
    host.put("proc/driver/nvidia/capabilities/mig/monitor", capability(2))
    host.put("proc/driver/nvidia/capabilities/mig/config", capability(1))
    assert numbers(device_nodes(host.roots, gpu(0, admin=True), MADE_NOTHING, "")) == {
        "/dev/nvidia0": (195, 0),
        "/dev/nvidia-caps/nvidia-cap2": (234, 2),
    }
    assert numbers(device_nodes(host.roots, gpu(0), MADE_NOTHING, "")) == {"/dev/nvidia0": (195, 0)}


def test_an_administrator_on_a_node_without_mig_gets_the_gpu(host: Host) -> None:
    assert numbers(device_nodes(host.roots, gpu(0, admin=True), MADE_NOTHING, "")) == {"/dev/nvidia0": (195, 0)}


def test_a_planted_node_decides_nothing(host: Host) -> None:
    """Were numbers taken from /dev, this link to a disk would be what the container opens."""
    host.link("dev/nvidia0", "/dev/vda")
    assert numbers(device_nodes(host.roots, gpu(0), MADE_NOTHING, ""))["/dev/nvidia0"] == (195, 0)


def test_nodes_name_the_hosts_path_where_it_differs(tmp_path: Path) -> None:
    """A driver in a container keeps its nodes below its own root; our view of that is below the host prefix."""
    prefix = tmp_path / "host"
    root = prefix / "run/nvidia/driver"
    Host(root)
    roots = Roots(host_prefix=prefix, driver_root=root, dev_root=root, proc=root / "proc")
    assert device_nodes(roots, gpu(0), MADE_NOTHING, "")[0].host_path == "/run/nvidia/driver/dev/nvidia0"
    roots = Roots(host_prefix=prefix, driver_root=root, dev_root=prefix, proc=root / "proc")
    assert device_nodes(roots, gpu(0), MADE_NOTHING, "")[0].host_path == ""


def test_a_partition_that_is_not_made_is_nothing_to_open(host: Host) -> None:
    with pytest.raises(KernelError, match="gpu-0-mig-1g10gb-19-0: has no GPU and compute instance"):
        device_nodes(host.roots, partition(0, 0), MADE_NOTHING, "")


def test_an_instance_without_capability_is_named(host: Host) -> None:
    with pytest.raises(KernelError, match="capabilities/gpu0/mig/gi9/access"):
        device_nodes(host.roots, partition(0, 0), made(9), "")
    host.put("proc/driver/nvidia/capabilities/gpu0/mig/gi9/access", "DeviceFileMode: 292\n")
    with pytest.raises(KernelError, match="no line DeviceFileMinor"):
        device_nodes(host.roots, partition(0, 0), made(9), "")


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("nvidia", "nvidia-modprobe -c 0"), ("nvidia-uvm", "nvidia-modprobe -c 0 -u")],
)
def test_a_module_that_is_not_loaded_is_named_with_what_loads_it(host: Host, missing: str, remedy: str) -> None:
    kept = [line for line in (host.root / "proc/devices").read_text().splitlines() if line.split()[-1:] != [missing]]
    host.put("proc/devices", "\n".join(kept))
    with pytest.raises(KernelError, match=remedy):
        common_nodes(host.roots)


def test_older_drivers_call_their_major_differently(host: Host) -> None:
    host.put("proc/devices", "Character devices:\n195 nvidia-frontend\n510 nvidia-uvm\n")
    assert numbers(common_nodes(host.roots)) == {"/dev/nvidiactl": (195, 255), "/dev/nvidia-uvm": (510, 0)}


def test_block_devices_do_not_count(host: Host) -> None:
    host.put("proc/devices", "Character devices:\n195 nvidia\n\nBlock devices:\n7 nvidia-uvm\n")
    with pytest.raises(KernelError, match="nvidia-uvm"):
        common_nodes(host.roots)


def test_a_kernel_without_the_table_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=f"{tmp_path}/devices"):
        read_majors(tmp_path)


def test_majors_of_this_kernel_are_read() -> None:
    """The real file: /dev/null's major is 1, called mem."""
    assert read_majors(Path("/proc")).of("mem") == os.major(Path("/dev/null").stat().st_rdev) == 1
