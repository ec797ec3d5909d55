"""A claim that does not decode: what it holds is held, whatever came before, and nobody gets it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kube.cluster import Cluster
from kube.decoding import Event, decoder
from kube.depth import MAX_DEPTH
from kube.kinds import CLAIMS
from kube.refusal import Refusal
from kube.snapshot import read_snapshot
from tests.kube.builders import DRIVER, node, pod, result
from tests.kube.clusters import allocated, cluster, idle, newer, slices


def stored(*gpus: int, levels: int = MAX_DEPTH + 1) -> dict[str, Any]:
    """Return the claim of `allocated("h")` as its user may write it: with parameters beyond what is read."""
    parameters: Any = "x"
    for _ in range(levels):
        parameters = {"a": parameters}
    results = [result(f"gpu-{gpu}", f"node-1/{DRIVER}") for gpu in gpus]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "h", "namespace": "default", "uid": "uid-h", "resourceVersion": "5"},
        "spec": {"devices": {"config": [{"opaque": {"driver": "x.com", "parameters": parameters}}]}},
        "status": {"allocation": {"devices": {"results": results}}} if gpus else {},
    }


def listed(on: Cluster, claim: dict[str, Any]) -> None:
    text = json.dumps({"metadata": {"resourceVersion": "9"}, "items": [claim]})
    on.replace(CLAIMS, decoder(CLAIMS).page(text.encode()).objects)


def watched(on: Cluster, claim: dict[str, Any]) -> None:
    event = decoder(CLAIMS).event(json.dumps({"type": "MODIFIED", "object": claim}).encode())
    assert isinstance(event, Event)
    assert event.malformed is not None
    on.put(event.object)


@pytest.mark.parametrize("told", [listed, watched])
@pytest.mark.parametrize("known", [False, True])
def test_an_unreadable_claim_holds_its_devices_after_a_list_too(told: Any, known: bool) -> None:
    on = cluster(("node-1",))
    if known:
        on.put(newer(allocated("h", 0), 4))
    told(on, stored(0, 1))
    assert idle(on) == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("told", [listed, watched])
def test_an_unreadable_claim_that_holds_nothing_any_more_holds_nothing(told: Any) -> None:
    on = cluster(("node-1",))
    on.put(newer(allocated("h", 0), 4))
    told(on, stored())
    assert idle(on) == list(range(8))


@pytest.mark.parametrize("gpus", [(), (0,)])
def test_a_pod_that_wants_an_unreadable_claim_is_told_so(gpus: tuple[int, ...]) -> None:
    on = cluster(("node-1",))
    listed(on, stored(*gpus))
    with pytest.raises(Refusal, match="claim default/h cannot be read"):
        on.resolve(pod("new", claims=["h"]))


def test_an_unreadable_claim_of_a_snapshot_holds_its_devices() -> None:
    found = read_snapshot({"kind": "List", "apiVersion": "v1", "items": [stored(0)]})
    assert len(found.malformed) == 1
    assert idle(Cluster.from_snapshot((*found.objects, node(), *slices()))) == [1, 2, 3, 4, 5, 6, 7]
