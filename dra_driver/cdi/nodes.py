"""Device nodes of the GPUs and of what belongs to them, by the numbers that the kernel and NVML give.

Numbers are never read from nodes in /dev: whoever could plant one there would decide what a container may open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dra_driver.cdi.kernel import (
    CAPS,
    FRONTENDS,
    MONITOR,
    UVM,
    KernelError,
    Majors,
    capability_minor,
    compute_instance_minor,
    gpu_instance_minor,
)
from dra_driver.cdi.model import DeviceNode
from dra_driver.prepare.model import DeviceIntent, Made
from dra_driver.roots import Roots

# nvidia-modprobe-utils.h
_CONTROL_MINOR = 255
_MODESET_MINOR = 254
_UVM_MINOR = 0
_UVM_TOOLS_MINOR = 1
_DRM_NODE = re.compile(r"(card|renderD)[0-9]{1,4}")
_NUMBERS = re.compile(r"([0-9]{1,4}):([0-9]{1,7})\s*")


def common_nodes(roots: Roots, majors: Majors) -> tuple[DeviceNode, ...]:
    """Return what every user of any GPU opens; tools' and display's nodes only where the host has them."""
    gpus, uvm = majors.of(*FRONTENDS), majors.of(UVM)
    nodes = [_node(roots, "nvidiactl", gpus, _CONTROL_MINOR), _node(roots, UVM, uvm, _UVM_MINOR)]
    optional = (("nvidia-uvm-tools", uvm, _UVM_TOOLS_MINOR), ("nvidia-modeset", gpus, _MODESET_MINOR))
    return (*nodes, *(_node(roots, *each) for each in optional if (roots.dev_root / "dev" / each[0]).exists()))


def device_nodes(
    roots: Roots, majors: Majors, device: DeviceIntent, made: Made, pci_address: str
) -> tuple[DeviceNode, ...]:
    """Return what opens one device: a GPU, or a part of it and nothing else of that GPU. Raises KernelError."""
    gpu = _node(roots, f"nvidia{device.minor}", majors.of(*FRONTENDS), device.minor)
    if device.mig is not None or device.existing_uuid:
        return (gpu, *_instance_nodes(roots, majors, device, made))
    monitor = _monitor_nodes(roots, majors) if device.admin else ()
    return (gpu, *_drm_nodes(roots, pci_address), *monitor)


def _instance_nodes(roots: Roots, majors: Majors, device: DeviceIntent, made: Made) -> Iterator[DeviceNode]:
    if made.gpu_instance is None or made.compute_instance is None:
        raise KernelError(f"device {device.device}: has no GPU and compute instance yet")
    yield _cap_node(roots, majors, gpu_instance_minor(roots.proc, device.minor, made.gpu_instance))
    yield _cap_node(
        roots, majors, compute_instance_minor(roots.proc, device.minor, made.gpu_instance, made.compute_instance)
    )


def _monitor_nodes(roots: Roots, majors: Majors) -> tuple[DeviceNode, ...]:
    """Return the node by which an administrator's monitor sees the partitions of all GPUs; none without MIG."""
    try:
        return (_cap_node(roots, majors, capability_minor(roots.proc, MONITOR)),)
    except KernelError:
        return ()


def _cap_node(roots: Roots, majors: Majors, minor: int) -> DeviceNode:
    return _node(roots, f"nvidia-caps/nvidia-cap{minor}", majors.of(CAPS), minor)


def _drm_nodes(roots: Roots, pci_address: str) -> Iterator[DeviceNode]:
    """Yield the display and render nodes of a GPU, where nvidia-drm is loaded."""
    if not pci_address:
        return
    for entry in sorted((roots.sys / "bus/pci/devices" / pci_address / "drm").glob("*/dev")):
        numbers = _NUMBERS.fullmatch(entry.read_text("ascii", "replace"))
        if numbers is not None and _DRM_NODE.fullmatch(entry.parent.name):
            yield _node(roots, f"dri/{entry.parent.name}", int(numbers[1]), int(numbers[2]))


def _node(roots: Roots, name: str, major: int, minor: int) -> DeviceNode:
    path = f"/dev/{name}"
    host_path = str(roots.on_host(roots.dev_root / "dev" / name))
    return DeviceNode(path, major, minor, "" if host_path == path else host_path)
