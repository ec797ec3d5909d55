"""A pod that has its devices: why this node, what was second, and of which terms the scores are made.

It is judged as things are now, with what the pod itself holds set free; the cluster may have been another then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec.structs import replace as with_fields

from kube.allocated import given_to
from kube.cluster import Cluster
from kube.fitting import reason_to_json
from kube.objects import Pod, ResourceClaim, ResourceClaimStatus
from kube.podclaims import pod_claims
from kube.reasons import Reason, Reasons
from kube.refusal import Refusal
from kube.resolved import Resolved
from kube.trial import Altered, Trial
from packing.dra.model import Allocation, ClaimUid, SelectorError
from packing.dra.terms import terms_of
from packing.model import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A node with the devices a pod has or could have there; `terms` are in whole GPUs of future demand."""

    node: str
    devices: tuple[str, ...]
    score: float
    terms: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"node": self.node, "devices": list(self.devices), "score": self.score, "terms": dict(self.terms)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The devices that a pod has or would get, what would be chosen now, and the best on another node, if any."""

    chosen: Choice
    best: Choice | None
    second: Choice | None
    reasons: Mapping[str, tuple[Reason, ...]]
    """Of the nodes that could not serve it."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, without the reasons."""
        return {
            "chosen": self.chosen.to_json(),
            "best_now": None if self.best is None else self.best.to_json(),
            "second": None if self.second is None else self.second.to_json(),
        }

    def reasons_to_json(self) -> dict[str, list[dict[str, Any]]]:
        """Return the reasons as JSON values."""
        return {node: [reason_to_json(each) for each in several] for node, several in self.reasons.items()}


def node_of(pod: Pod, resolved: Resolved) -> str | None:
    """Return the node a pod is on or tied to; None where it is free to go anywhere."""
    if pod.spec.node_name:
        return pod.spec.node_name
    tied = {node for each in resolved.joined if each.nodes is not None for node in each.nodes}
    return next(iter(tied)) if len(tied) == 1 and not any(way.claims for way in resolved.ways) else None


def judged_placed(cluster: Cluster, pod: Pod, node: str, barred: Mapping[str, str]) -> Judged | None:
    """Return why a pod is on `node`; None where its claims cannot be judged, such as one that others use too."""
    own = [claim for claim in pod_claims(pod, cluster) if claim.status.allocation is not None]
    if not own or any(len(claim.status.reserved_for) > 1 for claim in own):
        return None
    unallocated = {_key(each): with_fields(each, status=ResourceClaimStatus()) for each in own}
    uids = [ClaimUid(each.metadata.identity) for each in own]
    given = {_key(each): given_to(each) for each in own}
    trial = Trial(cluster)
    try:
        resolved = cluster.resolve(pod, Altered(cluster, unallocated))
        way = resolved.way_to(NodeName(node))
        if way is None or node not in trial.packed.inventory.fabric.index:
            return None
        actual = Allocation(node=NodeName(node), claims=tuple(given.get(_key(each.claim), ()) for each in way.claims))
        with trial.packed.ledger.without(uids, [pod.metadata.uid]):
            return _judged(trial, resolved, actual, barred)
    except (Refusal, SelectorError):
        return None


def judged_free(cluster: Cluster, resolved: Resolved, chosen: Allocation, barred: Mapping[str, str]) -> Judged | None:
    """Return why a pod that has nothing yet would get just this."""
    try:
        return _judged(Trial(cluster), resolved, chosen, barred)
    except SelectorError:
        return None


def _judged(trial: Trial, resolved: Resolved, actual: Allocation, barred: Mapping[str, str]) -> Judged:
    index = trial.packed.inventory.fabric.index
    allowed = np.ones(len(index), dtype=np.bool_)
    allowed[[index[NodeName(name)] for name in barred if name in index]] = False
    best = trial.serve(resolved, allowed).allocation
    others = allowed.copy()
    others[index[actual.node]] = False
    second = trial.serve(resolved, others).allocation if others.any() else None
    return Judged(
        chosen=_choice(trial, resolved, actual),
        best=None if best is None else _choice(trial, resolved, best),
        second=None if second is None else _choice(trial, resolved, second),
        reasons=Reasons(trial.cluster, resolved, barred).all(),
    )


def _choice(trial: Trial, resolved: Resolved, allocation: Allocation) -> Choice:
    way = resolved.way_to(allocation.node)
    assert way is not None
    terms = terms_of(trial.packed.ledger, trial.packed.policy, way.ask, allocation)
    devices = tuple("/".join(given.device) for claim in allocation.claims for given in claim)
    return Choice(node=str(allocation.node), devices=devices, score=sum(terms.values()), terms=terms)


def _key(claim: ResourceClaim) -> tuple[str, str]:
    return claim.metadata.namespace, claim.metadata.name
