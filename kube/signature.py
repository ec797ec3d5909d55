"""What an ask is, whoever asks: equal for asks that differ in names and UIDs alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from kube.selections import RequestSelection
from packing.dra.model import ClaimAsk, Constraint, SubRequest
from packing.model import NodeName


def ask_signature(
    claims: Iterable[ClaimAsk], cpu_milli: int, memory_mib: int, nodes: frozenset[NodeName] | None
) -> Hashable:
    """Return a hashable that says all that matters to an allocation; requests go by their place."""
    return (tuple(_claim(claim) for claim in claims), cpu_milli, memory_mib, nodes)


def _claim(claim: ClaimAsk) -> Hashable:
    requests = tuple(tuple(_alternative(each) for each in request.alternatives) for request in claim.requests)
    return requests, tuple(_constraint(claim, each) for each in claim.constraints)


def _alternative(request: SubRequest) -> Hashable:
    assert isinstance(request.selection, RequestSelection)
    return (
        request.selection.sieve.expressions,
        request.count,
        request.all_devices,
        request.admin,
        frozenset(request.capacity.items()),
        request.tolerations,
        request.link,
        request.min_gbps,
    )


def _constraint(claim: ClaimAsk, constraint: Constraint) -> Hashable:
    covered = tuple(
        (at, of)
        for at, request in enumerate(claim.requests)
        for of, alternative in enumerate(request.alternatives)
        if constraint.covers(alternative.name)
    )
    return constraint.attribute, constraint.distinct, covered
