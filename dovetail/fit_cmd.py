"""`dovetail fit` and `dovetail explain`: how many pods fit now and where, what stops the next one, what would help.

Exit codes: 0 all that was asked for fits; 1 bad input; 2 wrong usage; 3 it does not fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dovetail.demand_options import (
    ClusterOpt,
    CpuOpt,
    DemandOptions,
    GpusOpt,
    LinkOpt,
    MemoryOpt,
    MinGbpsOpt,
    MinGpuMemoryOpt,
    MinMemoryOpt,
    MinSmsOpt,
    NodesOpt,
    PolicyOpt,
    ProductOpt,
    ProfileOpt,
    RunningOpt,
    ShareComputeOpt,
    ShareMemoryOpt,
    SharingOpt,
    load,
)
from dovetail.output import OutputFormat
from dovetail.snapshot_options import DriverOpt, NodeOpt, SnapshotOpt

if TYPE_CHECKING:
    from dovetail.demand_options import Loaded
    from packing.capacity import Capacity
    from packing.model import Demand

EXIT_DOES_NOT_FIT = 3
ALL = "max"
PREFIX = "fit"

Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="How the answer is printed.")]

QuestionOpt = Annotated[
    Path | None,
    typer.Argument(
        metavar="CLAIM|POD", help="With --snapshot: claims or a pod (YAML or JSON; one, several or a List)."
    ),
]
ReplicasOpt = Annotated[
    str | None,
    typer.Option(help="How many pods are wanted, or max. Default: max; of a file, one.", rich_help_panel="Pod"),
]


def fit(
    *,
    question: QuestionOpt = None,
    snapshot: SnapshotOpt = None,
    node: NodeOpt = None,
    driver: DriverOpt = None,
    cluster: ClusterOpt = None,
    nodes: NodesOpt = None,
    running: RunningOpt = None,
    policy: PolicyOpt = "dovetail",
    gpus: GpusOpt = None,
    link: LinkOpt = None,
    min_gbps: MinGbpsOpt = None,
    min_gpu_memory: MinGpuMemoryOpt = None,
    profile: ProfileOpt = None,
    min_memory: MinMemoryOpt = None,
    min_sms: MinSmsOpt = None,
    share_compute: ShareComputeOpt = None,
    share_memory: ShareMemoryOpt = None,
    sharing: SharingOpt = None,
    product: ProductOpt = None,
    cpu: CpuOpt = "0",
    memory: MemoryOpt = "0",
    replicas: ReplicasOpt = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Say how many pods fit now and where, what stops the next one, and the smallest change that would make it fit.

    With --snapshot, of a claim or pod from a file: what the scheduler would decide, with the very allocations.

    Exits with 0 if all replicas fit (max: at least one), 3 if not.
    """
    wanted = _replicas(replicas or ALL)
    options = DemandOptions(
        gpus=gpus,
        link=link,
        min_gbps=min_gbps,
        min_gpu_memory=min_gpu_memory,
        profile=profile,
        min_memory=min_memory,
        min_sms=min_sms,
        share_compute=share_compute,
        share_memory=share_memory,
        sharing=sharing,
        product=product,
        cpu=cpu,
        memory=memory,
    )
    if snapshot is not None or question is not None:
        if snapshot is None or question is None:
            raise typer.BadParameter("a claim or pod from a file goes with --snapshot, and the other way round")
        if given := [*options.given(), *_given(cluster=cluster, nodes=nodes, running=running)]:
            raise typer.BadParameter(f"{given[0]} is for the planner; with --snapshot the file says what is asked for")
        from dovetail.fit_snapshot_cmd import fit_on_snapshot

        many = replicas is not None
        fits = fit_on_snapshot(
            question, snapshot, node=node, drivers=driver, policy=policy, replicas=wanted, many=many, output=output
        )
        raise typer.Exit(0 if fits else EXIT_DOES_NOT_FIT)
    if given := _given(node=node, driver=driver):
        raise typer.BadParameter(f"{given[0]} goes with --snapshot")
    asked = options.demand()
    if not _count(load(cluster, nodes, running, policy, asked), asked, wanted, output):
        raise typer.Exit(EXIT_DOES_NOT_FIT)


