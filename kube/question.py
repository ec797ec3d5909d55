"""A pod or claims that a person asks about -> the pod that stands for them, beside the objects of a cluster.

Claims without a pod are those of one pod, so that they are allocated together. What the controllers of a cluster would
make is made here: claims from templates, names, UIDs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace as with_fields

from kube.cluster import Cluster
from kube.decoding import decoder
from kube.documents import Json, stored_objects
from kube.errors import MalformedObjectError
from kube.kinds import KINDS, RESOURCE_GROUP
from kube.objects import (
    Metadata,
    OwnerReference,
    Pod,
    PodClaim,
    PodResourceClaimStatus,
    PodSpec,
    ResourceClaim,
    ResourceClaimTemplate,
)
from kube.objects_pods import PodMetadata
from topology.errors import InvalidInputError

ASKABLE = ("Pod", "ResourceClaim", "ResourceClaimTemplate")
MAX_CLAIMS = 256
Template = Callable[[str, str], ResourceClaimTemplate | None]
"""(namespace, name) -> template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a file asks about. `stored` is the pod as it was written, empty for bare claims."""

    pod: Pod
    stored: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[ResourceClaim, ...] = ()
    templates: Mapping[tuple[str, str], ResourceClaimTemplate] = field(default_factory=dict)


def read_question(documents: Iterable[object], source: str) -> Question:
    """Return what is asked. Raises InvalidInputError, with object, field and remedy."""
    found: dict[str, list[Any]] = {kind: [] for kind in ASKABLE}
    pods: list[Json] = []
    for kind, stored in stored_objects(documents, source):
        if kind not in found:
            raise InvalidInputError(source, "kind", f"is {kind[:80]!r}; ask about a {', a '.join(ASKABLE)}")
        found[kind].append(_decoded(kind, stored, source))
        if kind == "Pod":
            pods.append(stored)
    claims, templates = tuple(found["ResourceClaim"]), found["ResourceClaimTemplate"]
    if len(pods) > 1:
        raise InvalidInputError(source, "", f"holds {len(pods)} pods; ask about one at a time, or use --replicas")
    if not pods and not claims:
        raise InvalidInputError(source, "", "holds neither a Pod nor a ResourceClaim")
    _check_names(claims, source)
    pod = found["Pod"][0] if pods else _pod_of(claims, source)
    unused = {each.metadata.name for each in claims} - {each.resource_claim_name for each in pod.spec.resource_claims}
    if unused:
        problem = f"claim {min(unused)} is not among them; name it, or leave it out"
        raise InvalidInputError(f"{source} pod {pod.metadata.name}", "spec.resourceClaims", problem)
    return Question(
        pod=pod,
        stored=pods[0] if pods else {},
        claims=claims,
        templates={(each.metadata.namespace, each.metadata.name): each for each in templates},
    )


def pose(question: Question, cluster: Cluster, template: Template, number: int = 0) -> Pod:
    """Put the claims of a question into a cluster and return its pod; `number` tells one replica from others.

    A claim that the cluster has already, with the same specification, stays as it is there. One whose template is
    nowhere is not made, so that the pod waits for it.
    """
    suffix = f"-{number}" if number else ""
    metadata = question.pod.metadata
    space = metadata.namespace
    named = with_fields(metadata, name=metadata.name + suffix, uid=metadata.identity + suffix)
    pod = with_fields(question.pod, metadata=named)
    renamed: dict[str, str] = {}
    for claim in question.claims:
        known = cluster.claim(space, claim.metadata.name)
        if not number and known is not None and known.spec == claim.spec and claim.status.allocation is None:
            continue
        name = claim.metadata.name + suffix
        renamed[claim.metadata.name] = name
        cluster.put(with_fields(claim, metadata=_named(claim.metadata, name, claim.metadata.identity + suffix)))
    entries = tuple(
        with_fields(each, resource_claim_name=renamed.get(each.resource_claim_name, each.resource_claim_name))
        for each in pod.spec.resource_claims
    )
    pod = with_fields(pod, spec=with_fields(pod.spec, resource_claims=entries))
    made = {each.name: each for each in pod.status.resource_claim_statuses} if not number else {}
    for entry in entries:
        name = entry.resource_claim_template_name
        if not name or entry.name in made:
            continue
        source = question.templates.get((space, name)) or template(space, name)
        if source is not None:
            claim = _claim_from(source, pod, entry.name, cluster)
            cluster.put(claim)
            made[entry.name] = PodResourceClaimStatus(name=entry.name, resource_claim_name=claim.metadata.name)
    return with_fields(pod, status=with_fields(pod.status, resource_claim_statuses=tuple(made.values())))


def _claim_from(template: ResourceClaimTemplate, pod: Pod, entry: str, cluster: Cluster) -> ResourceClaim:
    """Return the claim that kube-controller-manager would make, but for the random end of its name."""
    space, name, number = pod.metadata.namespace, f"{pod.metadata.name}-{entry}", 0
    free = name
    while cluster.claim(space, free) is not None:
        number += 1
        free = f"{name}-{number}"
    owner = OwnerReference(uid=pod.metadata.uid, kind="Pod", name=pod.metadata.name, api_version="v1", controller=True)
    metadata = Metadata(name=free, namespace=space, uid=f"{space}/{free}", owner_references=(owner,))
    return ResourceClaim(metadata=metadata, spec=template.spec.spec)


def _decoded(kind: str, stored: Json, source: str) -> Any:  # noqa: ANN401 - a struct of the kind
    metadata = stored.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, Mapping) else {}
    where = f"{source} {kind} {str(metadata.get('name') or '')[:80]}".rstrip()
    version = stored.get("apiVersion")
    wanted = "v1" if kind == "Pod" else f"{RESOURCE_GROUP}/v1"
    if version not in (None, wanted):
        raise InvalidInputError(where, "apiVersion", f"is {str(version)[:80]!r}; write it as {wanted}")
    if not metadata.get("name") and isinstance(metadata.get("generateName"), str):
        metadata["name"] = metadata["generateName"].rstrip("-")
    if not metadata.get("name"):
        raise InvalidInputError(where, "metadata.name", "is missing")
    metadata["namespace"] = metadata.get("namespace") or "default"
    try:
        return decoder(KINDS[kind]).converted({**stored, "metadata": metadata})
    except MalformedObjectError as fault:
        problem = str(fault.__cause__).partition(" - at ")[0]
        raise InvalidInputError(where, fault.field.removeprefix("$."), problem) from fault


def _check_names(claims: tuple[ResourceClaim, ...], source: str) -> None:
    names = [each.metadata.name for each in claims]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInputError(f"{source} ResourceClaim {twice}", "metadata.name", "is there twice")
    if len(claims) > MAX_CLAIMS:
        raise InvalidInputError(source, "", f"holds {len(claims)} claims; a pod uses at most {MAX_CLAIMS}")


def _pod_of(claims: tuple[ResourceClaim, ...], source: str) -> Pod:
    spaces = sorted({each.metadata.namespace for each in claims})
    if len(spaces) > 1:
        problem = f"are in namespaces {' and '.join(spaces[:2])}; the claims of one pod are in its own"
        raise InvalidInputError(source, "metadata.namespace", problem)
    entries = tuple(
        PodClaim(name=f"claim-{at}", resource_claim_name=each.metadata.name) for at, each in enumerate(claims)
    )
    name = f"pod-of-{claims[0].metadata.name}"
    return Pod(
        metadata=PodMetadata(name=name, namespace=spaces[0]), spec=PodSpec(containers=(), resource_claims=entries)
    )


def _named(metadata: Metadata, name: str, uid: str) -> Metadata:
    return with_fields(metadata, name=name, uid=uid)
