"""Remembered scores are bounded, and forgetting them changes no decision."""

from __future__ import annotations

from packing import memory
from packing.memory import FEWEST_ROWS, Memory, memory_of
from packing.mix import DemandMix
from packing.model import ClaimId, Demand, ShareRequest, Snapshot, WholeRequest
from packing.pack import pack
from packing.place import place
from packing.policy import make_policy
from tests.packing.clusters import machine_shape, node


def test_the_class_not_asked_for_longest_loses_its_row():
    remembered = Memory(nodes=3, fgd_sizes=1, max_rows=2)
    first, second = remembered.row(10), remembered.row(11)
    remembered.cache.seen[:] = 7
    assert remembered.row(10) == first
    assert remembered.row(12) == second
    assert remembered.cache.seen[second] == -1
    assert (remembered.cache.seen[first] == 7).all()


def test_rows_fit_the_budget_but_for_a_few():
    remembered = Memory(nodes=100_000, fgd_sizes=1, rows=1)
    assert remembered.max_rows * remembered.cache.scores[0].nbytes <= memory.BUDGET_BYTES
    assert Memory(nodes=10**6, fgd_sizes=1, rows=1).max_rows == FEWEST_ROWS


def test_more_classes_than_rows_change_no_decision(monkeypatch):
    monkeypatch.setattr(memory, "BUDGET_BYTES", 0)
    nodes = tuple(node(f"n{i}", machine_shape("dgx1-v100")) for i in range(4))
    demands = [Demand(requests=(ShareRequest(compute_milli=10 * n),)) for n in range(1, 2 * FEWEST_ROWS)]
    demands += [Demand(requests=(WholeRequest(count=n),)) for n in (1, 2, 4)]
    fabric, usage = pack(Snapshot(nodes=nodes))
    policy = make_policy("dovetail", DemandMix.from_demands([(demand, 1) for demand in demands]), fabric)
    for number, demand in enumerate(demands * 3):
        decision = place(fabric, usage, demand, policy)
        assert decision == place(fabric, usage.copy(), demand, policy)
        if decision.placement is not None:
            usage.apply(ClaimId(f"c{number}"), demand, decision.placement)
    assert len(memory_of(usage, policy).cache.scores) == FEWEST_ROWS
