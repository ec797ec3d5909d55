"""Documents as kubectl writes them, and as people do."""

from __future__ import annotations

import pytest

from kube.objects import Node, Pod, ResourceClaim
from kube.snapshot import read_snapshot
from topology.errors import InvalidInputError

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
POD = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
CLAIM = {"kind": "ResourceClaim", "metadata": {"name": "c"}, "status": None}


@pytest.mark.parametrize(
    ("document", "kinds"),
    [
        (NODE, [Node]),
        ({"kind": "List", "items": [NODE, POD, CLAIM]}, [Node, Pod, ResourceClaim]),
        ({"kind": "List", "items": [{"kind": "List", "items": [NODE]}, POD]}, [Node, Pod]),
        # Items of the API server's own lists do not say what they are.
        ({"kind": "PodList", "items": [{k: v for k, v in POD.items() if k != "kind"}]}, [Pod]),
        ({"kind": "PodList", "items": None}, []),
        ({"kind": "List"}, []),
    ],
)
def test_objects_come_in_their_order(document: object, kinds: list[type]) -> None:
    found = read_snapshot(document)
    assert [type(each) for each in found.objects] == kinds
    assert not found.malformed


def test_what_is_malformed_or_not_read_is_named_and_the_rest_is_there() -> None:
    broken = {"kind": "Pod", "metadata": {"name": "b", "namespace": "ns"}, "spec": {"containers": 7}}
    found = read_snapshot({"kind": "List", "items": [{"kind": "ConfigMap"}, broken, NODE, {"kind": "ConfigMap"}]})
    assert [type(each) for each in found.objects] == [Node]
    assert [(each.namespace, each.name) for each in found.malformed] == [("ns", "b")]
    assert found.skipped == ("ConfigMap",)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([NODE], "snapshot: is list, not an object or a List of the Kubernetes API"),
        ("text", "snapshot: is str"),
        ({"metadata": {}}, "snapshot: kind: is missing"),
        ({"kind": 7}, "snapshot: kind: is missing"),
        ({"kind": "List", "items": "x"}, "snapshot: items: is str; must be a list of objects"),
        ({"kind": "List", "items": [NODE, 3]}, "snapshot items[1]: is int"),
        ({"kind": "List", "items": [{}]}, "snapshot items[0]: kind: is missing"),
    ],
)
def test_a_document_without_objects_is_refused(document: object, told: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_snapshot(document)
    assert str(refused.value).startswith(told)
