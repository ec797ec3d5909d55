"""Would it fit, where, with which devices; if not, why not and what would help: one answer for files and live pods."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import msgspec

from kube.cluster import Cluster
from kube.encode import encode_allocation, whereabouts_in
from kube.nearestfit import Near, NearestFit, near_to_json
from kube.objects import Pod, ResourceClaim
from kube.podclaims import pod_claims
from kube.reasons import Reason, Reasons
from kube.refusal import Refusal
from kube.resolved import Resolved, Way
from kube.trial import Trial
from packing.dra.model import Allocation, SelectorError

Json = dict[str, Any]
UNDECIDED = "the search for devices ended at its bound without an answer; this is no proof that none exist"
SHARES = uuid.UUID("6f1ce9d0-6b0c-5b57-9c55-4c8a7a9f2b11")
"""Namespace of the shareIDs that an answer makes up: the same question has the same answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """An answer. `error` says why nothing can be given on whatever node, or what an expression failed on."""

    fits: bool
    node: str | None = None
    error: str | None = None
    claims: tuple[Json, ...] = ()
    reasons: Mapping[str, tuple[Reason, ...]] = field(default_factory=dict)
    nearest: tuple[Near, ...] = ()
    resolved: Resolved | None = None
    allocation: Allocation | None = None

    def to_json(self) -> Json:
        """Return it as `dovetail fit -o json` prints it."""
        return {
            "fits": self.fits,
            "node": self.node,
            "error": self.error,
            "claims": list(self.claims),
            "reasons": {node: [reason_to_json(each) for each in found] for node, found in self.reasons.items()},
            "nearest": [near_to_json(each) for each in self.nearest],
        }


def reason_to_json(reason: Reason) -> Json:
    """Return a reason as JSON values; what is empty is left out."""
    found: Json = {"text": reason.text, "count": reason.count}
    more = {"claim": reason.claim, "request": reason.request, "detail": reason.detail}
    return found | {name: value for name, value in more.items() if value}


class Fitter:
    """Answers questions on one cluster."""

    def __init__(self, cluster: Cluster, allocated: Callable[[ResourceClaim], Json]) -> None:
        """`allocated` returns the allocation of a claim that has one, as it is stored."""
        self._cluster = cluster
        self._allocated = allocated
        self._trial: Trial | None = None

    def fit(
        self,
        pod: Pod,
        *,
        node: str | None = None,
        barred: Mapping[str, str] | None = None,
        keep: Collection[tuple[str, str]] = (),
        explain: bool = True,
    ) -> Fit:
        """Decide for a pod as the scheduler would, on `node` alone if given, never on nodes that are `barred`.

        Without `explain` it says neither why not nor what would help. Freeing the claims to `keep` is no help.
        """
        barred = barred or {}
        try:
            resolved = self._cluster.resolve(pod)
        except Refusal as refusal:
            return Fit(fits=False, error=refusal.detail)
        trial = self._tried()
        try:
            decided = trial.serve(resolved, trial.flags(self._open(barred, node)))
        except SelectorError as error:
            return Fit(fits=False, error=str(error), resolved=resolved)
        chosen = decided.allocation
        reasons, nearest = self._why(pod, resolved, barred, node, keep, chosen) if explain else ({}, ())
        if chosen is None:
            bound = UNDECIDED if decided.undecided else None
            return Fit(fits=False, error=bound, reasons=reasons, nearest=nearest, resolved=resolved)
        return Fit(
            fits=True,
            node=str(chosen.node),
            claims=tuple(self._claims(pod, resolved, chosen)),
            reasons=reasons,
            resolved=resolved,
            allocation=chosen,
        )

    def _tried(self) -> Trial:
        """Return who decides; what is remembered of asks is good as long as nodes and pools are the same."""
        if self._trial is None or self._trial.packed is not self._cluster.packed():
            self._trial = Trial(self._cluster)
        return self._trial

    def _why(
        self,
        pod: Pod,
        resolved: Resolved,
        barred: Mapping[str, str],
        node: str | None,
        keep: Collection[tuple[str, str]],
        chosen: Allocation | None,
    ) -> tuple[dict[str, tuple[Reason, ...]], tuple[Near, ...]]:
        """Return the reasons of all nodes asked about that cannot, and where none can, what would help."""
        why = Reasons(self._cluster, resolved, barred)
        try:
            found = why.all()
        except SelectorError:  # on a node that the decision had not to look at
            return {}, ()
        reasons = {name: each for name, each in found.items() if node in (None, name)}
        if chosen is not None:
            return reasons, ()
        nearest = NearestFit(
            self._cluster,
            pod,
            resolved,
            why,
            among=self._open(barred, node),
            beyond=None if node is None else self._open(barred, None),
            keep=keep,
        )
        return reasons, tuple(nearest.find())

    def _open(self, barred: Mapping[str, str], node: str | None) -> list[str]:
        """Return the nodes that may be chosen."""
        return [name for name in sorted(self._cluster.nodes()) if name not in barred and node in (None, name)]

    def _claims(self, pod: Pod, resolved: Resolved, chosen: Allocation) -> list[Json]:
        """Return every claim of the pod with its allocation, in the order of the pod; the special claim last."""
        way = resolved.way_to(chosen.node)
        assert way is not None, "the allocation is of one of the ways"
        new = self._encoded(way, chosen)
        old = {_key(each.claim): self._allocated(each.claim) for each in resolved.joined}
        order = [_key(claim) for claim in pod_claims(pod, self._cluster)]
        special = way.special
        if special is not None:
            name = special.claim.metadata.name or f"{pod.metadata.name}-extended-resources"
            key = (special.claim.metadata.namespace, name)
            if special.claim.status.allocation is not None:
                old[key] = self._allocated(special.claim)
            else:
                new[key] = new.pop(_key(special.claim))
            order.append(key)
        both = {**old, **new}
        return [{"namespace": key[0], "name": key[1], "allocation": both[key]} for key in order]

    def _encoded(self, way: Way, chosen: Allocation) -> dict[tuple[str, str], Json]:
        found = {}
        for wanted, given in zip(way.claims, chosen.claims, strict=True):
            found[_key(wanted.claim)] = encode_allocation(
                wanted,
                given,
                chosen.node,
                partial(whereabouts_in, self._cluster.pool_book),
                new_share_id=_share_ids(wanted.ask.uid).__next__,
            )
        return found


def allocation_of(claim: ResourceClaim) -> Json:
    """Return the allocation of a claim as JSON values, as far as it is decoded; what is empty is left out."""
    # The shared empty map is no plain dictionary.
    return dict(_plain(msgspec.to_builtins(claim.status.allocation, enc_hook=dict)) or {})


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        plain = {key: _plain(each) for key, each in value.items()}
        return {key: each for key, each in plain.items() if each not in (None, "", False, [], {})}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _share_ids(uid: str) -> Iterator[str]:
    for number in count():
        yield str(uuid.uuid5(SHARES, f"{uid}/{number}"))


def _key(claim: ResourceClaim) -> tuple[str, str]:
    return claim.metadata.namespace, claim.metadata.name
