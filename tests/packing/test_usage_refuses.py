"""`Usage.apply` refuses every kind of illegal placement by name and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from packing.model import (
    ClaimId,
    Demand,
    Devices,
    MigMode,
    NodeName,
    PartitionRequest,
    Placement,
    ShareRequest,
    Sharing,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from tests.packing.clusters import A30, A100, P100, T4, flat_shape, node
from topology.errors import InvalidInputError

WHOLE = WholeRequest()
HALF = ShareRequest(compute_milli=500, memory_mib=4000)
MPS = ShareRequest(compute_milli=100, sharing=Sharing.MPS)
SLICE = PartitionRequest(profile="1g.5gb")
HALF_A100 = PartitionRequest(profile="3g.20gb")
MEDIA = PartitionRequest(profile="1g.5gb+me")


def on(*gpus: int, profile: str = "", start: int = -1) -> Devices:
    return Devices(gpus=gpus, profile=profile, start=start)


def at(name: str, *devices: Devices) -> Placement:
    return Placement(node=NodeName(name), devices=devices)


@pytest.fixture
def usage():
    """Four kinds of node; claims `held-*` use: a whole T4, time-sliced and MPS T4s, partitions on an A100."""
    nodes = (
        node("t4", flat_shape(T4, T4, T4, T4), unhealthy=frozenset({3}), cpu_milli=8000),
        node("mig", flat_shape(A100, A30), mig_mode=MigMode.ENABLED),
        node("dynamic", flat_shape(A100, A100), mig_mode=MigMode.DYNAMIC),
        node("p100", flat_shape(P100)),
    )
    _, usage = pack(Snapshot(nodes=nodes))
    held = [
        ((WHOLE,), at("t4", on(0))),
        ((HALF,), at("t4", on(1))),
        ((MPS,), at("t4", on(2))),
        ((SLICE,), at("mig", on(0, profile="1g.5gb", start=0))),
        ((MEDIA,), at("mig", on(0, profile="1g.5gb+me", start=4))),
        ((HALF_A100,), at("dynamic", on(0, profile="3g.20gb", start=0))),
    ]
    for number, (requests, placement) in enumerate(held):
        usage.apply(ClaimId(f"held-{number}"), Demand(cpu_milli=1000, requests=requests), placement)
    return usage


ILLEGAL = {
    "a node that does not exist": ((WHOLE,), at("gone", on(0))),
    "devices for one of two requests": ((WHOLE, WHOLE), at("dynamic", on(1))),
    "no GPU": ((WHOLE,), at("t4", on())),
    "a GPU the node lacks": ((WHOLE,), at("t4", on(4))),
    "a negative GPU": ((WHOLE,), at("t4", on(-1))),
    "a GPU held whole": ((WHOLE,), at("t4", on(0))),
    "whole where a share is": ((WHOLE,), at("t4", on(1))),
    "whole where a partition is": ((WHOLE,), at("dynamic", on(0))),
    "whole on a GPU in MIG mode": ((WHOLE,), at("mig", on(1))),
    "whole on an unhealthy GPU": ((WHOLE,), at("t4", on(3))),
    "too few GPUs": ((WholeRequest(count=2),), at("dynamic", on(1))),
    "one GPU named twice": ((WholeRequest(count=2),), at("dynamic", on(1, 1))),
    "too many GPUs": ((WHOLE,), at("dynamic", on(0, 1))),
    "a share on a whole GPU": ((HALF,), at("t4", on(0))),
    "a share on an unhealthy GPU": ((HALF,), at("t4", on(3))),
    "a share on a GPU in MIG mode": ((HALF,), at("mig", on(1))),
    "a share where partitions are": ((HALF,), at("dynamic", on(0))),
    "a share of two GPUs": ((HALF,), at("dynamic", on(0, 1))),
    "MPS beside time-slicing": ((MPS,), at("t4", on(1))),
    "time-slicing beside MPS": ((HALF,), at("t4", on(2))),
    "more compute than is left": ((ShareRequest(compute_milli=501),), at("t4", on(1))),
    "more memory than is left": ((ShareRequest(memory_mib=11361),), at("t4", on(1))),
    "memory of a GPU that does not say how much it has": ((ShareRequest(memory_mib=1),), at("p100", on(0))),
    "a partition without a profile": ((SLICE,), at("mig", on(0))),
    "a partition without a start": ((SLICE,), at("mig", on(0, profile="1g.5gb"))),
    "a profile nobody knows": ((SLICE,), at("mig", on(0, profile="9g.99gb", start=1))),
    "a profile of another product": ((SLICE,), at("mig", on(1, profile="1g.5gb", start=0))),
    "a start the profile does not have": ((HALF_A100,), at("mig", on(0, profile="3g.20gb", start=1))),
    "a start beyond the GPU": ((SLICE,), at("mig", on(0, profile="1g.5gb", start=99))),
    "slices that are taken": ((SLICE,), at("mig", on(0, profile="1g.5gb", start=0))),
    "a second instance with the media engines": ((MEDIA,), at("mig", on(0, profile="1g.5gb+me", start=1))),
    "a partition with MIG off": ((SLICE,), at("t4", on(0, profile="1g.5gb", start=0))),
    "two GPUs for a partition": ((SLICE,), at("dynamic", on(0, 1, profile="1g.5gb", start=6))),
    "two whole requests on one GPU": ((WHOLE, WHOLE), at("dynamic", on(1), on(1))),
    "whole and share on one GPU": ((WHOLE, HALF), at("dynamic", on(1), on(1))),
    "share and whole on one GPU": ((HALF, WHOLE), at("dynamic", on(1), on(1))),
    "share and partition on one GPU": ((HALF, SLICE), at("dynamic", on(1), on(1, profile="1g.5gb", start=0))),
    "shares of both kinds on one GPU": ((HALF, MPS), at("dynamic", on(1), on(1))),
    "three halves of one GPU": ((HALF, HALF, HALF), at("dynamic", on(1), on(1), on(1))),
    "two partitions that overlap": (
        (HALF_A100, SLICE),
        at("dynamic", on(1, profile="3g.20gb", start=4), on(1, profile="1g.5gb", start=5)),
    ),
    "two partitions that need one engine": (
        (MEDIA, MEDIA),
        at("dynamic", on(1, profile="1g.5gb+me", start=0), on(1, profile="1g.5gb+me", start=1)),
    ),
}


def state(usage):
    return [array.copy() for array in usage.arrays], dict(usage.claims)


def refused(usage, demand, placement, claim="new"):
    """Return the error of applying; the usage must not have changed at all."""
    before, claims = state(usage)
    with pytest.raises(InvalidInputError) as caught:
        usage.apply(ClaimId(claim), demand, placement)
    after, still = state(usage)
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert claims == still
    return str(caught.value)


@pytest.mark.parametrize("case", ILLEGAL)
def test_an_illegal_placement_is_refused_by_name_and_changes_nothing(usage, case):
    requests, placement = ILLEGAL[case]
    assert "claim new" in refused(usage, Demand(requests=requests), placement)


def test_more_cpu_or_memory_than_the_node_has_is_refused(usage):
    placement = at("t4", on(1))
    assert "cpu" in refused(usage, Demand(cpu_milli=5001, requests=(HALF,)), placement)
    assert "memory" in refused(usage, Demand(memory_mib=256_001, requests=(HALF,)), placement)
    usage.apply(ClaimId("new"), Demand(cpu_milli=5000, memory_mib=256_000, requests=(HALF,)), placement)


def test_a_claim_holds_devices_once_and_is_released_once(usage):
    assert "claim held-1" in refused(usage, Demand(requests=(HALF,)), at("t4", on(1)), claim="held-1")
    usage.release(ClaimId("held-1"))
    with pytest.raises(InvalidInputError, match="claim held-1"):
        usage.release(ClaimId("held-1"))


def test_what_is_legal_beside_what_is_held_is_taken(usage):
    """The same cases with one thing changed: nothing above was refused for a wrong reason."""
    demand = Demand(requests=(HALF, MPS, SLICE, MEDIA, HALF_A100, WHOLE))
    usage.release(ClaimId("held-5"))
    with pytest.raises(InvalidInputError, match="claim new"):
        usage.apply(ClaimId("new"), demand, at("t4", *[on(0)] * 6))
    usage.apply(ClaimId("a"), Demand(requests=(HALF, WHOLE)), at("dynamic", on(0), on(1)))
    usage.apply(ClaimId("b"), Demand(requests=(HALF,)), at("t4", on(1)))
    usage.apply(ClaimId("c"), Demand(requests=(SLICE, SLICE)), at("mig", *(slice_at(s) for s in (1, 6))))
    usage.apply(ClaimId("d"), Demand(requests=(PartitionRequest(profile="2g.12gb"),)), at("mig", a30(2)))


def slice_at(start: int) -> Devices:
    return on(0, profile="1g.5gb", start=start)


def a30(start: int) -> Devices:
    return on(1, profile="2g.12gb", start=start)
