"""One GPU as NVML tells it. What an old driver or a virtual machine does not tell is None or empty."""

from __future__ import annotations

from collections.abc import Mapping

import pynvml

from dra_driver.nvml.addresses import sysfs_address
from dra_driver.nvml.api import GpuReading, MigReading, SystemReading
from dra_driver.nvml.fabric import fabric
from dra_driver.nvml.links import links, nvlink_peer, pcie_level
from dra_driver.nvml.session import Handle, ask, ask_or

# Words as in NVIDIA/go-nvlib, which NVIDIA's DRA driver publishes.
_BRANDS = {
    pynvml.NVML_BRAND_QUADRO: "Quadro",
    pynvml.NVML_BRAND_TESLA: "Tesla",
    pynvml.NVML_BRAND_NVS: "NVS",
    pynvml.NVML_BRAND_GRID: "Grid",
    pynvml.NVML_BRAND_GEFORCE: "GeForce",
    pynvml.NVML_BRAND_TITAN: "Titan",
    pynvml.NVML_BRAND_NVIDIA_VAPPS: "NvidiaVApps",
    pynvml.NVML_BRAND_NVIDIA_VPC: "NvidiaVPC",
    pynvml.NVML_BRAND_NVIDIA_VCS: "NvidiaVCS",
    pynvml.NVML_BRAND_NVIDIA_VWS: "NvidiaVWS",
    pynvml.NVML_BRAND_NVIDIA_CLOUD_GAMING: "NvidiaCloudGaming",
    pynvml.NVML_BRAND_QUADRO_RTX: "QuadroRTX",
    pynvml.NVML_BRAND_NVIDIA_RTX: "NvidiaRTX",
    pynvml.NVML_BRAND_NVIDIA: "Nvidia",
    pynvml.NVML_BRAND_GEFORCE_RTX: "GeForceRTX",
    pynvml.NVML_BRAND_TITAN_RTX: "TitanRTX",
}
_ARCHITECTURES = {
    pynvml.NVML_DEVICE_ARCH_KEPLER: "Kepler",
    pynvml.NVML_DEVICE_ARCH_MAXWELL: "Maxwell",
    pynvml.NVML_DEVICE_ARCH_PASCAL: "Pascal",
    pynvml.NVML_DEVICE_ARCH_VOLTA: "Volta",
    pynvml.NVML_DEVICE_ARCH_TURING: "Turing",
    pynvml.NVML_DEVICE_ARCH_AMPERE: "Ampere",
    pynvml.NVML_DEVICE_ARCH_ADA: "Ada Lovelace",
    pynvml.NVML_DEVICE_ARCH_HOPPER: "Hopper",
    pynvml.NVML_DEVICE_ARCH_BLACKWELL: "Blackwell",
    pynvml.NVML_DEVICE_ARCH_RUBIN: "Rubin",
}
_ADDRESSING = {
    pynvml.NVML_DEVICE_ADDRESSING_MODE_NONE: "None",
    pynvml.NVML_DEVICE_ADDRESSING_MODE_HMM: "HMM",
    pynvml.NVML_DEVICE_ADDRESSING_MODE_ATS: "ATS",
}
CORES_PER_MULTIPROCESSOR = {
    (6, 0): 64, (6, 1): 128, (6, 2): 128, (7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 7): 128,
    (8, 9): 128, (9, 0): 128, (10, 0): 128, (10, 3): 128, (11, 0): 128, (12, 0): 128, (12, 1): 128,
}  # fmt: skip
"""FP32 cores by compute capability (CUDA programming guide): NVML counts cores, not SMs."""


def system_reading() -> SystemReading:
    """Return versions. CUDA's is a number to NVML, 13000 for 13.0."""
    cuda = ask_or(0, pynvml.nvmlSystemGetCudaDriverVersion_v2) or ask_or(0, pynvml.nvmlSystemGetCudaDriverVersion)
    return SystemReading(
        driver_version=ask(pynvml.nvmlSystemGetDriverVersion),
        cuda_driver_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
        nvml_version=ask_or("", pynvml.nvmlSystemGetNVMLVersion),
    )


def gpu_reading(index: int, uuid: str, handle: Handle, handles: Mapping[int, Handle]) -> GpuReading:
    """Read one GPU; `handles` are those of all GPUs that answer, by index."""
    capability = ask_or(None, pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    memory = ask_or(None, pynvml.nvmlDeviceGetMemoryInfo, handle)
    peers = range(max(handles) + 1)
    return GpuReading(
        index=index,
        minor=ask(pynvml.nvmlDeviceGetMinorNumber, handle),
        uuid=uuid,
        product=ask(pynvml.nvmlDeviceGetName, handle),
        brand=_BRANDS.get(ask_or(0, pynvml.nvmlDeviceGetBrand, handle), ""),
        architecture=_ARCHITECTURES.get(ask_or(0, pynvml.nvmlDeviceGetArchitecture, handle), ""),
        cuda_compute_capability=".".join(map(str, capability)) if capability else "",
        memory_bytes=memory.total if memory is not None else 0,
        multiprocessors=_multiprocessors(handle, capability),
        addressing_mode=_ADDRESSING.get(ask_or(-1, pynvml.nvmlDeviceGetAddressingMode, handle), ""),
        pci_address=sysfs_address(ask(pynvml.nvmlDeviceGetPciInfo_v3, handle).busId),
        links=links(handle),
        pcie_levels=tuple(
            "X" if peer == index else pcie_level(handle, handles[peer]) if peer in handles else "" for peer in peers
        ),
        nvlink_peers=tuple(
            nvlink_peer(handle, handles[peer]) if peer in handles and peer != index else None for peer in peers
        ),
        fabric=fabric(handle),
        mig=mig_reading(handle),
        virtual=ask_or(0, pynvml.nvmlDeviceGetVirtualizationMode, handle) == pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU,
    )


def mig_reading(handle: Handle) -> MigReading | None:
    """Return the MIG mode; None where the GPU has none."""
    modes = ask_or(None, pynvml.nvmlDeviceGetMigMode, handle)
    return None if modes is None else MigReading(enabled=bool(modes[0]), pending=bool(modes[1]))


def _multiprocessors(handle: Handle, capability: tuple[int, int] | None) -> int | None:
    cores = ask_or(0, pynvml.nvmlDeviceGetNumGpuCores, handle)
    per_multiprocessor = CORES_PER_MULTIPROCESSOR.get(capability or (0, 0))
    return cores // per_multiprocessor if cores and per_multiprocessor else None
