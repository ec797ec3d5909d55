"""How GPUs are joined: NVLinks, PCIe distances, what NVML says of peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pynvml

from dra_driver.nvml.addresses import sysfs_address
from dra_driver.nvml.api import GpuLostError, LinkReading, NotFoundError, NotSupportedError
from dra_driver.nvml.fields import field_values
from dra_driver.nvml.session import Handle, ask, ask_or

LEVELS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "PIX",
    pynvml.NVML_TOPOLOGY_SINGLE: "PIX",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "PXB",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "PHB",
    pynvml.NVML_TOPOLOGY_NODE: "NODE",
    pynvml.NVML_TOPOLOGY_SYSTEM: "SYS",
}
"""nvmlGpuTopologyLevel_t in the words of `nvidia-smi topo -m`; two GPUs on one board are at least as close as PIX."""
_REMOTES = {
    pynvml.NVML_NVLINK_DEVICE_TYPE_GPU: "gpu",
    pynvml.NVML_NVLINK_DEVICE_TYPE_IBMNPU: "npu",
    pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH: "switch",
}


def links(handle: Handle) -> tuple[LinkReading, ...]:
    """Return the active NVLinks of a GPU."""
    active = tuple(_active(handle))
    speeds = field_values(handle, [(pynvml.NVML_FI_DEV_NVLINK_GET_SPEED, link) for link in active])
    if active and None in speeds:
        (common,) = field_values(handle, [(pynvml.NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON, 0)])
        speeds = [common if speed is None else speed for speed in speeds]
    return tuple(_link(handle, link, speed or 0) for link, speed in zip(active, speeds, strict=True))


def _active(handle: Handle) -> Iterator[int]:
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            state = ask(pynvml.nvmlDeviceGetNvLinkState, handle, link)
        except (NotSupportedError, NotFoundError):
            return
        # Besides active (1) there is asleep (2), which wakes up on use.
        if state:
            yield link


def _link(handle: Handle, link: int, mbps: int) -> LinkReading:
    remote = ask_or(pynvml.NVML_NVLINK_DEVICE_TYPE_UNKNOWN, pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link)
    pci = ask_or(None, pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)
    return LinkReading(
        link=link,
        remote=_REMOTES.get(remote, "unknown"),
        remote_pci_address=sysfs_address(pci.busId) if pci is not None else "",
        version=ask_or(0, pynvml.nvmlDeviceGetNvLinkVersion, handle, link),
        mbps=mbps,
    )


def pcie_level(one: Handle, other: Handle) -> str:
    """Return the distance of two GPUs on PCIe; empty where unknown."""
    return LEVELS.get(_of_pair(-1, pynvml.nvmlDeviceGetTopologyCommonAncestor, one, other), "")


def nvlink_peer(one: Handle, other: Handle) -> bool | None:
    """Return whether one GPU reaches the other over NVLink; None where unknown."""
    status = _of_pair(-1, pynvml.nvmlDeviceGetP2PStatus, one, other, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    return None if status == -1 else status == pynvml.NVML_P2P_STATUS_OK


def _of_pair(unknown: int, function: Callable[..., int], one: Handle, other: Handle, *more: int) -> int:
    try:
        return int(ask_or(unknown, function, one, other, *more))
    except GpuLostError:
        # Which of the two, NVML does not say; each is asked for itself.
        return unknown
