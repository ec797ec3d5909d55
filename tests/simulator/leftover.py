"""What each node has left at the end of a fill run, and what of it falls short of a demand: from the trace alone.

Apart from the code that decided, so that a test can hold one against the other: since nothing leaves during a fill, a
demand that was refused once must be refused by every node at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from packing.model import MAX_GPUS_PER_NODE, WHOLE_MILLI, Demand, Node, Reason, Selector, ShareRequest, WholeRequest
from simulator.curves import Ints

NO_SUCH_GPU = "has no GPU of the kind asked for"
GPUS_TAKEN = "too few GPUs are free"
SHARES_TAKEN = "no GPU has enough left"
CPU_SHORT = "GPUs are left, but too few cores"
MEMORY_SHORT = "GPUs and cores are left, but too little memory"

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Leftover:
    """What each node has left: millicores, MiB, and thousandths per GPU (0 beyond its last GPU)."""

    nodes: tuple[Node, ...]
    cpu_milli: Ints
    memory_mib: Ints
    gpu_milli: Ints

    def refusals(self, demand: Demand) -> tuple[Reason, ...]:
        """Return why nodes cannot take `demand`, most nodes first; each node is counted once, for its first lack.

        Empty for a demand of several requests or of partitions: the fill protocol has none.
        """
        gpus = self._gpu_lacks(demand)
        if gpus is None:
            return ()
        lacks = [*gpus, (CPU_SHORT, self.cpu_milli < demand.cpu_milli)]
        lacks.append((MEMORY_SHORT, self.memory_mib < demand.memory_mib))
        counted = np.zeros(len(self.nodes), dtype=np.bool_)
        found = []
        for text, short in lacks:
            found.append(Reason(text=text, nodes=int(np.count_nonzero(short & ~counted))))
            counted |= short
        return tuple(sorted((lack for lack in found if lack.nodes), key=lambda lack: -lack.nodes))

    def _gpu_lacks(self, demand: Demand) -> list[tuple[str, Flags]] | None:
        if not demand.requests:
            return []
        request = demand.requests[0]
        if len(demand.requests) > 1 or not isinstance(request, WholeRequest | ShareRequest):
            return None
        kind = (NO_SUCH_GPU, ~self._has_kind(request.selector))
        if isinstance(request, WholeRequest):
            return [kind, (GPUS_TAKEN, (self.gpu_milli == WHOLE_MILLI).sum(axis=1) < request.count)]
        return [kind, (SHARES_TAKEN, self.gpu_milli.max(axis=1) < request.compute_milli)]

    def _has_kind(self, selector: Selector) -> Flags:
        by_shape = {id(node.shape): any(map(selector.matches, node.shape.gpus)) for node in self.nodes}
        return np.array([by_shape[id(node.shape)] for node in self.nodes], dtype=np.bool_)


def leftover(nodes: tuple[Node, ...], demands: Sequence[Demand], order: Ints, node_of: Ints, devices: Ints) -> Leftover:
    """Return what is left after `demands[order[t]]` went to node `node_of[t]` (-1: nowhere), GPUs `devices[t]`."""
    placed = node_of >= 0
    where, what, masks = node_of[placed], order[placed], devices[placed]
    share = np.array([_milli_per_gpu(demand) for demand in demands], dtype=np.int64)[what]
    gpu_milli = np.zeros((len(nodes), MAX_GPUS_PER_NODE), dtype=np.int64)
    for at, node in enumerate(nodes):
        gpu_milli[at, : len(node.shape.gpus)] = WHOLE_MILLI
    for gpu in range(MAX_GPUS_PER_NODE):
        gpu_milli[:, gpu] -= _sums(where, share * (masks >> gpu & 1), len(nodes))
    cpu = np.array([demand.cpu_milli for demand in demands], dtype=np.int64)[what]
    memory = np.array([demand.memory_mib for demand in demands], dtype=np.int64)[what]
    return Leftover(
        nodes,
        np.array([node.cpu_milli for node in nodes], dtype=np.int64) - _sums(where, cpu, len(nodes)),
        np.array([node.memory_mib for node in nodes], dtype=np.int64) - _sums(where, memory, len(nodes)),
        gpu_milli,
    )


def _milli_per_gpu(demand: Demand) -> int:
    request = demand.requests[0] if demand.requests else None
    return request.compute_milli if isinstance(request, ShareRequest) else WHOLE_MILLI


def _sums(where: Ints, amounts: Ints, nodes: int) -> Ints:
    total = np.zeros(nodes, dtype=np.int64)
    np.add.at(total, where, amounts)
    return total
