"""A simulated node: what NVML would report on a node of a machine in the catalog. Pure, and stable by node name."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from dra_driver.inventory import MIB, Gpu, NodeGpus
from topology.catalog import mig_for_product
from topology.facts import LinkKind, Machine
from topology.modes import MigMode, Sharing, ways_to_share
from topology.nics import nearest_nics
from topology.pcie import pci_address, pcie_root

DRIVER_VERSION = "580.105.08"
CUDA_DRIVER_VERSION = "13.0"
"""The driver of the captures from which machine files were made, and the CUDA version it brings."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "gpu.dovetail.dev")


def simulated_gpus(
    machine: Machine,
    node: str,
    *,
    mig_mode: MigMode = MigMode.DYNAMIC,
    sharing: Sequence[Sharing] = tuple(Sharing),
) -> NodeGpus:
    """Describe the GPUs of a node called `node` that is such a `machine`.

    UUIDs come from node name and index, so they are the same in every run and differ between nodes. GPUs whose MIG
    placements are unknown are not partitioned, whatever `mig_mode` says. Machine files know no root complexes: GPUs
    that are no farther apart than a host bridge get one, named after the first of them.
    """
    gpus = tuple(_gpu(machine, node, index, mig_mode, tuple(sharing)) for index in range(machine.gpu_count))
    return NodeGpus(node=node, driver_version=DRIVER_VERSION, cuda_driver_version=CUDA_DRIVER_VERSION, gpus=gpus)


def _gpu(machine: Machine, node: str, index: int, mig_mode: MigMode, sharing: tuple[Sharing, ...]) -> Gpu:
    facts, device, links = machine.gpu, machine.devices[index], machine.nvlink
    product = machine.product(index)
    geometry = mig_for_product(product)
    mig = geometry if geometry is not None and geometry.placeable else None
    row = links.matrix[index]
    linked = any(row)
    switched = links.kind is LinkKind.NVSWITCH
    levels, nearest = machine.pcie.levels[index], nearest_nics(machine, index)
    return Gpu(
        index=index,
        minor=index,
        uuid=f"GPU-{uuid.uuid5(_NAMESPACE, f'{node}/{index}')}",
        product=product,
        memory_bytes=facts.memory_total_mib * MIB,
        architecture=facts.architecture,
        cuda_compute_capability=facts.compute_capability,
        multiprocessors=facts.sm_count,
        pci_address=pci_address(machine, index),
        pcie_root=pcie_root(machine, index),
        pcie_levels=levels,
        numa_node=device.numa_node if device.numa_node >= 0 else None,
        nics=nearest.names,
        nic_level=nearest.level,
        nvlink_count=(max(row) if switched else sum(row)) if linked else 0,
        nvlink_mbps=round(links.gbyte_s_per_link_per_direction * 1000) if linked else 0,
        nvlinks=row if linked else (),
        nvswitch=switched,
        fabric=machine.fabric,
        mig=mig,
        mig_mode=mig_mode if mig is not None else MigMode.DISABLED,
        sharing=ways_to_share(sharing, facts.compute_capability),
    )
