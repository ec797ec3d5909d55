"""Attributes and capacities of devices; docs/devices.md lists them.

Names are those of NVIDIA's DRA driver, so that CEL written for it works after one change of domain; what it does not
publish (links, cards, isolation) is added.

A CEL expression fails on a name that is absent, so a number or a kind that every device of a type has is always there.
What takes part in `matchAttribute` (domain, clique, root, NUMA node) is left out where there is none: an empty value
would match others.
"""

from __future__ import annotations

from typing import Any

from dra_driver.inventory import MIB, Gpu, MigInstance, NodeGpus
from dra_driver.publish.counters import DIMENSIONS, MEMORY
from dra_driver.publish.quantities import count, size, version
from topology.facts import clique_name
from topology.mig import MigProfile
from topology.modes import Sharing

Json = dict[str, Any]

MAX_TEXT_BYTES = 64
STANDARD = "resource.kubernetes.io/"
COMPUTE = "computeMilli"
"""Capacity of a share: thousandths of the GPU's compute."""
WHOLE_MILLI = 1000
ISOLATION = {Sharing.TIME_SLICING: "none", Sharing.MPS: "memory"}
HARDWARE = "hardware"

_NVML_LEVEL = {"X": 0, "PIX": 1, "PXB": 2, "PHB": 3, "NODE": 4, "SYS": 5}
"""NVML's nvmlGpuTopologyLevel_t divided by ten."""


def whole_attributes(node: NodeGpus, gpu: Gpu, nvlink_domain: str) -> Json:
    """Attributes of a whole GPU; `nvlink_domain` is empty where NVLink joins it to no GPU of the node."""
    return (
        {"type": _text("gpu"), "uuid": _text(gpu.uuid)}
        | _common(node, gpu, HARDWARE)
        | {
            "migCapable": {"bool": gpu.mig is not None},
            "nvlinkLinks": {"int": gpu.nvlink_count},
            "nvlinkMBps": {"int": gpu.nvlink_mbps},
            "nvswitch": {"bool": gpu.nvswitch},
        }
        | ({"nicLevel": {"int": _NVML_LEVEL[gpu.nic_level]}} if gpu.nic_level else {})
        | _texts(
            nvlinkPeers=",".join(map(str, gpu.nvlinks)) if gpu.nvlink_count else "",
            nvlinkDomain=nvlink_domain,
            nvlinkClique=clique_name(gpu.fabric),
            pcieLevels="".join(str(_NVML_LEVEL[level]) for level in gpu.pcie_levels),
        )
    )


def partition_attributes(node: NodeGpus, gpu: Gpu, profile: MigProfile, start: int) -> Json:
    """Attributes of a MIG placement. It has no `uuid` before it exists, and no NVLink ever."""
    return (
        {"type": _text("mig"), "parentUUID": _text(gpu.uuid), "profile": _text(profile.name)}
        | {"placementStart": {"int": start}, "placementSize": {"int": profile.size}}
        | _common(node, gpu, HARDWARE)
    )


def existing_attributes(node: NodeGpus, gpu: Gpu, profile: MigProfile, instance: MigInstance) -> Json:
    """Attributes of a MIG device that exists: those of its placement, and its own `uuid`."""
    attributes = partition_attributes(node, gpu, profile, instance.start)
    return {"type": attributes.pop("type"), "uuid": _text(instance.uuid)} | attributes


def share_attributes(node: NodeGpus, gpu: Gpu, sharing: Sharing) -> Json:
    """Attributes of a GPU offered in shares."""
    kind = {"type": _text("share"), "parentUUID": _text(gpu.uuid), "sharing": _text(sharing)}
    return kind | _common(node, gpu, ISOLATION[sharing])


def whole_capacity(gpu: Gpu) -> Json:
    """Return all of the GPU: its own memory and SMs, and the engines that its largest partition would have."""
    amounts = {MEMORY: gpu.memory_bytes}
    if gpu.multiprocessors is not None:
        amounts["multiprocessors"] = gpu.multiprocessors
    if gpu.mig is not None:
        for dimension in DIMENSIONS:
            known = [amount for profile in gpu.mig.profiles if (amount := dimension.amount(profile)) is not None]
            if known and dimension.capacity not in amounts:
                amounts[dimension.capacity] = max(known)
    return {name: {"value": quantity(name, amount)} for name, amount in amounts.items()}


def partition_capacity(profile: MigProfile) -> Json:
    """Return the seven capacities of a partition, zeros included; what was never published is left out."""
    amounts = {dimension.capacity: dimension.amount(profile) for dimension in DIMENSIONS}
    return {name: {"value": quantity(name, amount)} for name, amount in amounts.items() if amount is not None}


def share_capacity(gpu: Gpu) -> Json:
    """Return what shares divide: memory in MiB, compute in thousandths.

    A claim that does not say how much memory it needs gets all of it, as in NVIDIA's driver: nobody else's memory is
    then at risk. One that does not name compute reserves none and may use what others leave.
    """
    memory = gpu.memory_bytes // MIB * MIB
    return {
        MEMORY: {
            "value": size(memory),
            "requestPolicy": {
                "default": size(memory),
                "validRange": {"min": size(MIB), "max": size(memory), "step": size(MIB)},
            },
        },
        COMPUTE: {
            "value": count(WHOLE_MILLI),
            "requestPolicy": {
                "default": count(0),
                "validRange": {"min": count(0), "max": count(WHOLE_MILLI), "step": count(1)},
            },
        },
    }


def quantity(name: str, amount: int) -> str:
    """Return the Quantity of a capacity or counter called `name`."""
    return size(amount) if name == MEMORY else count(amount)


def _common(node: NodeGpus, gpu: Gpu, isolation: str) -> Json:
    where = f"node {node.node}, GPU {gpu.index}"
    versions = {
        "cudaComputeCapability": gpu.cuda_compute_capability,
        "driverVersion": node.driver_version,
        "cudaDriverVersion": node.cuda_driver_version,
    }
    attributes: Json = {"index": {"int": gpu.index}, "isolation": _text(isolation)}
    if gpu.numa_node is not None:
        attributes[f"{STANDARD}numaNode"] = {"int": gpu.numa_node}
    attributes |= _texts(
        productName=gpu.product,
        brand=gpu.brand,
        architecture=gpu.architecture,
        addressingMode=gpu.addressing_mode,
        nics=_as_many_as_fit(gpu.nics),
    )
    attributes |= _texts(**{f"{STANDARD}pciBusID": gpu.pci_address, f"{STANDARD}pcieRoot": gpu.pcie_root})
    return attributes | {
        name: {"version": version(text, f"{where}: {name}")} for name, text in versions.items() if text
    }


def _texts(**values: str) -> Json:
    return {name: _text(value) for name, value in values.items() if value}


def _text(value: str) -> Json:
    return {"string": value.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")}


def _as_many_as_fit(names: tuple[str, ...]) -> str:
    """Names joined by commas, without those that no longer fit; a cut name would be a wrong one."""
    joined = ""
    for name in names:
        longer = f"{joined},{name}" if joined else name
        if len(longer.encode()) <= MAX_TEXT_BYTES:
            joined = longer
    return joined
