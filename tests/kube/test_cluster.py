"""What a cluster decides, what its pods take, and what becomes of devices in two claims."""

from __future__ import annotations

import pytest

from packing.dra.model import Allocation, ClaimUid
from packing.model import NodeName
from tests.kube.builders import DRIVER, claim, pod, result
from tests.kube.clusters import (
    PAIR,
    allocated,
    asking,
    cluster,
    decide,
    idle,
    left,
    placed,
)


class TestDecisions:
    def test_a_pair_is_linked_and_comes_by_name(self) -> None:
        assert placed(decide(cluster(), 2)) == ("node-1", PAIR)

    def test_among_the_nodes_named_alone(self) -> None:
        on = cluster()
        assert placed(decide(on, 2, ("node-2",))) == ("node-2", PAIR)
        assert placed(decide(on, 2, ())) is None
        assert placed(decide(on, 2, ("node-9",))) is None

    def test_what_is_allocated_is_not_given_again(self) -> None:
        on = cluster()
        on.put(allocated("c", *range(8)))
        assert placed(decide(on, 8)) == ("node-2", [f"gpu-{gpu}" for gpu in range(8)])
        on.put(allocated("d", *range(8), on="node-2"))
        assert placed(decide(on)) is None

    def test_drivers_that_are_not_ours_are_not_allocated(self) -> None:
        on = cluster(drivers=("nic.example",))
        assert on.pools() == []
        assert len(on.foreign_pools()) == 2

    def test_admin_access_takes_nothing(self) -> None:
        on = cluster()
        on.put(claim("c", [result("gpu-0", f"node-1/{DRIVER}", adminAccess=True)]))
        assert idle(on) == list(range(8))

    def test_partitions_and_shares_are_in_use_as_such(self) -> None:
        on = cluster(machine="dgx-a100-80")
        on.put(claim("m", [result("gpu-0-mig-3g40gb-9-4", f"node-1/{DRIVER}")]))
        amounts = {"memory": "10Gi", "computeMilli": "250"}
        on.put(claim("s", [result("gpu-1-mps", f"node-1/{DRIVER}", shareID="s", consumedCapacity=amounts)]))
        gpus = on.packed().ledger.usage.arrays.gpus
        assert idle(on) == [2, 3, 4, 5, 6, 7]
        assert int(gpus[0, 3]) == 0b11110000
        assert [int(amount) for amount in gpus[1, 1:3]] == [750, 81920 - 10240]

    def test_a_selector_that_fails_is_told_and_nothing_is_allocated(self) -> None:
        on = cluster()
        broken = [{"cel": {"expression": f"device.attributes['{DRIVER}'].nonesuch == 1"}}]
        on.put(asking(selectors=broken))
        answer = on.decide(on.resolve(pod("new", claims=["new"])))
        assert answer.allocation is None
        assert "request gpu" in answer.fault
        assert "nonesuch" in answer.fault

    def test_fits_without_leaves_all_as_it_was(self) -> None:
        on = cluster()
        on.put(allocated("c", *range(8)))
        on.put(asking(8))
        resolved = on.resolve(pod("new", claims=["new"]))
        before = on.version
        assert not on.fits_without(resolved, NodeName("node-1"), ())
        assert on.fits_without(resolved, NodeName("node-1"), (ClaimUid("uid-c"),))
        assert not on.fits_without(resolved, NodeName("node-1"), (ClaimUid("uid-none"),))
        assert (on.version, idle(on)) == (before, [])

    def test_with_slack_there_are_other_nodes(self) -> None:
        on = cluster()
        on.put(asking(2))
        answer = on.decide(on.resolve(pod("new", claims=["new"])), slack=100.0)
        assert placed(answer) == ("node-1", PAIR)
        assert [each.node for each in answer.alternatives] == ["node-2"]


class TestCoresAndMemory:
    """kube-scheduler has decided on them, unless all is ours to decide; they tell good nodes from better ones."""

    def test_bound_pods_take_what_they_request(self) -> None:
        on = cluster()
        on.put(pod("a", on="node-1", cpu="2500m", memory="4Gi", phase="Running"))
        on.put(pod("b", cpu="1"))
        assert left(on) == (96_000 - 2_500, 2**20 - 4096)
        on.put(pod("a", on="node-1", cpu="2500m", memory="4Gi", phase="Succeeded"))
        assert left(on) == (96_000, 2**20)

    def test_a_node_with_room_is_preferred_and_a_full_one_is_not_refused(self) -> None:
        on = cluster()
        on.put(pod("a", on="node-1", cpu="96"))
        assert placed(decide(on, 2)) == ("node-2", PAIR)
        assert placed(decide(on, 2, ("node-1",))) == ("node-1", PAIR)

    def test_a_full_node_is_refused_where_all_is_ours_to_decide(self) -> None:
        on = cluster(place_all=True)
        on.put(pod("a", on="node-1", cpu="96"))
        assert placed(decide(on, 2, ("node-1",))) is None
        assert placed(decide(on, 2)) == ("node-2", PAIR)

    def test_pods_without_devices_are_placed_where_all_is_ours_to_decide(self) -> None:
        on = cluster(place_all=True)
        on.put(pod("a", on="node-1", cpu="95500m"))
        answer = on.decide(on.resolve(pod("new", cpu="1")))
        assert answer.allocation == Allocation(node=NodeName("node-2"), claims=())

    def test_a_node_that_is_overcommitted_stops_nothing(self) -> None:
        """Static pods, and nodes that shrink: more is requested than there is."""
        on = cluster()
        for at in range(3):
            on.put(pod(f"p{at}", on="node-1", cpu="50"))
        assert left(on)[0] == 0
        for at in range(2):
            on.remove(pod(f"p{at}", on="node-1", cpu="50"))
        assert left(on)[0] == 46_000

    def test_a_request_that_is_no_quantity_counts_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        on = cluster()
        on.put(pod("a", on="node-1", cpu="two"))
        assert left(on)[0] == 96_000
        assert "pod=default/a" in caplog.text


class TestDevicesInTwoClaims:
    """Nothing in the API prevents it. It must stop nothing, and end with the claims."""

    def test_the_devices_are_free_when_both_are_gone(self) -> None:
        on = cluster()
        on.put(allocated("a", 0, 1))
        on.put(allocated("b", 1, 2))
        assert placed(decide(on, 5, ("node-1",))) == ("node-1", [f"gpu-{gpu}" for gpu in range(3, 8)])
        assert placed(decide(on, 6, ("node-1",))) is None
        on.remove(allocated("a", 0, 1))
        assert placed(decide(on, 6, ("node-1",))) == ("node-1", ["gpu-0", *(f"gpu-{gpu}" for gpu in range(3, 8))])
        on.remove(allocated("b", 1, 2))
        assert placed(decide(on, 8, ("node-1",))) is not None

    def test_amounts_that_are_none_take_all(self, caplog: pytest.LogCaptureFixture) -> None:
        on = cluster()
        on.put(claim("s", [result("gpu-1-mps", f"node-1/{DRIVER}", shareID="s", consumedCapacity={"memory": "x"})]))
        on.put(
            asking(1, kind="share", selectors=[{"cel": {"expression": f"device.attributes['{DRIVER}'].index == 1"}}])
        )
        answer = on.decide(on.resolve(pod("new", claims=["new"])), ("node-1",))
        assert answer.allocation is None
        assert "claim=default/s device=gpu.dovetail.dev/node-1/gpu.dovetail.dev/gpu-1-mps" in caplog.text
