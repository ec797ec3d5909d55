"""What a node's GPUs are. NVML fills this on a real node, a machine file on a simulated one; all above sees no other.

Frozen values without behaviour, so that `msgspec.to_builtins` and `msgspec.convert` carry them as JSON and back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from topology.errors import InvalidInputError, InvalidInputsError
from topology.facts import MAX_GPUS, PCIE_LEVELS, FabricFacts
from topology.mig import MigGeometry
from topology.modes import MigMode, Sharing

MIB = 1 << 20
NOT_IN_FABRIC = FabricFacts()

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_PCIE_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
MAX_NODE_NAME = 253
_UNKNOWN_AS_NONE = ("numa_node", "multiprocessors")
_NOT_NEGATIVE = ("minor", "nvlink_count", "nvlink_mbps", *_UNKNOWN_AS_NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """A GPU instance that exists and the MIG device on it, whoever made them. Ids are NVML's and used again.

    One per compute instance; `compute_instance` is None and `uuid` empty where a GPU instance has none (yet).
    """

    profile: str
    """As in the geometry of the GPU, such as `3g.40gb`; empty where the geometry does not have it."""
    profile_id: int
    start: int
    size: int
    gpu_instance: int
    compute_instance: int | None = None
    uuid: str = ""
    """`MIG-...`."""
    fills: bool = True
    """Whether the compute instance has all compute of the GPU instance; False for parts such as `1c.3g.40gb`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. Empty texts, tuples and None stand for what is not known or does not apply.

    `index` is NVML's, `minor` the number of its device node; rows (`nvlinks`, `pcie_levels`) are by index of the peer.
    """

    index: int
    minor: int
    uuid: str
    product: str
    memory_bytes: int
    brand: str = ""
    architecture: str = ""
    cuda_compute_capability: str = ""
    multiprocessors: int | None = None
    addressing_mode: str = ""

    pci_address: str = ""
    """As sysfs writes it: `0000:53:00.0`."""
    pcie_root: str = ""
    """The root complex, `pci0000:4f`."""
    pcie_levels: tuple[str, ...] = ()
    """Distance to each GPU of the node in the words of `nvidia-smi topo -m`, `X` for itself."""
    numa_node: int | None = None
    """None where sysfs says -1: the machine does not tell."""
    nics: tuple[str, ...] = ()
    """Network cards nearest to it."""
    nic_level: str = ""
    """Their distance in the words of `nvidia-smi topo -m`."""

    nvlink_count: int = 0
    """Active links of this GPU, to peers or into switches."""
    nvlink_mbps: int = 0
    """MB/s of one link per direction."""
    nvlinks: tuple[int, ...] = ()
    """Links to each GPU of the node; with switches those into them, which all peers share."""
    nvswitch: bool = False
    fabric: FabricFacts = NOT_IN_FABRIC

    mig: MigGeometry | None = None
    """Profiles and placements; None where it cannot be partitioned or its placements are unknown."""
    mig_mode: MigMode = MigMode.DISABLED
    instances: tuple[MigInstance, ...] = ()
    """What it is partitioned into now, by start."""
    sharing: tuple[Sharing, ...] = (Sharing.TIME_SLICING, Sharing.MPS)
    """The ways in which it is offered in shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGpus:
    """The GPUs of one node, by index. Raises InvalidInputError where they cannot be published as they are."""

    node: str
    driver_version: str = ""
    cuda_driver_version: str = ""
    gpus: tuple[Gpu, ...]

    def __post_init__(self) -> None:
        name = f"node {self.node[:MAX_NODE_NAME]}"
        faults = tuple(InvalidInputError(name, field, problem) for field, problem in _faults(self))
        if len(faults) == 1:
            raise faults[0]
        if faults:
            raise InvalidInputsError(name, faults)


def _faults(node: NodeGpus) -> Iterator[tuple[str, str]]:
    if len(node.node) > MAX_NODE_NAME or not _SUBDOMAIN.fullmatch(node.node):
        yield "name", f"must be a DNS subdomain of at most {MAX_NODE_NAME} characters, as Kubernetes names nodes"
    if len(node.gpus) > MAX_GPUS:
        yield "gpus", f"{len(node.gpus)} GPUs; at most {MAX_GPUS} can be published"
    indices = [gpu.index for gpu in node.gpus]
    if indices != sorted(set(indices)) or any(not 0 <= index < MAX_GPUS for index in indices):
        yield "gpus", f"indices must ascend without repetition from 0 to {MAX_GPUS - 1}, are {indices[:MAX_GPUS]}"
    for field, values in (("minor", [gpu.minor for gpu in node.gpus]), ("uuid", [gpu.uuid for gpu in node.gpus])):
        if len(set(values)) != len(values):
            yield f"gpus.{field}", "two GPUs have the same; devices are named and told apart by it"
    for gpu in node.gpus:
        yield from ((f"gpus[{gpu.index}].{field}", problem) for field, problem in _gpu_faults(gpu))


def _gpu_faults(gpu: Gpu) -> Iterator[tuple[str, str]]:
    for field in _NOT_NEGATIVE:
        if (number := getattr(gpu, field)) is not None and number < 0:
            remedy = "; leave it out where it is not known" if field in _UNKNOWN_AS_NONE else ""
            yield field, f"is {number}; must not be negative{remedy}"
    if not gpu.uuid or not gpu.product:
        yield "uuid, product", "must be given; claims select by them"
    # A share needs room for one step above the least one.
    if gpu.memory_bytes < 2 * MIB:
        yield "memory_bytes", f"is {gpu.memory_bytes}; must be at least 2 MiB"
    if gpu.pci_address and not _PCI_ADDRESS.fullmatch(gpu.pci_address):
        yield "pci_address", f"is {gpu.pci_address[:80]!r}; write it as sysfs does, such as 0000:53:00.0"
    if gpu.pcie_root and not _PCIE_ROOT.fullmatch(gpu.pcie_root):
        yield "pcie_root", f"is {gpu.pcie_root[:80]!r}; write it as sysfs does, such as pci0000:4f"
    if any(level not in ("X", *PCIE_LEVELS) for level in gpu.pcie_levels) or len(gpu.pcie_levels) > MAX_GPUS:
        yield "pcie_levels", f"must be at most {MAX_GPUS} of X, {', '.join(PCIE_LEVELS)}"
    if gpu.nic_level not in ("", *PCIE_LEVELS):
        yield "nic_level", f"is {gpu.nic_level[:80]!r}; must be one of {', '.join(PCIE_LEVELS)}, or empty where unknown"
    if any(not 0 <= links <= 999 for links in gpu.nvlinks) or len(gpu.nvlinks) > MAX_GPUS:
        yield "nvlinks", f"must be at most {MAX_GPUS} counts from 0 to 999"
    if gpu.mig is not None and not gpu.mig.placeable:
        yield "mig", f"geometry {gpu.mig.id} has no placements; leave it out"
    if gpu.mig is None and gpu.mig_mode is not MigMode.DISABLED:
        yield "mig_mode", f"is {gpu.mig_mode} but no MIG profiles are known; must be disabled"
    if gpu.instances and gpu.mig_mode is MigMode.DISABLED:
        yield "instances", "exist although mig_mode is disabled; a partitioned GPU must be enabled or dynamic"
    if len(set(gpu.sharing)) != len(gpu.sharing):
        yield "sharing", "names a way of sharing twice"
