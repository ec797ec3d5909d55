"""A pool of which a node has devices of its own beside others: one pool to in-tree, and one to its counters."""

from __future__ import annotations

from typing import Any

from kube.cluster import Cluster, ClusterSettings
from tests.kube.asking import device_class
from tests.kube.builders import claim, device, node, pod, slice_of

DRIVER = "dev.example.com"
SELECTED = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["a"]}]}]}


def cluster(units: str) -> Cluster:
    """`near` is of the node alone, `far` of all nodes of its rack; both take one unit."""
    uses: Any = [{"counterSet": "shared", "counters": {"units": {"value": "1"}}}]
    where: Any = {"driver": DRIVER, "count": 3}
    made = Cluster(ClusterSettings(every_driver=True))
    made.put(node("node-1", rack="a"))
    made.put(device_class(DRIVER, driver=DRIVER))
    made.put(slice_of("z", [device("near", consumesCounters=uses)], nodeName="node-1", **where))
    made.put(slice_of("a", [device("far", consumesCounters=uses)], nodeSelector=SELECTED, **where))
    counters = [{"name": "shared", "counters": {"units": {"value": units}}}]
    made.put(slice_of("m", counters=counters, nodeName="node-1", **where))
    return made


def asked(on: Cluster, count: int) -> Any:
    request = {"name": "r", "exactly": {"deviceClassName": DRIVER, "count": count}}
    on.put(claim("c", requests=[request]))
    return on.resolve(pod(claims=["c"]))


def test_in_tree_takes_devices_in_the_order_of_slices_whosever_they_are() -> None:
    """Seen on 1.36.3: devices of the node were predicted first, in-tree went by the names of slices."""
    on = cluster("2")
    ((allocation, _),) = on.predict(asked(on, 1))
    assert allocation.claims[0][0].device.name == "far"
    ((allocation, _),) = on.predict(asked(cluster("2"), 2))
    assert [each.device.name for each in allocation.claims[0]] == ["far", "near"], "and lists them so"


def test_both_take_of_the_same_counters() -> None:
    on = cluster("1")
    assert on.decide(asked(on, 1)).allocation is not None
    assert on.decide(asked(on, 2)).allocation is None
    assert on.predict(asked(on, 2)) == []
    assert cluster("2").decide(asked(cluster("2"), 2)).allocation is not None
