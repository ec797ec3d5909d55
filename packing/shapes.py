"""A machine as the core sees it: the node shape that all nodes of that machine share."""

from __future__ import annotations

from functools import lru_cache

from packing.model import GpuModel, NodeShape
from topology.catalog import mig_for_product
from topology.machine import Machine
from topology.quality import set_quality


@lru_cache(maxsize=256)
def shape_of(machine: Machine) -> NodeShape:
    """Return the shape of `machine`; one per machine, so that its nodes share their tables."""
    gpus = []
    for index in range(machine.gpu_count):
        geometry = mig_for_product(machine.product(index))
        gpus.append(
            GpuModel(
                product=machine.product(index),
                architecture=machine.gpu.architecture,
                memory_mib=machine.gpu.memory_total_mib,
                sm_count=machine.gpu.sm_count or 0,
                # A geometry whose placements are unpublished cannot place anything.
                mig=geometry if geometry is not None and geometry.placeable else None,
            )
        )
    return NodeShape(machine.id, tuple(gpus), set_quality(machine))
