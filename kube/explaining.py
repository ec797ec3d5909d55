"""All there is to say of a pod: where it is or would go and why there, or why nowhere and what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from kube.cluster import Cluster
from kube.fitting import Fit, Fitter, Json
from kube.nearestfit import Holders
from kube.objects import Pod
from kube.placed import judged_free, judged_placed, node_of
from kube.reasons import Reasons
from kube.refusal import Refusal
from packing.dra.model import SelectorError
from packing.model import NodeName
from topology.errors import InvalidInputError


def explain(
    cluster: Cluster, fitter: Fitter, pod: Pod, *, node: str | None = None, barred: Mapping[str, str] | None = None
) -> Json:
    """Return it as JSON values; with `node`, of that one device by device.

    `barred` are nodes that are out of the question whatever devices they have, and why. Raises InvalidInputError for a
    node that is not there.
    """
    barred = barred or {}
    packed = cluster.packed()
    if node is not None and node not in packed.inventory.fabric.index:
        raise InvalidInputError("cluster", "node", f"has no node {node[:80]!r}")
    own = cluster.books.held_for(pod.metadata.identity)
    with packed.ledger.without(own):
        answer = fitter.fit(pod, node=node, barred=barred)
        found: Json = {"pod": pod.metadata.full_name, "bound": pod.spec.node_name or None}
        return found | answer.to_json() | _more(cluster, pod, answer, node, barred)


def _more(cluster: Cluster, pod: Pod, answer: Fit, node: str | None, barred: Mapping[str, str]) -> Json:
    """Return why this node, the reasons of all nodes in short, and the devices of the node asked about."""
    found: Json = {"why": None}
    resolved = answer.resolved
    reasons = answer.to_json()["reasons"]
    if resolved is not None and answer.fits:
        at = node_of(pod, resolved)
        if at is not None:
            judged = judged_placed(cluster, pod, at, barred)
            # What other nodes lack, beside the claims that the pod has on this one.
            reasons = {} if judged is None else judged.reasons_to_json()
            found |= {"node": at, "reasons": reasons}
        else:
            assert answer.allocation is not None
            judged = judged_free(cluster, resolved, answer.allocation, barred)
        found["why"] = None if judged is None else judged.to_json()
    found["summary"] = _summary(reasons)
    if node is not None and resolved is not None:
        found["devices"] = _devices(cluster, answer, node, barred)
    return found


def _summary(reasons: Mapping[str, list[Json]]) -> list[Json]:
    """Return the first reason of each node, those alike together, with the number of nodes."""
    counts = Counter(
        (each[0].get("request", ""), each[0]["text"], each[0].get("detail", "")) for each in reasons.values() if each
    )
    return [
        {"nodes": number, "text": f"request {request}: {text}" if request and request not in text else text}
        | ({"detail": detail} if detail else {})
        for (request, text, detail), number in counts.most_common()
    ]


def _devices(cluster: Cluster, answer: Fit, node: str, barred: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the devices of a node with what keeps each from the pod's requests, and who holds it."""
    assert answer.resolved is not None
    holders = Holders(cluster)
    try:
        rows = Reasons(cluster, answer.resolved, barred).devices(
            cluster.packed().inventory.fabric.index[NodeName(node)]
        )
    except (Refusal, SelectorError):
        return []
    return [
        {
            "device": "/".join(row.device),
            "claim": row.claim,
            "request": row.request,
            "reason": row.reason or None,
            "held_by": holders.of(row.device),
        }
        for row in rows
    ]