def _count(loaded: Loaded, asked: Demand, wanted: int | None, output: OutputFormat) -> bool:
    """Print how many fit; return whether as many as wanted do."""
    from dovetail.fit_view import print_fit
    from packing.capacity import MAX_COUNT, count_fits
    from packing.nearest import nearest_fit

    limit = MAX_COUNT if wanted is None else wanted
    found = count_fits(loaded.fabric, loaded.usage, asked, loaded.policy, limit=limit, prefix=PREFIX)
    near = None
    if found.refusal is not None:
        # What was just placed is the question itself; freeing it is no answer.
        keep = found.after.claims.keys() - loaded.usage.claims.keys()
        near = nearest_fit(loaded.fabric, found.after, asked, loaded.policy, mix=loaded.mix, keep=keep)
    print_fit(loaded, asked, wanted, found, near, output)
    return _satisfied(found, wanted)


def explain(
    context: typer.Context,
    *,
    cluster: ClusterOpt = None,
    nodes: NodesOpt = None,
    running: RunningOpt = None,
    policy: PolicyOpt = "dovetail",
    gpus: GpusOpt = None,
    link: LinkOpt = None,
    min_gbps: MinGbpsOpt = None,
    min_gpu_memory: MinGpuMemoryOpt = None,
    profile: ProfileOpt = None,
    min_memory: MinMemoryOpt = None,
    min_sms: MinSmsOpt = None,
    share_compute: ShareComputeOpt = None,
    share_memory: ShareMemoryOpt = None,
    sharing: SharingOpt = None,
    product: ProductOpt = None,
    cpu: CpuOpt = "0",
    memory: MemoryOpt = "0",
    node: Annotated[str | None, typer.Option(help="Show this node, GPU by GPU.")] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Say of every node why a pod does not fit there: its first failing constraint, grouped; of one node, GPU by GPU.

    Exits with 0 if the pod fits (on the node that was named), 3 if not.
    """
    options = DemandOptions(
        gpus=gpus,
        link=link,
        min_gbps=min_gbps,
        min_gpu_memory=min_gpu_memory,
        profile=profile,
        min_memory=min_memory,
        min_sms=min_sms,
        share_compute=share_compute,
        share_memory=share_memory,
        sharing=sharing,
        product=product,
        cpu=cpu,
        memory=memory,
    )
    if context.invoked_subcommand is not None:
        given = [*options.given(), *_given(cluster=cluster, nodes=nodes, running=running, node=node)]
        if given:
            raise typer.BadParameter(f"{given[0]} is for the planner; write options of `pod` after it")
        return
    asked = options.demand()
    from dovetail.fit_view import print_node, print_reasons
    from packing.explain import explain as explain_demand

    loaded = load(cluster, nodes, running, policy, asked)
    found = explain_demand(loaded.fabric, loaded.usage, asked, loaded.policy)
    fits = print_node(loaded, found, node, output) if node else print_reasons(loaded, found, output)
    if not fits:
        raise typer.Exit(EXIT_DOES_NOT_FIT)


def _replicas(text: str) -> int | None:
    """Return how many pods are wanted; None = as many as fit."""
    if text == ALL:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 100_000):
        raise typer.BadParameter(f"{text!r} is not a number from 1 to 100000, or {ALL}", param_hint="--replicas")
    return int(text)


def _given(**options: object) -> list[str]:
    return [f"--{name}" for name, value in options.items() if value is not None]


def _satisfied(found: Capacity, wanted: int | None) -> bool:
    return len(found.placements) >= (1 if wanted is None else wanted)
