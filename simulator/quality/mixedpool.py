"""Suite X1 on the product's own code: `place()` decides, `Usage` keeps the books, one by one or a whole run at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from packing.kernels.arrays import NONE, new_choice
from packing.memory import Memory
from packing.model import ClaimId, MigMode, Node, NodeName, Snapshot
from packing.pack import pack
from packing.place import place
from packing.policy import DEFAULT_POLICY, Constants, make_policy
from packing.shapes import shape_of
from packing.usage import Usage
from simulator.quality.arrivals import Arrivals, Ints
from simulator.quality.churn import Spot
from simulator.quality.mixeddemand import MACHINE, NODES, Ask, history
from simulator.quality.mixedkernel import churn_all
from topology.catalog import machine

CPU_MILLI = 1_000_000
MEMORY_MIB = 1_000_000
"""More than any node is asked for: the suite is about GPUs alone, its jobs ask for nothing else."""


class ProductPool:
    """A policy of the product on nodes whose GPUs are whole, cut or shared as demand asks.

    It knows the mix of what it is asked for, as it would from history.
    """

    def __init__(
        self,
        asks: Sequence[Ask],
        policy: str = DEFAULT_POLICY,
        *,
        nodes: int = NODES,
        seed: int = 0,
        constants: Constants | None = None,
    ) -> None:
        shape = shape_of(machine(MACHINE))
        members = tuple(
            Node(
                name=NodeName(f"node-{i:03}"),
                shape=shape,
                cpu_milli=CPU_MILLI,
                memory_mib=MEMORY_MIB,
                mig_mode=MigMode.DYNAMIC,
            )
            for i in range(nodes)
        )
        self._fabric, self.usage = pack(Snapshot(nodes=members))
        self._demands = [ask.demand for ask in asks]
        self._policy = make_policy(policy, history(asks), self._fabric, seed=seed, constants=constants)

    def take(self, job: int, kind: int) -> Spot | None:
        """Place a job that asks for `asks[kind]`."""
        demand = self._demands[kind]
        placement = place(self._fabric, self.usage, demand, self._policy).placement
        if placement is None:
            return None
        self.usage.apply(ClaimId(str(job)), demand, placement)
        return self._fabric.index[placement.node], sum(1 << gpu for gpu in placement.devices[0].gpus)

    def release(self, job: int) -> None:
        """Give back what a job holds."""
        self.usage.release(ClaimId(str(job)))

    def run(self, arrivals: Arrivals) -> tuple[Ints, Ints]:
        """Return node (-1: refused) and GPUs (bit mask) of each job: `churn` on a fresh pool, in compiled code."""
        usage = Usage(self._fabric)
        classes = np.array([usage.classes.index(demand) for demand in self._demands], dtype=np.int64)
        policy = self._policy.arrays
        memory = Memory(len(self._fabric.nodes), policy.fgd_sizes.size, rows=len(classes), max_rows=len(classes))
        node = np.full(len(arrivals), NONE, dtype=np.int64)
        devices = new_choice(len(arrivals))
        churn_all(
            self._fabric.arrays,
            usage.arrays,
            policy,
            usage.classes.arrays,
            classes,
            arrivals.kind,
            events_of(arrivals),
            memory.cache,
            memory.local,
            memory.choice,
            node,
            devices,
        )
        return node, devices.gpus[: len(arrivals)]


def events_of(arrivals: Arrivals) -> Ints:
    """Return arrivals (j) and departures (-1 - j) in the order of `churn`: at one instant departures first, by job."""
    jobs = np.arange(len(arrivals), dtype=np.int64)
    times = np.concatenate([arrivals.time + arrivals.life, arrivals.time])
    comes = np.repeat([0, 1], len(jobs))
    order = np.lexsort((np.concatenate([jobs, jobs]), comes, times))
    return np.concatenate([-1 - jobs, jobs])[order]
