"""Each kernel that Python calls is compiled once: a second signature costs half a minute more at every start.

Mixing read-only and writable arrays, or array and scalar types, is what makes one.
"""

from __future__ import annotations

import importlib
import os
import pkgutil

import numpy as np
import pytest

import packing.kernels
import packing.place
import packing.usage
from packing.kernels.jit import Direct
from packing.mix import DemandMix
from packing.model import (
    ClaimId,
    Demand,
    Devices,
    MigMode,
    PartitionRequest,
    Placement,
    ShareRequest,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from packing.place import place
from packing.policy import POLICIES, make_policy
from packing.sequence import place_sequence
from packing.usage import Usage
from tests.packing.clusters import A100, T4, World, flat_shape, machine_shape, node

SHARE = ShareRequest(compute_milli=200)
PART = PartitionRequest(profile="1g.5gb")
PODS = [
    Demand(cpu_milli=1000, requests=(WholeRequest(count=2),)),
    Demand(requests=(SHARE,)),
    Demand(requests=(PART,)),
    Demand(requests=(SHARE, PART, SHARE, WholeRequest())),
    Demand(cpu_milli=500),
]
CLUSTERS = {
    "mixed": (
        node("a", flat_shape(A100, A100, T4, T4), mig_mode=MigMode.DYNAMIC),
        node("b", machine_shape("dgx1-v100")),
        node("c", flat_shape()),
    ),
    "one GPU": (node("a", flat_shape(T4)),),
    "no GPU": (node("a", flat_shape()),),
    "no node": (),
}


def entries():
    """Every compiled function that Python can call, by name."""
    found = {}
    for module in pkgutil.iter_modules(packing.kernels.__path__, "packing.kernels."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            options = getattr(thing, "targetoptions", None)
            if options is not None and not options.get("no_cpython_wrapper"):
                found[name] = thing
    return found


def use(nodes: tuple, policy_name: str) -> None:
    """Do what schedulers and planners do: place, apply, roll back, release, copy, measure, fill."""
    mix = DemandMix.from_demands([(pod, 3) for pod in PODS])
    world = World.of(nodes, mix, policy_name)
    usage = world.usage
    for number, pod in enumerate(PODS * 2):
        mark = usage.checkpoint()
        if world.admit(f"pod-{number}", pod) is not None:
            usage.taken_milli(ClaimId(f"pod-{number}"))
        if number % 3 == 2:
            usage.rollback(mark)
        else:
            usage.forget(mark)
        place(world.fabric, usage.copy(), pod, world.policy)
    for claim in list(usage.claims):
        usage.release(claim)
    together(usage)
    order = np.arange(len(PODS), dtype=np.int64)
    place_sequence(world.fabric, usage, PODS, order, world.policy)
    fabric, empty = pack(Snapshot(nodes=nodes))
    place_sequence(fabric, empty, PODS, order[:0], make_policy(policy_name, mix, fabric))


def together(usage: Usage) -> None:
    """Two shares on one GPU, which `apply` checks together."""
    nodes = [host for host in usage.fabric.nodes if host.shape.gpus]
    if nodes:
        last = len(nodes[0].shape.gpus) - 1
        both = (Devices(gpus=(last,)), Devices(gpus=(last,)))
        usage.apply(ClaimId("both"), Demand(requests=(SHARE, SHARE)), Placement(node=nodes[0].name, devices=both))


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled in this mode")
def test_every_entry_kernel_is_compiled_once(monkeypatch):
    """With numba's own look at the types of every call, which `direct` leaves out because of this very test."""
    for module in (packing.place, packing.usage):
        for name, thing in list(vars(module).items()):
            if isinstance(thing, Direct):
                monkeypatch.setattr(module, name, thing.kernel)
    for nodes in CLUSTERS.values():
        for policy in POLICIES:
            use(nodes, policy)
    kernels = entries()
    used = {name for name, kernel in kernels.items() if kernel.signatures}
    assert {"decide", "commit", "place_all", "share_fits", "partition_starts", "set_all_idle", "choice_milli"} <= used
    twice = {name: _from_python(kernel) for name, kernel in kernels.items() if len(_from_python(kernel)) > 1}
    assert twice == {}


def _from_python(kernel) -> list[str]:
    """Return the signatures Python calls; a kernel that another calls with a constant has one of its own besides."""
    return [text for text in map(str, kernel.signatures) if "Literal" not in text]
