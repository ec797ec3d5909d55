"""Small clusters, demands and histories for the laws of the core: real machines, flat ones, every kind of demand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from hypothesis import settings
from hypothesis import strategies as st

from packing.fabric import Fabric
from packing.mix import DemandMix
from packing.model import (
    ClaimId,
    Demand,
    GpuModel,
    LinkWish,
    MigMode,
    Node,
    NodeName,
    NodeShape,
    PartitionRequest,
    Placement,
    Request,
    Selector,
    ShareRequest,
    Sharing,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from packing.place import place
from packing.policy import Policy, make_policy
from packing.shapes import shape_of
from packing.usage import Usage
from topology import catalog
from topology.quality import flat_quality

FACTOR = int(os.environ.get("DOVETAIL_EXAMPLES", "1"))
MACHINES = (
    "azure-nc96ads-a100-v4",
    "dgx1-v100",
    "hgx-a100-4gpu",
    "l4-8-pcie",
    "mixed-a100-sxm-pcie",
    "rtx3090-2-nvlink",
)
T4 = GpuModel(product="T4", architecture="Turing", memory_mib=15360, sm_count=40)
P100 = GpuModel(product="P100", architecture="Pascal")
"""Memory unknown, as in the openb trace."""
A30 = GpuModel(
    product="A30", architecture="Ampere", memory_mib=24576, sm_count=56, mig=catalog.mig_geometry("a30-24gb")
)
A100 = GpuModel(
    product="A100", architecture="Ampere", memory_mib=40960, sm_count=108, mig=catalog.mig_geometry("a100-40gb")
)


def examples(number: int) -> settings:
    """Return settings for so many examples, or more where a longer search is asked for."""
    return settings(max_examples=number * FACTOR)


def machine_shape(name: str) -> NodeShape:
    """Return a shipped machine as a node shape."""
    return shape_of(catalog.machine(name))


@cache
def flat_shape(*gpus: GpuModel) -> NodeShape:
    """Return a node shape without known links."""
    return NodeShape("flat", gpus, flat_quality(len(gpus)))


def shapes() -> tuple[NodeShape, ...]:
    """Return all shapes that clusters are made of."""
    flats = [(), (T4,), (P100,) * 4, (A100,), (A100,) * 4, (A30,) * 2, (T4, A100, A30), (A100, A100, T4, T4)]
    return (*(machine_shape(name) for name in MACHINES), *(flat_shape(*gpus) for gpus in flats))


def node(name: str, shape: NodeShape, **options: object) -> Node:
    """Return a node, large enough for anything unless told otherwise."""
    sizes: dict[str, object] = {"cpu_milli": 64_000, "memory_mib": 256_000}
    return Node(name=NodeName(name), shape=shape, **(sizes | options))  # type: ignore[arg-type]


@st.composite
def clusters(draw: st.DrawFn, most: int = 4) -> tuple[Node, ...]:
    """Draw one to `most` nodes."""
    nodes = []
    for at in range(draw(st.integers(1, most))):
        shape = draw(st.sampled_from(shapes()))
        gpus = st.integers(0, max(0, len(shape.gpus) - 1))
        unhealthy = draw(st.one_of(st.just(frozenset()), st.frozensets(gpus, max_size=2))) if shape.gpus else []
        nodes.append(
            node(
                f"n{at}",
                shape,
                cpu_milli=draw(st.sampled_from((4_000, 16_000, 64_000))),
                memory_mib=draw(st.sampled_from((8_000, 64_000))),
                mig_mode=draw(st.sampled_from((MigMode.DISABLED, MigMode.ENABLED, MigMode.DYNAMIC, MigMode.DYNAMIC))),
                unhealthy=frozenset(unhealthy),
                rank=draw(st.integers(0, 2)),
            )
        )
    return tuple(nodes)


SELECTORS = (
    *(Selector() for _ in range(12)),
    Selector(products=("A100", "A30")),
    Selector(products=("T4",)),
    Selector(architectures=("Ampere",)),
    Selector(min_memory_mib=20_000),
)
PROFILES = (
    "1g.5gb",
    "1g.5gb+me",
    "2g.10gb",
    "3g.20gb",
    "4g.20gb",
    "7g.40gb",
    "1g.6gb",
    "1g.6gb+me",
    "2g.12gb",
    "4g.24gb",
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw one device request."""
    selector = draw(st.sampled_from(SELECTORS))
    match draw(st.integers(0, 6)):
        case 0 | 1:
            link = draw(st.sampled_from(list(LinkWish)))
            least = draw(st.sampled_from((0, 0, 10, 50, 150))) if link is LinkWish.REQUIRE else 0
            count = draw(st.sampled_from((1, 1, 2, 2, 3, 4, 8)))
            return WholeRequest(count=count, link=link, min_gbps=least, selector=selector)
        case 2 | 3:
            if draw(st.booleans()):
                return PartitionRequest(profile=draw(st.sampled_from(PROFILES)), selector=selector)
            memory, sms = draw(st.sampled_from(((5_000, 0), (0, 20), (11_000, 14), (19_000, 0), (1, 1))))
            return PartitionRequest(min_memory_mib=memory, min_sms=sms, selector=selector)
        case _:
            compute = draw(st.sampled_from((0, 100, 190, 333, 500, 810, 1000)))
            memory = draw(st.sampled_from((0, 0, 2_000, 10_000, 16_000)))
            sharing = draw(st.sampled_from(list(Sharing)))
            if not (compute or memory):
                compute = 250
            return ShareRequest(compute_milli=compute, memory_mib=memory, sharing=sharing, selector=selector)


