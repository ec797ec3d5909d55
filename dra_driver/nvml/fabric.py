"""The rack-wide NVLink fabric, as a GPU knows it: newest form of the answer first, none where this driver has none."""

from __future__ import annotations

import ctypes
import uuid

import pynvml

from dra_driver.nvml.session import Handle, Struct, ask_or, fault
from topology.facts import FabricFacts

_STATES = {
    pynvml.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED: "not-supported",
    pynvml.NVML_GPU_FABRIC_STATE_NOT_STARTED: "not-started",
    pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS: "in-progress",
    pynvml.NVML_GPU_FABRIC_STATE_COMPLETED: "completed",
}
_SUMMARIES = {
    pynvml.NVML_GPU_FABRIC_HEALTH_SUMMARY_HEALTHY: "Healthy",
    pynvml.NVML_GPU_FABRIC_HEALTH_SUMMARY_UNHEALTHY: "Unhealthy",
    pynvml.NVML_GPU_FABRIC_HEALTH_SUMMARY_LIMITED_CAPACITY: "Limited Capacity",
}
_BANDWIDTHS = {
    pynvml.NVML_GPU_FABRIC_HEALTH_MASK_DEGRADED_BW_TRUE: "Degraded",
    pynvml.NVML_GPU_FABRIC_HEALTH_MASK_DEGRADED_BW_FALSE: "Full",
}
NOT_APPLICABLE = "N/A"
"""What nvidia-smi writes for health that a GPU does not tell."""


def fabric(handle: Handle) -> FabricFacts:
    """Return the GPU's registration. Status and ids mean something once it is completed, and only then."""
    info = _info(handle)
    if info is None:
        return FabricFacts()
    state = _STATES.get(info.state, "unknown")
    if state != "completed":
        return FabricFacts(state=state)
    mask = info.healthMask >> pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_DEGRADED_BW
    return FabricFacts(
        state=state,
        status="success" if info.status == pynvml.NVML_SUCCESS else str(fault("fabric", info.status)),
        cluster_uuid=str(uuid.UUID(bytes=bytes(info.clusterUuid))),
        clique_id=info.cliqueId,
        health_summary=_SUMMARIES.get(getattr(info, "healthSummary", 0), NOT_APPLICABLE),
        health_bandwidth=_BANDWIDTHS.get(mask & pynvml.NVML_GPU_FABRIC_HEALTH_MASK_WIDTH_DEGRADED_BW, NOT_APPLICABLE),
    )


def _info(handle: Handle) -> Struct | None:
    for form in (pynvml.c_nvmlGpuFabricInfo_v3_t, pynvml.c_nvmlGpuFabricInfo_v2_t):
        info = form()
        if ask_or(None, pynvml.nvmlDeviceGetGpuFabricInfoV, handle, ctypes.byref(info)) is not None:
            return info
    return None
