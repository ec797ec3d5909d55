"""Link wishes where kube-scheduler allocates: it knows none, so the claim itself must ask to the same effect."""

from __future__ import annotations

from collections.abc import Iterable

from kube.linkwish import CONFIG_DRIVER
from kube.resolved import Resolved
from packing.dra.model import ClaimAsk, SubRequest
from packing.model import LinkWish
from scheduler import texts

DOMAIN = f"{CONFIG_DRIVER}/nvlinkDomain"
LINKING = frozenset({DOMAIN, f"{CONFIG_DRIVER}/nvlinkClique"})
"""Attributes that are equal on GPUs of a node which NVLink joins (docs/devices.md)."""


def unmatched(resolved: Resolved) -> str:
    """Return why a link wish of the pod would be lost; empty where none would."""
    claims = (each.ask for way in resolved.ways for each in way.claims)
    return next((text for claim in claims for text in _lost(claim)), "")


def _lost(claim: ClaimAsk) -> Iterable[str]:
    for request in claim.requests:
        for sub in request.alternatives:
            if sub.link is not LinkWish.REQUIRE or (sub.count == 1 and not sub.all_devices):
                continue
            if not _is_matched(claim, sub):
                yield texts.needs_match(claim.name, sub.name, DOMAIN)
            elif sub.min_gbps:
                yield texts.no_least_bandwidth(claim.name, sub.name)


def _is_matched(claim: ClaimAsk, sub: SubRequest) -> bool:
    return any(not each.distinct and each.attribute in LINKING and each.covers(sub.name) for each in claim.constraints)