@st.composite
def demands(draw: st.DrawFn, most: int = 3) -> Demand:
    """Draw what one pod asks for."""
    number = draw(st.sampled_from((0, 1, 1, 1, 1, 2, 2, 3)))
    return Demand(
        cpu_milli=draw(st.sampled_from((0, 500, 2_000, 8_000))),
        memory_mib=draw(st.sampled_from((0, 512, 4_000))),
        requests=tuple(draw(requests()) for _ in range(min(most, number))),
    )


def mixes() -> st.SearchStrategy[DemandMix]:
    """Draw a history to learn from."""
    return st.lists(st.tuples(demands(), st.integers(1, 9)), min_size=3, max_size=8).map(DemandMix.from_demands)


@dataclass
class World:
    """A cluster under a policy, with a history that can be grown step by step."""

    nodes: tuple[Node, ...]
    fabric: Fabric
    usage: Usage
    policy: Policy

    @classmethod
    def of(cls, nodes: tuple[Node, ...], mix: DemandMix, policy: str, seed: int = 0) -> World:
        """Pack an empty cluster."""
        fabric, usage = pack(Snapshot(nodes=nodes))
        return cls(nodes, fabric, usage, make_policy(policy, mix, fabric, seed=seed))

    def admit(self, claim: str, demand: Demand) -> Placement | None:
        """Place and apply a pod, if it fits."""
        placement = place(self.fabric, self.usage, demand, self.policy).placement
        if placement is not None:
            self.usage.apply(ClaimId(claim), demand, placement)
        return placement

    def evict(self, pick: int) -> str | None:
        """Release some claim, if there is one."""
        if not self.usage.claims:
            return None
        claim = sorted(self.usage.claims)[pick % len(self.usage.claims)]
        self.usage.release(claim)
        return claim


Step = Demand | int
"""Place this demand, or release the claim with this number."""


def histories(longest: int = 12) -> st.SearchStrategy[list[Step]]:
    """Draw arrivals with some departures among them."""
    steps = st.one_of(demands(), demands(), demands(), st.integers(0, 99))
    return st.lists(steps, min_size=longest // 2, max_size=longest)
