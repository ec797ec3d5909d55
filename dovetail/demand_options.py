"""The options that say what a pod asks for and of which cluster, shared by `fit` and `explain`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.amounts import check_gbps, cores_milli, memory_mib
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from packing.fabric import Fabric
    from packing.mix import DemandMix
    from packing.model import Demand, Node, Request
    from packing.policy import Policy
    from packing.usage import Usage

ClusterOpt = Annotated[Path | None, typer.Option(help="Cluster file (YAML).", rich_help_panel="Cluster")]
NodesOpt = Annotated[
    Path | None, typer.Option(help="Instead: an openb node list (CSV, also .gz).", rich_help_panel="Cluster")
]
RunningOpt = Annotated[
    list[Path] | None,
    typer.Option(
        help="What runs there (.csv, or .json with a list `claims`): claim, node, kind (whole, partition, share, cpu), "
        "gpus (0-3), profile (2g.20gb@0), share_compute_milli, share_memory_mib, sharing, cpu_milli, memory_mib. "
        "Repeat for several files.",
        rich_help_panel="Cluster",
    ),
]
PolicyOpt = Annotated[str, typer.Option(help="Who decides; see `simulate --help`.", rich_help_panel="Cluster")]
GpusOpt = Annotated[int | None, typer.Option(min=1, max=16, help="Whole GPUs.", rich_help_panel="Whole GPUs")]
LinkOpt = Annotated[
    str | None, typer.Option(help="Links between them: none, prefer or require.", rich_help_panel="Whole GPUs")
]
MinGbpsOpt = Annotated[float | None, typer.Option(min=0, help="Least set quality, GB/s.", rich_help_panel="Whole GPUs")]
MinGpuMemoryOpt = Annotated[
    str | None, typer.Option(help="Least memory of each, as in 40Gi.", rich_help_panel="Whole GPUs")
]
ProfileOpt = Annotated[str | None, typer.Option(help="MIG profile, as in 2g.20gb.", rich_help_panel="MIG partition")]
MinMemoryOpt = Annotated[
    str | None, typer.Option(help="Or: least memory, as in 20Gi.", rich_help_panel="MIG partition")
]
MinSmsOpt = Annotated[int | None, typer.Option(min=1, help="Or: least SMs.", rich_help_panel="MIG partition")]
ShareComputeOpt = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Thousandths of a GPU.", rich_help_panel="Share of a GPU")
]
ShareMemoryOpt = Annotated[str | None, typer.Option(help="GPU memory, as in 8Gi.", rich_help_panel="Share of a GPU")]
SharingOpt = Annotated[str | None, typer.Option(help="time-slicing or mps.", rich_help_panel="Share of a GPU")]
ProductOpt = Annotated[
    list[str] | None, typer.Option(help="GPU product; repeat for alternatives.", rich_help_panel="Pod")
]
CpuOpt = Annotated[str, typer.Option(help="Cores of the pod, as in 8 or 500m.", rich_help_panel="Pod")]
MemoryOpt = Annotated[str, typer.Option(help="Memory of the pod, as in 64Gi.", rich_help_panel="Pod")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandOptions:
    """The options of a demand as they were written; None where left out."""

    gpus: int | None
    link: str | None
    min_gbps: float | None
    min_gpu_memory: str | None
    profile: str | None
    min_memory: str | None
    min_sms: int | None
    share_compute: int | None
    share_memory: str | None
    sharing: str | None
    product: list[str] | None
    cpu: str
    memory: str

    def given(self) -> list[str]:
        """Return the options that were written, as they are spelled."""
        unsaid = {"cpu": "0", "memory": "0"}
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return [f"--{name.replace('_', '-')}" for name, value in values.items() if value != unsaid.get(name)]

    def demand(self) -> Demand:
        """Return the demand. BadParameter for options that exclude each other, InvalidInputError for bad values."""
        from packing.model import Demand

        request = self._request()
        cpu, memory = cores_milli(self.cpu, "--cpu"), memory_mib(self.memory, "--memory")
        if request is None and not (cpu or memory):
            raise typer.BadParameter(
                "say what is asked for: --gpus, --profile, --min-memory, --share-compute, --share-memory or --cpu"
            )
        return Demand(cpu_milli=cpu, memory_mib=memory, requests=(request,) if request else ())

    def _request(self) -> Request | None:
        """Return the device request; the options of one kind exclude those of the others."""
        from packing.model import PartitionRequest, Selector, ShareRequest, Sharing, WholeRequest

        kinds: dict[str, tuple[Any, ...]] = {
            "--gpus, --link, --min-gbps, --min-gpu-memory": (self.gpus, self.link, self.min_gbps, self.min_gpu_memory),
            "--profile, --min-memory, --min-sms": (self.profile, self.min_memory, self.min_sms),
            "--share-compute, --share-memory, --sharing": (self.share_compute, self.share_memory, self.sharing),
        }
        used = [names for names, values in kinds.items() if any(value is not None for value in values)]
        if len(used) > 1:
            raise typer.BadParameter(f"{used[0]} and {used[1]} exclude each other")
        selector = Selector(products=tuple(self.product or ()))
        if not used:
            if self.product:
                raise typer.BadParameter("--product goes with --gpus, a partition or a share")
            return None
        if used[0].startswith("--gpus"):
            if self.gpus is None:
                raise typer.BadParameter("--link, --min-gbps and --min-gpu-memory go with --gpus")
            min_gbps = self.min_gbps or 0
            check_gbps(min_gbps)
            selector = replace(selector, min_memory_mib=self._memory(self.min_gpu_memory, "--min-gpu-memory"))
            return WholeRequest(count=self.gpus, link=self._link(), min_gbps=min_gbps, selector=selector)
        if used[0].startswith("--profile"):
            least = self._memory(self.min_memory, "--min-memory")
            return PartitionRequest(
                profile=self.profile or "", min_memory_mib=least, min_sms=self.min_sms or 0, selector=selector
            )
        if self.sharing not in (None, *Sharing):
            raise typer.BadParameter(f"{self.sharing!r} is not time-slicing or mps", param_hint="--sharing")
        return ShareRequest(
            compute_milli=self.share_compute or 0,
            memory_mib=self._memory(self.share_memory, "--share-memory"),
            sharing=Sharing(self.sharing or Sharing.TIME_SLICING),
            selector=selector,
        )

    def _memory(self, text: str | None, option: str) -> int:
        return 0 if text is None else memory_mib(text, option)

    def _link(self) -> Any:  # noqa: ANN401 - an enum of a lazy import
        from packing.model import LinkWish

        if self.link not in (None, *LinkWish):
            raise typer.BadParameter(f"{self.link!r} is not none, prefer or require", param_hint="--link")
        if self.min_gbps and self.link not in (None, "require"):
            raise typer.BadParameter("needs --link require", param_hint="--min-gbps")
        return LinkWish(self.link or ("require" if self.min_gbps else "prefer"))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Loaded:
    """The cluster a question is about, and the policy that answers."""

    source: str
    fabric: Fabric
    usage: Usage
    policy: Policy
    mix: DemandMix


def load(cluster: Path | None, nodes: Path | None, running: list[Path] | None, policy: str, demand: Demand) -> Loaded:
    """Read the cluster and what runs on it; the policy knows that and the demand as its mix."""
    from dovetail.known_names import check_names
    from dovetail.progress import note_compiling
    from packing.mix import DemandMix
    from packing.model import Snapshot
    from packing.pack import pack
    from packing.policy import make_policy
    from simulator.inputs.running import read_running

    if cluster is not None and nodes is not None:
        raise typer.BadParameter("name --cluster or --nodes, not both")
    if cluster is None and nodes is None:
        raise typer.BadParameter("name a cluster file (--cluster) or a node list (--nodes)")
    note_compiling()
    held = read_running(*(running or []))
    fabric, usage = pack(Snapshot(nodes=_nodes(cluster, nodes), running=held))
    check_names(fabric, demand, str(cluster or nodes))
    mix = DemandMix.from_demands([*((asked, 1) for _, asked, _ in held), (demand, 1)])
    bound = make_policy(policy, mix, fabric)
    return Loaded(source=str(cluster or nodes), fabric=fabric, usage=usage, policy=bound, mix=mix)


def _nodes(cluster: Path | None, nodes: Path | None) -> tuple[Node, ...]:
    from simulator.inputs.cluster import read_cluster
    from simulator.inputs.openb import read_nodes

    if cluster is not None:
        return read_cluster(cluster).nodes
    if nodes is None:
        raise InvalidInputError("--nodes", "", "is missing")
    return tuple(read_nodes(nodes))
