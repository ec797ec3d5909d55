"""Suite X1 on the product's own code: `place()` decides, `Usage` keeps the books, one by one or a whole run at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from packing.kernels.arrays import NONE, new_choice
from packing.memory import Memory
from packing.policy import DEFAULT_POLICY, Constants
from packing.usage import Usage
from simulator.quality.arrivals import Arrivals, Ints
from simulator.quality.mixeddemand import NODES, Ask, history
from simulator.quality.mixedkernel import churn_all
from simulator.quality.product import Product, pool_nodes


class ProductPool(Product):
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
        demands = {kind: ask.demand for kind, ask in enumerate(asks)}
        super().__init__(pool_nodes(nodes), demands, history(asks), policy, seed, constants)

    def run(self, arrivals: Arrivals) -> tuple[Ints, Ints]:
        """Return node (-1: refused) and GPUs (bit mask) of each job: `churn` on a fresh pool, in compiled code."""
        usage = Usage(self.fabric)
        classes = np.array([usage.classes.index(demand) for demand in self.demands.values()], dtype=np.int64)
        memory = Memory.of_rows(self.policy, len(classes))
        node = np.full(len(arrivals), NONE, dtype=np.int64)
        devices = new_choice(len(arrivals))
        churn_all(
            self.fabric.arrays,
            usage.arrays,
            self.policy.arrays,
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
