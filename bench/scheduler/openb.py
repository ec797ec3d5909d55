"""The openb trace as objects of a cluster: its nodes with slices and ranks, its pods with named claims.

Nothing is added that the trace does not have but GPU memory, which Kubernetes wants to be told and the trace leaves
out: every share asks for the least there is, so that compute alone decides.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.publish import DRIVER_NAME, resource_slices
from kube.arrange import RANK
from packing.model import Demand, Node, Request, ShareRequest, WholeRequest
from sandbox import objects
from sandbox.objects import Manifest
from simulator.curves import Ints, bin_means, event_bins, percent, value_at
from simulator.fillrun import FillSpec, run_fill
from simulator.inputs.arrivals import Arrivals, read_arrivals, with_ranks
from simulator.inputs.openb import PodList, read_nodes, read_pods
from simulator.result import PlacedPod
from topology.modes import Sharing

EXAMPLES = Path(__file__).parents[2] / "examples" / "openb"
NODES = "openb_node_list_gpu_node.csv.gz"
PODS = "openb_pod_list_{}.csv.gz"
ARRIVALS = "openb_arrivals_seeds42-51.npz"
SHARES = "time-slicing.gpu.dovetail.dev"
GPU_MEMORY_BYTES = 16 << 30
SHARE_MEMORY = "1Mi"
COMPUTE = "computeMilli"
_UUIDS = uuid.uuid5(uuid.NAMESPACE_DNS, "openb.dovetail.dev")


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A fill run of the planner: who arrives in which order on which nodes, and the files that say so."""

    spec: FillSpec
    nodes: tuple[Node, ...]
    """By name, with their ranks."""
    pods: PodList
    rows: Ints
    """Arrival -> row of the pod list."""

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, arrival: int) -> str:
        """Name the pod and the claim of an arrival; rows may come twice."""
        return f"{self.pods.names[self.rows[arrival]]}-{arrival}"

    def demand(self, arrival: int) -> Demand:
        """Return what an arrival asks for."""
        return self.pods.demand(int(self.rows[arrival]))

    def capacity_milli(self) -> int:
        """Return the GPUs of the nodes in thousandths."""
        return 1000 * sum(len(node.shape.gpus) for node in self.nodes)

    def planned(self) -> tuple[tuple[PlacedPod, ...], float | None]:
        """Return what `dovetail simulate` says: where each arrival goes, and unallocated % at 100 % arrived."""
        result = run_fill(self.spec)
        assert result.placements is not None, "asked for"
        return result.placements[: len(self)], result.unallocated_pct_at_100

    def unallocated_pct_at_100(self, taken_milli: Sequence[int]) -> float | None:
        """Return the planner's figure for arrivals that took so much of GPUs; None where too few arrived."""
        bins = event_bins(np.cumsum(self.pods.gpu_milli[self.rows]), self.capacity_milli())
        used = np.cumsum(np.asarray(taken_milli, dtype=np.int64))
        allocated = value_at(bin_means(bins, percent(used, self.capacity_milli()), 2), 100)
        return None if allocated is None else round(100 - allocated, 2)


def trace(seed: int = 42, *, variant: str = "default", policy: str = "dovetail") -> Trace:
    """Return the openb trace, one of its pod lists, up to the arrival with which all demand of 100 % is there."""
    return _read(
        FillSpec(
            nodes=EXAMPLES / NODES,
            pods=EXAMPLES / PODS.format(variant),
            arrivals=EXAMPLES / ARRIVALS,
            policy=policy,
            seed=seed,
            placements=True,
        )
    )


