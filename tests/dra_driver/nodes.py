"""Nodes to publish: any number of GPUs of a product that can be partitioned, and machines of the catalog."""

from __future__ import annotations

from dra_driver.inventory import MIB, Gpu, NodeGpus
from topology.catalog import mig_geometries
from topology.facts import FabricFacts
from topology.mig import MigGeometry
from topology.modes import MigMode, Sharing

GEOMETRIES = tuple(geometry for geometry in mig_geometries() if geometry.placeable)


def gpu(geometry: MigGeometry | None = None, index: int = 0, **facts: object) -> Gpu:
    known: dict[str, object] = {
        "index": index,
        "minor": index,
        "uuid": f"GPU-{index:08d}-0000-0000-0000-000000000000",
        "product": geometry.products[0] if geometry else "NVIDIA L40S",
        "memory_bytes": 81559 * MIB,
        "mig": geometry,
        "mig_mode": MigMode.DYNAMIC if geometry else MigMode.DISABLED,
        "sharing": tuple(Sharing),
    }
    return Gpu(**(known | facts))  # type: ignore[arg-type]


def gpu_with_everything(geometry: MigGeometry, index: int, count: int, **facts: object) -> Gpu:
    """Every fact known and every text as long as it gets, so that limits are met at their worst."""
    known: dict[str, object] = {
        "minor": 100 + index,
        "product": "NVIDIA " + "Ü" * 80,
        "brand": "NvidiaRTX",
        "architecture": geometry.architecture,
        "cuda_compute_capability": "10.3",
        "multiprocessors": 160,
        "addressing_mode": "ATS",
        "pci_address": f"0009:{index:02x}:00.0",
        "pcie_root": "pci0009:00",
        "pcie_levels": tuple("X" if at == index else "SYS" for at in range(count)),
        "numa_node": 7,
        "nics": tuple(f"mlx5_bond_{at}" for at in range(12)),
        "nic_level": "NODE",
        "nvlink_count": 36,
        "nvlink_mbps": 53125,
        "nvlinks": tuple(0 if at == index else 36 for at in range(count)),
        "nvswitch": True,
        "fabric": FabricFacts(
            state="completed",
            status="success",
            cluster_uuid="12345678-1234-1234-1234-123456789abc",
            clique_id=4294967295,
        ),
    }
    return gpu(geometry, index, **(known | facts))


def node(*gpus: Gpu, name: str = "node-1") -> NodeGpus:
    return NodeGpus(node=name, driver_version="580.105.08", cuda_driver_version="13.0", gpus=gpus)
