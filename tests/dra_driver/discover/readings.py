"""Readings as NVML gives them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from dra_driver.nvml.api import GpuReading, LinkReading, MigReading, ProfileReading
from topology.facts import FabricFacts
from topology.mig import MigEngines

MIB = 1 << 20
LINE_MBPS = 25_781
COMPLETED = FabricFacts(state="completed", status="success", cluster_uuid="0" * 8, clique_id=0)


def address(index: int) -> str:
    return f"0000:{index + 1:02x}:00.0"


def reading(index: int = 0, **changes: Any) -> GpuReading:
    known: dict[str, Any] = {
        "index": index,
        "minor": index,
        "uuid": f"GPU-{index}",
        "product": "NVIDIA A100-SXM4-40GB",
        "architecture": "Ampere",
        "cuda_compute_capability": "8.0",
        "memory_bytes": 40_960 * MIB,
        "pci_address": address(index),
        "mig": MigReading(enabled=False, pending=False),
    }
    return GpuReading(**known | changes)


def to_gpu(peer: int, count: int = 1, mbps: int = LINE_MBPS) -> list[LinkReading]:
    return [LinkReading(link=at, remote="gpu", remote_pci_address=address(peer), mbps=mbps) for at in range(count)]


def to_switch(count: int, mbps: int = LINE_MBPS) -> list[LinkReading]:
    pci = "0000:c1:00.0"
    return [LinkReading(link=at, remote="switch", remote_pci_address=pci, mbps=mbps) for at in range(count)]


def to_nowhere(count: int, remote: str = "unknown", pci: str = "", mbps: int = LINE_MBPS) -> list[LinkReading]:
    return [LinkReading(link=at, remote=remote, remote_pci_address=pci, mbps=mbps) for at in range(count)]


def profile(
    enum: int, profile_id: int, slices: int, starts: tuple[int, ...], size: int, **changes: Any
) -> ProfileReading:
    known: dict[str, Any] = {
        "enum": enum,
        "profile_id": profile_id,
        "compute_slices": slices,
        "starts": starts,
        "size": size,
        "max_instances": len(starts),
        "multiprocessors": 14 * slices,
        "memory_mib": 4864 * size,
        "engines": MigEngines(copy=1),
    }
    return ProfileReading(**known | changes)


A100_40 = (
    profile(0, 19, 1, (0, 1, 2, 3, 4, 5, 6), 1),
    profile(1, 14, 2, (0, 2, 4), 2, memory_mib=9856),
    profile(2, 9, 3, (0, 4), 4, memory_mib=19968),
    profile(3, 5, 4, (0,), 4, memory_mib=19968),
    profile(4, 0, 7, (0,), 8, memory_mib=40192),
    profile(7, 20, 1, (0, 1, 2, 3, 4, 5, 6), 1, max_instances=1),
    profile(9, 15, 1, (0, 2, 4, 6), 2, memory_mib=9856),
)
"""Of an A100 40 GB, in order of NVML's enum, without names as an old driver gives them."""