def reduced(whole: Trace, folder: Path, *, nodes: int, pods: int) -> Trace:
    """Return the first `pods` arrivals of a trace on `nodes` of its nodes, evenly chosen; writes its files."""
    chosen = np.linspace(0, len(whole.nodes) - 1, nodes).astype(int)
    kept = [whole.nodes[at] for at in chosen]
    lines = ["sn,cpu_milli,memory_mib,gpu,model"]
    for node in kept:
        model = node.shape.gpus[0].product if node.shape.gpus else ""
        lines.append(f"{node.name},{node.cpu_milli},{node.memory_mib},{len(node.shape.gpus)},{model}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nodes.csv").write_text("\n".join(lines) + "\n")
    ranks = np.argsort(np.argsort([node.rank for node in kept]))
    key = f"{whole.spec.variant}/{whole.spec.seed}"
    arrays = {f"{key}/pods": whole.rows[:pods], f"{key}/node_rank": ranks}
    np.savez(folder / "arrivals.npz", **arrays)  # type: ignore[arg-type]
    spec = whole.spec
    return _read(
        FillSpec(
            nodes=folder / "nodes.csv",
            pods=spec.pods,
            arrivals=folder / "arrivals.npz",
            policy=spec.policy,
            seed=spec.seed,
            placements=True,
        )
    )


def _read(spec: FillSpec) -> Trace:
    nodes, pods = read_nodes(spec.nodes), read_pods(spec.pods)
    assert spec.arrivals is not None, "given"
    arrivals: Arrivals = read_arrivals(spec.arrivals, spec.variant, spec.seed, pods=len(pods), nodes=len(nodes))
    ranked = tuple(with_ranks(nodes, arrivals.node_rank))
    milli = 1000 * sum(len(node.shape.gpus) for node in ranked)
    bins = event_bins(np.cumsum(pods.gpu_milli[arrivals.pods]), milli)
    end = int(np.searchsorted(bins, 101))
    if not end or bins[end - 1] < 100:  # a large pod on a small cluster jumps over 100 %
        end += 1
    return Trace(spec, ranked, pods, arrivals.pods[:end])


def node_manifest(node: Node) -> Manifest:
    """Return a node of the trace."""
    capacity = {"cpu": f"{node.cpu_milli}m", "memory": f"{node.memory_mib}Mi"}
    manifest = objects.node(node.name, capacity=capacity)
    manifest["metadata"]["annotations"] = {RANK: str(node.rank)}
    return manifest


def slice_manifests(node: Node) -> list[Manifest]:
    """Return its slices: each GPU whole, or in shares that take turns."""
    gpus = tuple(
        Gpu(
            index=index,
            minor=index,
            uuid=f"GPU-{uuid.uuid5(_UUIDS, f'{node.name}/{index}')}",
            product=gpu.product,
            memory_bytes=GPU_MEMORY_BYTES,
            sharing=(Sharing.TIME_SLICING,),
        )
        for index, gpu in enumerate(node.shape.gpus)
    )
    return resource_slices(NodeGpus(node=node.name, gpus=gpus))


def pod_manifest(trace: Trace, arrival: int, namespace: str, scheduler: str) -> Manifest:
    """Return the pod of an arrival."""
    demand, name = trace.demand(arrival), trace.name(arrival)
    pod = objects.pod(namespace, name, claim=name if demand.requests else None, scheduler=scheduler)
    (container,) = pod["spec"]["containers"]
    requests = {"cpu": f"{demand.cpu_milli}m", "memory": f"{demand.memory_mib}Mi"}
    container["resources"] = {**container.get("resources", {}), "requests": requests}
    return pod


def claim_manifest(trace: Trace, arrival: int, namespace: str) -> Manifest | None:
    """Return the claim of an arrival, if it asks for GPUs."""
    requests = trace.demand(arrival).requests
    if not requests:
        return None
    (request,) = requests
    claim = objects.claim(namespace, trace.name(arrival), _class(request), *_selectors(request), count=_count(request))
    if isinstance(request, ShareRequest):
        amounts = {COMPUTE: str(request.compute_milli), "memory": SHARE_MEMORY}
        claim["spec"]["devices"]["requests"][0]["exactly"]["capacity"] = {"requests": amounts}
    return claim


def _class(request: Request) -> str:
    return SHARES if isinstance(request, ShareRequest) else DRIVER_NAME


def _count(request: Request) -> int:
    return request.count if isinstance(request, WholeRequest) else 1


def _selectors(request: Request) -> list[str]:
    """Return the GPU models of a request as CEL; `A|B` in the trace is either."""
    product = f'device.attributes["{DRIVER_NAME}"].productName'
    names = [f'{product} == "{each}"' for each in request.selector.products]
    return [" || ".join(names)] if names else []
