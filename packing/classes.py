"""Demand classes: every distinct demand gets a dense index and a row of arrays, once. Append-only."""

from __future__ import annotations

import numpy as np

from packing.fabric import Fabric
from packing.kernels.arrays import (
    ASKED,
    ASKED_MEMORY,
    COUNT,
    KIND,
    KIND_PARTITION,
    KIND_SHARE,
    KIND_WHOLE,
    MIN_QUALITY,
    MPS,
    SHARING,
    TIME_SLICED,
    UNIT_COLUMNS,
    WISH,
    WISH_NONE,
    WISH_PREFER,
    WISH_REQUIRE,
    DemandArrays,
)
from packing.model import (
    MAX_REQUESTS_PER_POD,
    Demand,
    LinkWish,
    PartitionRequest,
    Request,
    Selector,
    ShapeSelector,
    ShareRequest,
    Sharing,
    WholeRequest,
)
from topology.mig import MigGeometry

WISHES = {LinkWish.NONE: WISH_NONE, LinkWish.PREFER: WISH_PREFER, LinkWish.REQUIRE: WISH_REQUIRE}
SHARINGS = {Sharing.TIME_SLICING: TIME_SLICED, Sharing.MPS: MPS}


class DemandClasses:
    """The registry of demand classes of one fabric. Copies of a `Usage` share it: rows are added, never changed."""

    def __init__(self, fabric: Fabric) -> None:
        """Start without classes."""
        self._fabric = fabric
        self._index: dict[Demand, int] = {}
        self._units = 1
        self.demands: list[Demand] = []
        self.arrays = self._empty(8)

    def __len__(self) -> int:
        return len(self.demands)

    def index(self, demand: Demand) -> int:
        """Return the class of `demand`, adding it where it is new."""
        known = self._index.get(demand)
        return self._add(demand) if known is None else known

    def _add(self, demand: Demand) -> int:
        c = len(self.demands)
        if c == len(self.arrays.pods) or len(demand.requests) > self._units:
            self._units = max(self._units, len(demand.requests))
            old, self.arrays = self.arrays, self._empty(max(8, 2 * c))
            for before, after in zip(old, self.arrays, strict=True):
                after[tuple(slice(0, size) for size in before.shape)] = before
        self._write(c, demand)
        self.demands.append(demand)
        self._index[demand] = c
        return c

    def _empty(self, capacity: int) -> DemandArrays:
        shapes, geometries = len(self._fabric.shapes), max(1, len(self._fabric.geometries))
        return DemandArrays(
            pods=np.zeros((capacity, 3), dtype=np.int64),
            units=np.zeros((capacity, self._units, UNIT_COLUMNS), dtype=np.int64),
            allowed=np.zeros((capacity, self._units, shapes), dtype=np.int64),
            profiles=np.zeros((capacity, self._units, geometries), dtype=np.int64),
        )

    def _write(self, c: int, demand: Demand) -> None:
        assert len(demand.requests) <= MAX_REQUESTS_PER_POD
        self.arrays.pods[c] = (demand.cpu_milli, demand.memory_mib, len(demand.requests))
        for u, request in enumerate(demand.requests):
            self._write_unit(c, u, request)

    def _write_unit(self, c: int, u: int, request: Request) -> None:
        unit = self.arrays.units[c, u]
        unit[COUNT] = 1
        self.arrays.allowed[c, u] = allowed_gpus(self._fabric, request.selector)
        match request:
            case WholeRequest():
                unit[KIND] = KIND_WHOLE
                unit[COUNT] = request.count
                unit[WISH] = WISHES[request.link]
                # One GPU has no links to be slow: it satisfies any minimum, as it satisfies "NVLink alone".
                unit[MIN_QUALITY] = round(request.min_gbps * 1000) if request.count > 1 else 0
            case PartitionRequest():
                unit[KIND] = KIND_PARTITION
                self.arrays.profiles[c, u] = _profiles(self._fabric, request)
            case ShareRequest():
                unit[KIND] = KIND_SHARE
                unit[ASKED] = request.compute_milli
                unit[ASKED_MEMORY] = request.memory_mib
                unit[SHARING] = SHARINGS[request.sharing]


def allowed_gpus(fabric: Fabric, selector: Selector) -> list[int]:
    """[S] bit mask of the GPUs of each shape that `selector` admits: evaluated per GPU model, not per device."""
    if isinstance(selector, ShapeSelector):
        assert len(selector.gpus) == len(fabric.shapes), "the selector was made for another fabric"
        return list(selector.gpus)
    return [sum(1 << i for i, gpu in enumerate(shape.gpus) if selector.matches(gpu)) for shape in fabric.shapes]


def _profiles(fabric: Fabric, request: PartitionRequest) -> list[int]:
    """[Z] bit mask of the profiles of each geometry that satisfy `request`; a zero where there is no geometry."""
    if isinstance(request.selector, ShapeSelector):
        assert len(request.selector.profiles) == len(fabric.geometries), "the selector was made for another fabric"
        return list(request.selector.profiles) or [0]
    return [satisfying_profiles(geometry, request) for geometry in fabric.geometries] or [0]


def satisfying_profiles(geometry: MigGeometry, request: PartitionRequest) -> int:
    """Return the profiles of `geometry` that satisfy `request`, bit mask.

    A named profile is that one alone. By size, the profiles with attributes (+me and the like) are left out: who wants
    their engines names them. A size that NVIDIA never published satisfies no minimum.
    """
    mask = 0
    for p, profile in enumerate(geometry.profiles):
        fits = geometry.is_called(profile, request.profile) if request.profile else not profile.attributes
        fits = fits and (profile.memory_mib or 0) >= request.min_memory_mib
        if fits and (profile.sm_count or 0) >= request.min_sms:
            mask |= 1 << p
    return mask
