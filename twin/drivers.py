"""Older drivers: what their NVML has not, for `Twin.create(lacks=...)`. Recalled from NVIDIA's change log of NVML."""

from __future__ import annotations

LACKS_R470 = (
    "nvmlDeviceGetGpuInstanceProfileInfoV",
    "nvmlDeviceGetGpuInstanceProfileInfoByIdV",
    "nvmlGpuInstanceGetComputeInstanceProfileInfoV",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetNumGpuCores",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetModuleId",
    "nvmlDeviceGetAddressingMode",
    "field 164",
    "field 230",
    "event 0x4000",
    "event 0x8000",
)
"""The first branch that ran MIG widely (2021). `field N` and `event N` name field ids and event types."""

LACKS_R535 = (
    "nvmlDeviceGetModuleId",
    "nvmlDeviceGetAddressingMode",
    "field 230",
    "event 0x4000",
    "event 0x8000",
)
"""A long-term branch still in wide use (2023)."""
