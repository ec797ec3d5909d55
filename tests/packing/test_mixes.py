"""Policies can be made from any mix for any cluster."""

from __future__ import annotations

from packing.mix import DemandMix
from packing.model import Demand, ShareRequest, Snapshot
from packing.pack import pack
from packing.policy import POLICIES, make_policy
from tests.packing.clusters import P100, flat_shape, node


def test_a_share_of_memory_alone_may_be_asked_where_no_gpu_says_how_much_it_has():
    fabric, _ = pack(Snapshot(nodes=(node("n", flat_shape(P100)),)))
    mix = DemandMix.from_demands([(Demand(requests=(ShareRequest(memory_mib=2000),)), 1)])
    for name in POLICIES:
        assert make_policy(name, mix, fabric).name == name
