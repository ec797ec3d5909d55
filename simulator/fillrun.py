"""One run of the fill protocol: pods arrive one by one, each is tried once and stays, until demand passes capacity.

The pods, the policy and the order of arrival are given; the same arguments always give the same `RunResult`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from packing.explain import explain
from packing.mix import DemandMix
from packing.model import Demand, Node, Reason, Snapshot
from packing.pack import pack
from packing.policy import make_policy
from packing.sequence import SequenceTrace, place_sequence
from simulator.curves import LAST_BIN, Ints, bin_means, event_bins, fill_curve, percent, value_at
from simulator.demands import describe
from simulator.inputs.arrivals import Arrivals, draw_arrivals, read_arrivals, refuse_rejected, with_ranks
from simulator.inputs.openb import PodList, read_nodes, read_pods
from simulator.result import FailedDemand, PlacedPod, PoolUse, RunResult
from topology.errors import InvalidInputError

TIE_RULE = (
    "Among nodes of equal score the one with the smallest rank wins; "
    "the ranks are an order of the nodes that belongs to the seed."
)

_NAME_PREFIX = "openb_pod_list_"
_ENDINGS = (".gz", ".csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class FillSpec:
    """What one run is made of. Small and picklable: files are named here and read where the run happens.

    Without `arrivals`, the order of arrival is drawn from the seed. `detail` adds how each node pool filled up,
    `placements` where every pod went.
    """

    nodes: Path
    pods: Path
    arrivals: Path | None
    policy: str
    seed: int
    skip_bad: bool = False
    detail: bool = False
    placements: bool = False

    @property
    def variant(self) -> str:
        """Name of the pod list."""
        return variant_name(self.pods)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files this run reads: nodes, pods and, where it has them, arrivals."""
        return (self.nodes, self.pods) if self.arrivals is None else (self.nodes, self.pods, self.arrivals)

    @property
    def label(self) -> str:
        """The run in words, for messages."""
        return f"pod list {self.variant}, policy {self.policy}, seed {self.seed}"


@dataclass(frozen=True, slots=True, eq=False)
class _Workload:
    """A pod list on a cluster, with what policies learn from it; read once per process."""

    nodes: tuple[Node, ...]
    pods: PodList
    mix: DemandMix
    capacity_milli: int


def variant_name(pods: Path) -> str:
    """Return the short name of a pod list: `openb_pod_list_cpu050.csv.gz` is `cpu050`."""
    name = pods.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name.removeprefix(_NAME_PREFIX)


def run_fill(spec: FillSpec) -> RunResult:
    """Run `spec` and return its result. Raises InvalidInputError where a file it names cannot be used."""
    work = _workload(spec.nodes, spec.pods, spec.skip_bad)
    arrivals = _arrivals(spec, work)
    nodes = with_ranks(work.nodes, arrivals.node_rank)
    fabric, usage = pack(Snapshot(nodes=tuple(nodes)))
    policy = make_policy(spec.policy, work.mix, fabric, seed=spec.seed)
    order = work.pods.classes[arrivals.pods]
    trace = place_sequence(fabric, usage, work.pods.demands, order, policy)
    arrived_milli = np.cumsum(work.pods.gpu_milli[arrivals.pods])
    bins = event_bins(arrived_milli, work.capacity_milli)
    curve = fill_curve(bins, trace.used_milli, trace.fragmented_milli, work.capacity_milli)
    failed = trace.node < 0
    return RunResult(
        variant=spec.variant,
        policy=spec.policy,
        seed=spec.seed,
        curve=curve,
        unallocated_pct_at_100=_unallocated(curve.allocated_pct, 100),
        unallocated_pct_at_130=_unallocated(curve.allocated_pct, LAST_BIN),
        arrived=len(order),
        placed=int(np.count_nonzero(~failed)),
        failed=int(np.count_nonzero(failed)),
        failed_by=_failed_by(
            work.pods.demands,
            order[failed],
            lambda demand: explain(fabric, usage, demand, policy).reasons(),
        ),
        pools=_pools(fabric.nodes, trace, bins) if spec.detail else (),
        placements=_placements(fabric.nodes, work.pods, arrivals.pods, trace) if spec.placements else None,
    )


