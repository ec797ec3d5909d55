"""What a sweep is made from, for the head of `result.json`: digests, counts and the rules of the protocol."""

from __future__ import annotations

from pathlib import Path

from simulator.fillrun import TIE_RULE, variant_name
from simulator.inputs.arrivals import refuse_rejected
from simulator.inputs.openb import read_nodes, read_pods
from simulator.result import Inputs, PodFile, input_file
from simulator.sweep import Plan


def inputs_of(plan: Plan, version: str) -> Inputs:
    """Return the inputs of `plan`, read and checked before the first run. Raises InvalidInputError."""
    nodes = read_nodes(plan.nodes)
    return Inputs(
        dovetail=version,
        protocol="fill",
        tie_rule=TIE_RULE,
        cluster=input_file(plan.nodes),
        nodes=len(nodes),
        gpus=sum(len(node.shape.gpus) for node in nodes),
        pods=tuple(_pod_file(path, plan) for path in plan.pods),
        arrivals=None if plan.arrivals is None else input_file(plan.arrivals),
        policies=plan.policies,
        seeds=plan.seeds,
    )


def _pod_file(path: Path, plan: Plan) -> PodFile:
    pods = read_pods(path, skip_bad=plan.skip_bad)
    if plan.arrivals is not None:
        refuse_rejected(plan.arrivals, pods)
    source = input_file(path)
    return PodFile(
        variant=variant_name(path),
        file=source.file,
        sha256=source.sha256,
        pods=len(pods),
        rejected=pods.rejected.count,
    )
