"""What is in use: the only mutable state of the core, changed by `apply`, `release` and `rollback` alone.

Every change of a node gives it a version of its own, the number of the change, also a rollback, so that nothing
remembered of a node is ever mistaken for the present. A decision made on an older state is refused, with nothing
changed, where its devices are no longer free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

import numpy as np

from packing.classes import DemandClasses
from packing.fabric import Fabric
from packing.kernels.amounts import choice_milli
from packing.kernels.arrays import (
    COUNT,
    CPU,
    EXCLUSIVE,
    GPU_COLUMNS,
    HOSTED_KINDS,
    IDLE,
    KIND,
    KIND_PARTITION,
    KIND_SHARE,
    KIND_WHOLE,
    MAY_RUN_PODS,
    MEMORY,
    NONE,
    OUT,
    PARTITIONED,
    SHARING,
    SLICES,
    USE,
    Choice,
    Ints,
    UsageArrays,
)
from packing.kernels.commit import commit
from packing.kernels.devices import partition_starts, set_all_idle, share_fits
from packing.kernels.jit import direct
from packing.model import ClaimId, Demand, Placement
from topology.errors import InvalidInputError
from topology.mig import MigGeometry

Checkpoint = NewType("Checkpoint", int)

_change_node = direct(commit)
_choice_milli = direct(choice_milli)
_partition_starts = direct(partition_starts)
_share_fits = direct(share_fits)


@dataclass(frozen=True, slots=True)
class Held:
    """What one claim holds, as indices: its demand class, its node and per unit the devices."""

    demand_class: int
    node: int
    gpus: tuple[int, ...]
    profiles: tuple[int, ...]
    starts: tuple[int, ...]

    def choice(self) -> Choice:
        """Return the devices as kernels take them."""
        rows = (self.gpus or (0,), self.profiles or (NONE,), self.starts or (NONE,))
        return Choice(*(np.array(row, dtype=np.int64) for row in rows))


class Usage:
    """Free capacity of a fabric and the claims that hold the rest."""

    def __init__(self, fabric: Fabric, classes: DemandClasses | None = None, arrays: UsageArrays | None = None) -> None:
        """Start with every healthy GPU free, unless `arrays` say what is."""
        self.fabric = fabric
        self.classes = classes or DemandClasses(fabric)
        self.arrays = _all_free(fabric) if arrays is None else arrays
        self.claims: dict[ClaimId, Held] = {}
        self._log: list[tuple[ClaimId, Held, int]] = []
        self._checkpoints = 0

    def copy(self) -> Usage:
        """Return an independent copy (the demand classes, which only grow, are shared)."""
        twin = Usage(self.fabric, self.classes, UsageArrays(*(array.copy() for array in self.arrays)))
        twin.claims = dict(self.claims)
        return twin

    def moved(self, fabric: Fabric, same: Sequence[tuple[int, int]]) -> Usage:
        """Return the usage of `fabric`, in which some nodes, `same` (index here, index there), are as here.

        What claims hold on these nodes comes along, and stays here too; all other nodes there are free.
        """
        twin = Usage(fabric)
        here, there = (np.array([pair[side] for pair in same], dtype=np.int64) for side in (0, 1))
        twin.arrays.nodes[there] = self.arrays.nodes[here]
        twin.arrays.hosted[there] = self.arrays.hosted[here]
        twin.arrays.gpus[_gpu_rows(fabric, there)] = self.arrays.gpus[_gpu_rows(self.fabric, here)]
        node_there, class_there = dict(same), dict[int, int]()
        for claim, held in self.claims.items():
            node = node_there.get(held.node)
            if node is not None:
                c = class_there.get(held.demand_class)
                if c is None:
                    c = class_there[held.demand_class] = twin.classes.index(self.classes.demands[held.demand_class])
                twin.claims[claim] = Held(c, node, held.gpus, held.profiles, held.starts)
        return twin

    def apply(self, claim: ClaimId, demand: Demand, placement: Placement) -> None:
        """Give `claim` the devices of `placement`. InvalidInputError, and no change, where they are not free.

        Capacity is checked, wishes are not: whether the devices are what `demand` selects is for `place()` to decide.
        """
        self._give(claim, demand, placement, running=False)

    def restore(self, claim: ClaimId, demand: Demand, placement: Placement) -> None:
        """Like `apply`, for what runs already: its GPUs may have become unhealthy since."""
        self._give(claim, demand, placement, running=True)

    def _give(self, claim: ClaimId, demand: Demand, placement: Placement, *, running: bool) -> None:
        if claim in self.claims:
            raise InvalidInputError(f"claim {claim}", "", "holds devices already; release it first")
        held = self._held(claim, demand, placement)
        self._check(claim, held, running=running)
        self._commit(claim, held, 1)

    def release(self, claim: ClaimId) -> None:
        """Take back all that `claim` holds. InvalidInputError where it holds nothing."""
        held = self.claims.get(claim)
        if held is None:
            raise InvalidInputError(f"claim {claim}", "", "holds nothing; was it applied, or released before?")
        self._commit(claim, held, -1)

    def taken_milli(self, claim: ClaimId) -> int:
        """Return how much GPU `claim` holds, in thousandths of a GPU (`packing.kernels.amounts`)."""
        held = self.claims[claim]
        arrays = self.classes.arrays
        return int(_choice_milli(self.fabric.arrays, arrays, held.demand_class, held.node, held.choice()))

    def checkpoint(self) -> Checkpoint:
        """Start remembering changes; `rollback` or `forget` ends it. Checkpoints nest."""
        self._checkpoints += 1
        return Checkpoint(len(self._log))

    def rollback(self, mark: Checkpoint) -> None:
        """Undo every change since `mark`, last first."""
        assert self._checkpoints > 0, "rollback without a checkpoint"
        assert mark <= len(self._log), "checkpoints end in reverse order"
        for claim, held, sign in reversed(self._log[mark:]):
            self._change(claim, held, -sign)
        del self._log[mark:]
        self._checkpoints -= 1

    def forget(self, mark: Checkpoint) -> None:
        """Keep the changes since `mark` and end its checkpoint."""
        assert self._checkpoints > 0, "forget without a checkpoint"
        assert mark <= len(self._log), "checkpoints end in reverse order"
        self._checkpoints -= 1
        if self._checkpoints == 0:
            self._log.clear()

    def _commit(self, claim: ClaimId, held: Held, sign: int) -> None:
        self._change(claim, held, sign)
        if self._checkpoints:
            self._log.append((claim, held, sign))

    def _change(self, claim: ClaimId, held: Held, sign: int) -> None:
        _change_node(
            self.fabric.arrays, self.arrays, self.classes.arrays, held.demand_class, held.node, held.choice(), sign
        )
        if sign > 0:
            self.claims[claim] = held
        else:
            del self.claims[claim]

    def _held(self, claim: ClaimId, demand: Demand, placement: Placement) -> Held:
        """Translate names to indices; InvalidInputError where a name means nothing here."""
        node = self.fabric.index.get(placement.node)
        if node is None:
            raise InvalidInputError(f"claim {claim}", "node", f"{placement.node} is not in the cluster")
        if len(placement.devices) != len(demand.requests):
            raise InvalidInputError(f"claim {claim}", "devices", "one entry per request of the demand is needed")
        shape = self.fabric.nodes[node].shape
        gpus, profiles, starts = [], [], []
        for devices in placement.devices:
            if not devices.gpus or any(not 0 <= gpu < len(shape.gpus) for gpu in devices.gpus):
                raise InvalidInputError(f"claim {claim}", "devices", f"GPUs {devices.gpus} are not on {placement.node}")
            gpus.append(sum(1 << gpu for gpu in set(devices.gpus)))
            geometry = shape.gpus[devices.gpus[0]].mig
            if devices.profile and (geometry is None or not geometry.placeable):
                raise InvalidInputError(f"claim {claim}", "profile", f"{placement.node} cannot place MIG partitions")
            profiles.append(_profile_index(claim, geometry, devices.profile) if geometry else NONE)
            starts.append(devices.start)
        return Held(self.classes.index(demand), node, *(_one_copy(tuple(row)) for row in (gpus, profiles, starts)))

    def _check(self, claim: ClaimId, held: Held, *, running: bool) -> None:
        """Refuse what is not free; units of one pod that share a GPU are tried one after the other on a copy."""
        demands, c, n = self.classes.arrays, held.demand_class, held.node
        where = f"claim {claim} on {self.fabric.nodes[n].name}"
        if demands.pods[c, CPU] > self.arrays.nodes[n, CPU] or demands.pods[c, MEMORY] > self.arrays.nodes[n, MEMORY]:
            raise InvalidInputError(where, "cpu, memory", "the node has not enough left")
        seen = 0
        for u, mask in enumerate(held.gpus):
            if mask.bit_count() != demands.units[c, u, COUNT]:
                problem = f"request {u}: {mask.bit_count()} GPUs for a request of {demands.units[c, u, COUNT]}"
                raise InvalidInputError(where, "devices", problem)
            if mask & seen:
                self._check_together(where, held, running=running)
                return
            seen |= mask
            if not _fits(self, held, u, running=running):
                raise InvalidInputError(where, "devices", f"request {u}: is not free on GPUs {_listed(mask)}")

    def _check_together(self, where: str, held: Held, *, running: bool) -> None:
        """Refuse units that fit one by one but not together on a GPU they share."""
        trial = self.copy()
        for u in range(len(held.gpus)):
            if not _fits(trial, held, u, running=running):
                raise InvalidInputError(where, "devices", f"request {u}: does not fit beside the others of this pod")
            _commit_unit(trial, held, u)


@lru_cache(maxsize=4096)
def _one_copy(row: tuple[int, ...]) -> tuple[int, ...]:
    """Return the first such tuple: a million claims hold few different ones, and three apiece would take 200 bytes."""
    return row


def _listed(mask: int) -> str:
    """Return the GPUs of a set as people write them."""
    return ",".join(str(gpu) for gpu in range(mask.bit_length()) if mask >> gpu & 1)


def _fits(usage: Usage, held: Held, u: int, *, running: bool) -> bool:
    """Whether the devices of unit `u` are free; with `running`, an unhealthy GPU may be held by its former user."""
    fabric, gpus = usage.fabric.arrays, usage.arrays.gpus
    unit = usage.classes.arrays.units[held.demand_class, u]
    first = int(fabric.gpu_start[held.node])
    for gpu in range(held.gpus[u].bit_length()):
        g = first + gpu
        if not held.gpus[u] >> gpu & 1:
            continue
        if running and fabric.gpu_modes[g] == 0:
            if not _fits_unhealthy(usage, held, u, g):
                return False
        elif unit[KIND] == KIND_WHOLE:
            if not usage.arrays.nodes[held.node, IDLE] >> gpu & 1:
                return False
        elif unit[KIND] == KIND_PARTITION:
            p, start = held.profiles[u], held.starts[u]
            if p == NONE or start < 0 or not _partition_starts(fabric, p, g, g, gpus) >> start & 1:
                return False
        elif not _share_fits(fabric, unit, g, g, gpus):
            return False
    return True


def _fits_unhealthy(usage: Usage, held: Held, u: int, g: int) -> bool:
    """Whether an unhealthy GPU can be held as stated: only its health is forgiven, and its budgets are unknown."""
    fabric, gpu = usage.fabric.arrays, usage.arrays.gpus[g]
    unit = usage.classes.arrays.units[held.demand_class, u]
    if unit[KIND] == KIND_WHOLE:
        return bool(gpu[USE] == OUT)
    if unit[KIND] == KIND_SHARE:
        return bool(gpu[USE] == OUT or gpu[USE] == unit[SHARING])
    z, p, start = int(fabric.gpu_geometry[g]), held.profiles[u], held.starts[u]
    if z == NONE or p == NONE or start < 0 or gpu[USE] not in (OUT, PARTITIONED):
        return False
    free = not gpu[EXCLUSIVE] & fabric.profile_excl[1, z, p]
    return bool(free and fabric.legal_starts[z, p, gpu[SLICES]] >> start & 1)


def _profile_index(claim: ClaimId, geometry: MigGeometry, profile: str) -> int:
    """Return the place of a profile in its geometry, NONE for no profile; the error names the claim."""
    try:
        return geometry.index(profile) if profile else NONE
    except InvalidInputError as error:
        raise InvalidInputError(f"claim {claim}", "profile", str(error)) from error


def _commit_unit(usage: Usage, held: Held, u: int) -> None:
    """Apply one unit alone: a class of one unit, without the pod's CPU and memory."""
    demand = usage.classes.demands[held.demand_class]
    c = usage.classes.index(Demand(requests=(demand.requests[u],)))
    one = Held(c, held.node, (held.gpus[u],), (held.profiles[u],), (held.starts[u],))
    commit(usage.fabric.arrays, usage.arrays, usage.classes.arrays, c, held.node, one.choice(), 1)


