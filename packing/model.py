"""Domain values of the core: what a cluster is, what a pod asks for, what was decided.

Frozen values in, frozen values out; names live here, dense indices in `packing.fabric`.
"Does not fit" is a `Decision` with reasons, not an exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NewType

from topology.errors import InvalidInputError
from topology.mig import MigGeometry
from topology.modes import MigMode as MigMode  # noqa: PLC0414 - callers of the core take it from here
from topology.modes import Sharing as Sharing  # noqa: PLC0414
from topology.setquality import SetQuality
from topology.wishes import LEAST_GBPS as LEAST_GBPS  # noqa: PLC0414
from topology.wishes import MOST_GBPS as MOST_GBPS  # noqa: PLC0414
from topology.wishes import LinkWish as LinkWish  # noqa: PLC0414

NodeName = NewType("NodeName", str)
ClaimId = NewType("ClaimId", str)

MAX_GPUS_PER_NODE = 16
MAX_REQUESTS_PER_POD = 16
WHOLE_MILLI = 1000
"""Compute of one GPU in thousandths, the unit of compute shares."""

MAX_AMOUNT = 10**12
"""Most millicores or MiB of one thing, a million times what any machine has: sums of scores stay within 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which GPUs a request may use. Empty fields select everything.

    Evaluated once per distinct GPU model of a node shape, never per device. Names are kept as they were spelled, since
    the published FGD counts "A|B" and "B|A" as two kinds of pod.
    """

    products: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    min_memory_mib: int = 0

    def matches(self, gpu: GpuModel) -> bool:
        """Whether `gpu` has every property asked for."""
        return (
            (not self.products or gpu.product in self.products)
            and (not self.architectures or gpu.architecture in self.architectures)
            and gpu.memory_mib >= self.min_memory_mib
        )


ANY_GPU = Selector()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeSelector(Selector):
    """GPUs picked by their position on nodes of each shape, for requests whose own selectors no property expresses.

    Means something beside one `Fabric` alone, whose shapes and geometries it follows: `gpus` are bit masks of GPUs by
    shape, `profiles` those of the MIG profiles that satisfy a partition request, by geometry.
    """

    gpus: tuple[int, ...]
    profiles: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRequest:
    """`count` whole GPUs of one node, with a wish for the links between them.

    `min_gbps` is the least set quality Q (GB/s per direction, `topology.quality`) and needs `link: require`.
    With `require` and no minimum, the set must be joined by NVLink alone. One GPU alone satisfies either.
    """

    count: int = 1
    link: LinkWish = LinkWish.PREFER
    min_gbps: float = 0
    selector: Selector = ANY_GPU

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_GPUS_PER_NODE:
            raise InvalidInputError("whole request", "count", f"{self.count} is outside 1 to {MAX_GPUS_PER_NODE}")
        if self.min_gbps != 0 and not LEAST_GBPS <= self.min_gbps <= MOST_GBPS:
            problem = f"{self.min_gbps} is not 0 nor from {LEAST_GBPS} to {MOST_GBPS} GB/s"
            raise InvalidInputError("whole request", "min_gbps", problem)
        if self.min_gbps and self.link is not LinkWish.REQUIRE:
            raise InvalidInputError("whole request", "min_gbps", "a minimum needs link: require")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRequest:
    """One MIG partition: of a named profile, or of at least so much memory and so many SMs."""

    profile: str = ""
    min_memory_mib: int = 0
    min_sms: int = 0
    selector: Selector = ANY_GPU

    def __post_init__(self) -> None:
        if self.min_memory_mib < 0 or self.min_sms < 0:
            raise InvalidInputError("partition request", "min_memory_mib, min_sms", "must not be negative")
        if not (self.profile or self.min_memory_mib or self.min_sms):
            raise InvalidInputError("partition request", "profile", "name a profile, or ask for memory or SMs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRequest:
    """A share of one GPU: compute in thousandths of the GPU, memory in MiB, or both."""

    compute_milli: int = 0
    memory_mib: int = 0
    sharing: Sharing = Sharing.TIME_SLICING
    selector: Selector = ANY_GPU

    def __post_init__(self) -> None:
        if not 0 <= self.compute_milli <= WHOLE_MILLI:
            raise InvalidInputError(
                "share request", "compute_milli", f"{self.compute_milli} is outside 0 to {WHOLE_MILLI}"
            )
        if not 0 <= self.memory_mib <= MAX_AMOUNT:
            raise InvalidInputError("share request", "memory_mib", f"{self.memory_mib} is outside 0 to {MAX_AMOUNT}")
        if not (self.compute_milli or self.memory_mib):
            raise InvalidInputError("share request", "compute_milli", "ask for compute or memory")


Request = WholeRequest | PartitionRequest | ShareRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one pod asks of one node: CPU, memory and any mix of device requests (none is a CPU-only pod)."""

    cpu_milli: int = 0
    memory_mib: int = 0
    requests: tuple[Request, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.cpu_milli <= MAX_AMOUNT or not 0 <= self.memory_mib <= MAX_AMOUNT:
            raise InvalidInputError("demand", "cpu_milli, memory_mib", f"must be 0 to {MAX_AMOUNT}")
        if len(self.requests) > MAX_REQUESTS_PER_POD:
            raise InvalidInputError(
                "demand", "requests", f"{len(self.requests)} requests; at most {MAX_REQUESTS_PER_POD}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuModel:
    """A device class: everything a selector may ask about a GPU. `mig` is None where it cannot be partitioned."""

    product: str
    architecture: str = ""
    memory_mib: int = 0
    sm_count: int = 0
    mig: MigGeometry | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NodeShape:
    """What many nodes have in common: the GPUs in index order and the quality of every set of them."""

    name: str
    gpus: tuple[GpuModel, ...]
    links: SetQuality = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.gpus) > MAX_GPUS_PER_NODE:
            raise InvalidInputError(
                f"node shape {self.name}", "gpus", f"{len(self.gpus)} GPUs; at most {MAX_GPUS_PER_NODE}"
            )
        assert self.links.gpu_count == len(self.gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node. `rank` orders nodes whose scores are equal (lowest first; ties by name)."""

    name: NodeName
    shape: NodeShape
    cpu_milli: int
    memory_mib: int
    mig_mode: MigMode = MigMode.DISABLED
    unhealthy: frozenset[int] = frozenset()
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What one request was given: GPU indices of the node, and the MIG placement where it is a partition."""

    gpus: tuple[int, ...]
    profile: str = ""
    start: int = -1
    quality_gbps: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A node and, per request in the order of the demand, the exact devices."""

    node: NodeName
    devices: tuple[Devices, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why `nodes` nodes refuse a demand, e.g. 7 x "no 4-GPU NVLink island (largest 3)". Texts are few and stable."""

    text: str
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An immutable picture of the cluster: its nodes and what already runs on them."""

    nodes: tuple[Node, ...]
    running: tuple[tuple[ClaimId, Demand, Placement], ...] = field(default=())
