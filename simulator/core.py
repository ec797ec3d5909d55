"""Binds a replay to the core: the same `place()` that schedules decides where simulated jobs run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

from packing.mix import DemandMix
from packing.model import WHOLE_MILLI, ClaimId, Demand, Node, Placement, Snapshot
from packing.pack import pack
from packing.place import place
from packing.policy import DEFAULT_POLICY, make_policy


class CoreCluster:
    """A cluster of `nodes` under one policy, as `simulator.engine.replay` wants it (`ClusterSide`)."""

    def __init__(
        self,
        nodes: Sequence[Node],
        counts: Iterable[tuple[Demand, int]],
        policy: str = DEFAULT_POLICY,
        seed: int = 0,
        running: Sequence[tuple[ClaimId, Demand, Placement]] = (),
    ) -> None:
        """Start with what is `running`, which stays and is no capacity.

        The policy knows `counts` as the demand mix; `seed` matters to the policy `random` only.
        """
        self.fabric, self.usage = pack(Snapshot(nodes=tuple(nodes), running=tuple(running)))
        self.policy = make_policy(policy, DemandMix.from_demands(counts), self.fabric, seed=seed)
        self.capacity_milli = WHOLE_MILLI * sum(len(node.shape.gpus) - len(node.unhealthy) for node in nodes)
        self.capacity_milli -= sum(self.usage.taken_milli(claim) for claim, _, _ in running)

    def copy(self) -> CoreCluster:
        """Return the same cluster with books of its own."""
        twin = copy(self)
        twin.usage = self.usage.copy()
        return twin

    def try_place(self, demand: Demand, claim: ClaimId) -> int | None:
        """Place `demand` and return the thousandths of GPUs it took; None where it does not fit."""
        placement = place(self.fabric, self.usage, demand, self.policy).placement
        if placement is None:
            return None
        self.usage.apply(claim, demand, placement)
        return self.usage.taken_milli(claim)

    def release(self, claim: ClaimId) -> None:
        """Give back what `claim` holds."""
        self.usage.release(claim)