@lru_cache(maxsize=2)
def _workload(nodes_path: Path, pods_path: Path, skip_bad: bool) -> _Workload:  # noqa: FBT001 - a cache key
    nodes = sorted(read_nodes(nodes_path), key=lambda node: node.name)
    pods = read_pods(pods_path, skip_bad=skip_bad)
    capacity_milli = 1000 * sum(len(node.shape.gpus) for node in nodes)
    if not capacity_milli:
        raise InvalidInputError(str(nodes_path), "gpu", "no node has a GPU; a fill run needs GPUs to fill")
    return _Workload(tuple(nodes), pods, DemandMix.from_demands(pods.counts()), capacity_milli)


def _arrivals(spec: FillSpec, work: _Workload) -> Arrivals:
    count = len(work.nodes)
    if spec.arrivals is None:
        return draw_arrivals(work.pods, work.capacity_milli, spec.seed, nodes=count)
    refuse_rejected(spec.arrivals, work.pods)
    return read_arrivals(spec.arrivals, spec.variant, spec.seed, pods=len(work.pods), nodes=count)


def _unallocated(allocated_pct: Sequence[float | None], arrived_pct: int) -> float | None:
    allocated = value_at(allocated_pct, arrived_pct)
    return None if allocated is None else round(100 - allocated, 2)


def _failed_by(
    demands: Sequence[Demand], failed: Ints, reasons: Callable[[Demand], tuple[Reason, ...]]
) -> tuple[FailedDemand, ...]:
    """Count failures by the words for their demand, most frequent first, and say what was short at the end."""
    counts: Counter[str] = Counter()
    asked: dict[str, Demand] = {}
    for index, count in enumerate(np.bincount(failed, minlength=len(demands))):
        if count:
            words = describe(demands[index])
            counts[words] += int(count)
            asked[words] = demands[index]
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(FailedDemand(demand=words, count=count, reasons=reasons(asked[words])) for words, count in ranked)


def _pools(nodes: Sequence[Node], trace: SequenceTrace, bins: Ints) -> tuple[PoolUse, ...]:
    """Return how full each pool of nodes of one shape was, largest pool first; nodes without GPUs are left out."""
    gained = np.diff(trace.used_milli, prepend=0)
    names = sorted({node.shape.name for node in nodes if node.shape.gpus})
    pool_of_node = np.array([names.index(node.shape.name) if node.shape.gpus else -1 for node in nodes])
    pool_of_event = np.where(trace.node >= 0, pool_of_node[trace.node], -1)
    pools = []
    for index, name in enumerate(names):
        members = [node for node in nodes if node.shape.name == name]
        gpus = sum(len(node.shape.gpus) for node in members)
        used = np.cumsum(np.where(pool_of_event == index, gained, 0))
        means = bin_means(bins, percent(used, 1000 * gpus), 1)
        pools.append(PoolUse(pool=name, nodes=len(members), gpus=gpus, allocated_pct=means))
    return tuple(sorted(pools, key=lambda pool: (-pool.gpus, pool.pool)))


def _placements(nodes: Sequence[Node], pods: PodList, rows: Ints, trace: SequenceTrace) -> tuple[PlacedPod, ...]:
    return tuple(
        PlacedPod(pod=pods.names[row], node=nodes[node].name if node >= 0 else "", gpus=_indices(int(mask)))
        for row, node, mask in zip(rows, trace.node, trace.devices, strict=True)
    )


def _indices(mask: int) -> tuple[int, ...]:
    return tuple(index for index in range(mask.bit_length()) if mask >> index & 1)
