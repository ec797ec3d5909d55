"""What nodes with equal pools have in common: their devices as bits, and which of them are which part of which GPU.

A node is *plain* where core and devices say the same: each GPU is one whole device, or whole, partitions and shares
that exclude each other by counters exactly as the core has it (a GPU is whole, partitioned or shared in one way at a
time, partitions where the MIG geometry lets them be). Elsewhere the general search decides, never `place()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from packing.dra.model import Amount, DeviceShape, GpuPart, PartKind, PoolShape, Reach
from packing.model import GpuModel, MigMode, Node, NodeShape
from topology.mig import EMPTY, MigGeometry, legal, place, placements

PlacementKey = tuple[str, int]
"""Profile and start."""


@dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """Devices of a node by bit. `shape` is the node shape's index in the fabric; `masks` what is reached of each pool.

    `wholes` has the bit of each whole GPU, `partitions` and `shares` those of the parts of each GPU.
    """

    shape: int
    gpus: NodeShape
    pools: tuple[PoolShape, ...]
    masks: tuple[int, ...]
    starts: tuple[int, ...]
    wholes: Mapping[int, int]
    partitions: Mapping[int, Mapping[PlacementKey, int]]
    shares: Mapping[int, Mapping[str, int]]
    plain: bool

    @cached_property
    def has_parts(self) -> tuple[bool, ...]:
        """Per pool: whether devices of it are GPUs of ours."""
        return tuple(any(device.part for device in pool.devices) for pool in self.pools)

    @cached_property
    def reached(self) -> int:
        """Devices that the node reaches, bit mask."""
        return sum(mask << start for mask, start in zip(self.masks, self.starts, strict=True))

    @cached_property
    def devices(self) -> tuple[DeviceShape, ...]:
        """Devices by bit, also those that the node does not reach."""
        return tuple(device for pool in self.pools for device in pool.devices)

    @cached_property
    def parts(self) -> Mapping[int, GpuPart]:
        """Bit -> part of a GPU of ours."""
        return {bit: device.part for bit, device in enumerate(self.devices) if device.part and self.reached >> bit & 1}

    def place_of(self, bit: int) -> tuple[int, int]:
        """Return (which of the pools, position in it)."""
        r = max(r for r, start in enumerate(self.starts) if start <= bit)
        return r, bit - self.starts[r]


def layout_of(node: Node, shape: int, reached: tuple[Reach, ...]) -> Layout:
    """Return the layout of `node`, whose shape is the fabric's `shape`-th."""
    sizes = [len(one.pool.shape.devices) for one in reached]
    starts = [0]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    wholes: dict[int, int] = {}
    partitions: dict[int, dict[PlacementKey, int]] = {}
    shares: dict[int, dict[str, int]] = {}
    twice = False
    for bit, part in _parts(reached, starts):
        if part.kind is PartKind.WHOLE:
            twice |= part.gpu in wholes
            wholes[part.gpu] = bit
        elif part.kind is PartKind.PARTITION:
            of_gpu = partitions.setdefault(part.gpu, {})
            twice |= (part.profile, part.start) in of_gpu
            of_gpu[part.profile, part.start] = bit
        else:
            of_gpu_shares = shares.setdefault(part.gpu, {})
            twice |= part.sharing in of_gpu_shares
            of_gpu_shares[part.sharing] = bit
    layout = Layout(
        shape=shape,
        gpus=node.shape,
        pools=tuple(one.pool.shape for one in reached),
        masks=tuple(one.mask for one in reached),
        starts=tuple(starts[: len(reached)]),
        wholes=wholes,
        partitions=partitions,
        shares=shares,
        plain=False,
    )
    local = all(one.local for one, has in zip(reached, layout.has_parts, strict=True) if has)
    bound = any(layout.devices[bit].binding_conditions for bit in layout.parts)  # the core would give them all the same
    plain = local and not twice and not bound and all(_agrees(node, layout, gpu) for gpu in range(len(node.shape.gpus)))
    object.__setattr__(layout, "plain", plain)
    return layout


def _parts(reached: tuple[Reach, ...], starts: list[int]) -> Iterator[tuple[int, GpuPart]]:
    for one, start in zip(reached, starts, strict=False):
        for at, device in enumerate(one.pool.shape.devices):
            if device.part is not None and one.mask >> at & 1:
                yield start + at, device.part


def _agrees(node: Node, layout: Layout, gpu: int) -> bool:
    """Whether the devices of a GPU are what the core takes it for."""
    model: GpuModel = node.shape.gpus[gpu]
    divided = model.mig is not None and model.mig.placeable
    cut = divided and node.mig_mode is not MigMode.DISABLED
    runs = not (divided and node.mig_mode is MigMode.ENABLED)
    parts, shares = layout.partitions.get(gpu, {}), layout.shares.get(gpu, {})
    if not (gpu in layout.wholes or parts or shares):
        return gpu in node.unhealthy
    if bool(parts) != cut or (gpu in layout.wholes) != runs or (shares and not runs):
        return False
    alone = [layout.wholes[gpu]] if runs else []
    alone += shares.values()
    if len(alone) + len(parts) > 1 and not _exclusive(layout, alone, list(parts.values())):
        return False
    return not parts or _as_geometry(layout, model.mig, parts)


def _exclusive(layout: Layout, alone: list[int], parts: list[int]) -> bool:
    """Whether each of `alone` keeps all others of the GPU out: it needs all of a counter that each of them needs."""
    totals = layout.pools[layout.place_of((alone + parts)[0])[0]].counters
    for at, one in enumerate(alone):
        full = {use[:2] for use in layout.devices[one].consumes if use.amount == totals.get(use[:2])}
        for other in [*alone[at + 1 :], *parts]:
            if not any(use.amount > 0 and use[:2] in full for use in layout.devices[other].consumes):
                return False
    # A counter shared with another GPU would tie the two together, of which the core knows nothing.
    own = {*alone, *parts}
    sets = {use.counter_set for bit in own for use in layout.devices[bit].consumes}
    others = (device for bit, device in enumerate(layout.devices) if bit not in own)
    return not any(use.counter_set in sets for device in others for use in device.consumes)


def _as_geometry(layout: Layout, geometry: MigGeometry | None, parts: Mapping[PlacementKey, int]) -> bool:
    """Whether counters let partitions stand beside each other exactly where the geometry does.

    Looked at in pairs, and how many of each profile: that is what geometries consist of (intervals, exclusive bits).
    """
    assert geometry is not None
    options = placements(geometry)
    if {(profile.name, start) for profile, start in options} != set(parts):
        return False
    totals = layout.pools[layout.place_of(next(iter(parts.values())))[0]].counters
    uses = [_uses(layout.devices[parts[profile.name, start]]) for profile, start in options]
    for one, (profile, start) in enumerate(options):
        occupied = place(geometry, EMPTY, profile, start)
        for other, option in enumerate(options):
            if other != one and legal(geometry, occupied, *option) != _both(totals, uses[one], uses[other]):
                return False
    return True


def _uses(device: DeviceShape) -> dict[tuple[str, str], Amount]:
    return {use[:2]: use.amount for use in device.consumes}


def _both(
    totals: Mapping[tuple[str, str], Amount],
    one: Mapping[tuple[str, str], Amount],
    other: Mapping[tuple[str, str], Amount],
) -> bool:
    return all(amount + other.get(name, 0) <= totals[name] for name, amount in one.items())