def _gpu_rows(fabric: Fabric, nodes: Ints) -> Ints:
    """Return the rows of the GPUs of some nodes, node by node."""
    starts = fabric.arrays.gpu_start
    counts = starts[nodes + 1] - starts[nodes]
    before = np.cumsum(counts) - counts
    rows: Ints = np.repeat(starts[nodes] - before, counts) + np.arange(counts.sum(), dtype=np.int64)
    return rows


def _all_free(fabric: Fabric) -> UsageArrays:
    """Return the usage of an empty cluster."""
    static = fabric.arrays
    nodes = np.zeros((len(fabric.nodes), 3), dtype=np.int64)
    nodes[:, :IDLE] = static.node_size
    for n in range(len(fabric.nodes)):
        first, last = static.gpu_start[n], static.gpu_start[n + 1]
        usable = np.flatnonzero(static.gpu_modes[first:last] & MAY_RUN_PODS)
        nodes[n, IDLE] = sum(1 << int(i) for i in usable)
    gpus = np.zeros((fabric.gpu_count, GPU_COLUMNS), dtype=np.int64)
    set_all_idle(static, gpus)
    return UsageArrays(
        nodes=nodes,
        gpus=gpus,
        hosted=np.zeros((len(fabric.nodes), HOSTED_KINDS), dtype=np.int64),
        version=np.zeros(len(fabric.nodes), dtype=np.int64),
        recent=_ring(len(fabric.nodes)),
        events=np.zeros(1, dtype=np.int64),
    )


def _ring(nodes: int) -> Ints:
    """[nodes + 1, 2] the nodes in a ring, in index order, none of them changed yet."""
    at = np.arange(nodes + 1, dtype=np.int64)
    return np.ascontiguousarray(np.stack([np.roll(at, 1), np.roll(at, -1)], axis=1))
