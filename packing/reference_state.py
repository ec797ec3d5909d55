"""One node in plain values: who holds what, and from that alone what is left. Slow truth for `packing.kernels`.

Nothing is kept that could go stale: every question is answered from the list of units that hold devices. Production
never imports this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

from packing.model import (
    WHOLE_MILLI,
    Demand,
    Devices,
    GpuModel,
    LinkWish,
    MigMode,
    Node,
    PartitionRequest,
    Request,
    ShareRequest,
    WholeRequest,
)
from topology.mig import EMPTY, MigGeometry, MigProfile, Occupation, interval, legal

Unit = tuple[Request, Devices]
"""One request of one pod and the devices it holds."""


@dataclass(frozen=True)
class Gpu:
    """One GPU of a node and the units that hold a part of it."""

    index: int
    model: GpuModel
    mode: MigMode
    healthy: bool
    units: tuple[Unit, ...]

    @property
    def geometry(self) -> MigGeometry | None:
        """The MIG geometry, where placements are known."""
        return self.model.mig if self.model.mig is not None and self.model.mig.placeable else None

    @property
    def may_run_pods(self) -> bool:
        """Whether whole and share requests may use it: not while it is fixed in MIG mode."""
        return self.healthy and (self.geometry is None or self.mode is not MigMode.ENABLED)

    @property
    def may_be_partitioned(self) -> bool:
        """Whether partitions may be made on it."""
        return self.healthy and self.geometry is not None and self.mode is not MigMode.DISABLED

    @property
    def idle(self) -> bool:
        """Whether nobody uses it and a pod may have it whole."""
        return self.may_run_pods and not self.units

    @property
    def shares(self) -> tuple[ShareRequest, ...]:
        """The shares on it."""
        return tuple(request for request, _ in self.units if isinstance(request, ShareRequest))

    @property
    def for_shares_alone(self) -> bool:
        """Whether nothing but shares (or nothing at all) is on it and shares may be."""
        return self.may_run_pods and len(self.shares) == len(self.units)

    @cached_property
    def left_milli(self) -> int:
        """Compute left to whole and share requests, thousandths."""
        return WHOLE_MILLI - sum(share.compute_milli for share in self.shares) if self.for_shares_alone else 0

    @cached_property
    def left_mib(self) -> int:
        """Memory left to share requests, MiB."""
        return self.model.memory_mib - sum(share.memory_mib for share in self.shares) if self.for_shares_alone else 0

    @cached_property
    def remainder(self) -> int:
        """The scarcer of compute and memory left, thousandths of the GPU."""
        if self.model.memory_mib == 0:
            return self.left_milli
        return min(self.left_milli, self.left_mib * WHOLE_MILLI // self.model.memory_mib)

    @property
    def partitioned(self) -> bool:
        """Whether partitions are on it."""
        return any(isinstance(request, PartitionRequest) for request, _ in self.units)

    @cached_property
    def occupation(self) -> Occupation:
        """The memory slices and engines its partitions take."""
        occupied = EMPTY
        for _, devices in self.units:
            if devices.profile and self.geometry is not None:
                profile = self.geometry.profile(devices.profile)
                slices = occupied.slices | interval(profile, devices.start)
                occupied = Occupation(slices, occupied.exclusive | profile.takes)
        return occupied

    def takes_share(self, request: ShareRequest) -> bool:
        """Whether a share fits: shares of the same sharing only, enough compute and memory left."""
        return (
            request.selector.matches(self.model)
            and self.for_shares_alone
            and all(share.sharing is request.sharing for share in self.shares)
            and request.compute_milli <= self.left_milli
            and request.memory_mib <= self.left_mib
        )

    def partitions(self, request: PartitionRequest) -> list[tuple[MigProfile, int]]:
        """Return every (profile, start) that serves a partition request now, profiles in order, lowest start first."""
        alone = all(isinstance(held, PartitionRequest) for held, _ in self.units)
        if not (self.may_be_partitioned and alone and request.selector.matches(self.model)):
            return []
        assert self.geometry is not None
        return [
            (profile, start)
            for profile in self.geometry.profiles
            if satisfies(profile, request)
            for start in sorted(profile.starts)
            if legal(self.geometry, self.occupation, profile, start)
        ]


def satisfies(profile: MigProfile, request: PartitionRequest) -> bool:
    """Whether a profile serves a request: the one named, or any plain one with the memory and SMs asked for."""
    if request.profile:
        named = request.profile == profile.name or request.profile in profile.alternate_names
    else:
        named = not profile.attributes
    enough = (profile.memory_mib or 0) >= request.min_memory_mib and (profile.sm_count or 0) >= request.min_sms
    return named and enough


@dataclass(frozen=True)
class NodeState:
    """One node, the CPU and memory its pods left, and the units on it."""

    node: Node
    cpu_milli: int
    memory_mib: int
    units: tuple[Unit, ...] = ()

    @cached_property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs in index order."""
        return tuple(
            Gpu(
                index=i,
                model=model,
                mode=self.node.mig_mode,
                healthy=i not in self.node.unhealthy,
                units=tuple(unit for unit in self.units if i in unit[1].gpus),
            )
            for i, model in enumerate(self.node.shape.gpus)
        )

    @property
    def idle(self) -> frozenset[int]:
        """The GPUs that a pod may have whole."""
        return frozenset(gpu.index for gpu in self.gpus if gpu.idle)

    @property
    def left_milli(self) -> int:
        """Compute left on all GPUs, thousandths."""
        return sum(gpu.left_milli for gpu in self.gpus)

    def with_pod(self, demand: Demand) -> NodeState:
        """Return the node with the CPU and memory of a pod taken, its devices not yet."""
        cpu, memory = self.cpu_milli - demand.cpu_milli, self.memory_mib - demand.memory_mib
        return replace(self, cpu_milli=cpu, memory_mib=memory)

    def with_unit(self, request: Request, devices: Devices) -> NodeState:
        """Return the node with one more unit."""
        return replace(self, units=(*self.units, (request, devices)))

    def wholes(self, request: WholeRequest) -> list[int]:
        """Return every legal set of GPUs for a whole request as bit masks, in numerical order."""
        usable = sorted(i for i in self.idle if request.selector.matches(self.gpus[i].model))
        sets = (sum(1 << i for i in chosen) for chosen in combinations(usable, request.count))
        return sorted(mask for mask in sets if self.joined(request, mask))

    def joined(self, request: WholeRequest, mask: int) -> bool:
        """Whether the links of a set meet the wish: a minimum quality, or NVLink alone."""
        if request.link is not LinkWish.REQUIRE or request.count == 1:
            return True
        links = self.node.shape.links
        if request.min_gbps:
            return int(links.quality_mbps[mask]) >= round(request.min_gbps * 1000)
        return bool(links.nvlink[mask])

    def options(self, request: Request) -> Iterator[Devices]:
        """Every legal choice of devices for one request, lowest GPUs first, then profiles in order, then starts."""
        match request:
            case WholeRequest():
                for mask in self.wholes(request):
                    yield self.devices(mask)
            case ShareRequest():
                for gpu in self.gpus:
                    if gpu.takes_share(request):
                        yield self.devices(1 << gpu.index)
            case PartitionRequest():
                for gpu in self.gpus:
                    for profile, start in gpu.partitions(request):
                        yield self.devices(1 << gpu.index, profile.name, start)

    def devices(self, mask: int, profile: str = "", start: int = -1) -> Devices:
        """Name the devices of a set."""
        quality = int(self.node.shape.links.quality_mbps[mask]) / 1000
        return Devices(gpus=bits(mask), profile=profile, start=start, quality_gbps=quality)


def bits(mask: int) -> tuple[int, ...]:
    """Return the GPUs of a set, lowest first."""
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)
