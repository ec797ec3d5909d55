"""The claims that a pod uses: by name, or made for it from templates. Nothing but its spec and status says which."""

from __future__ import annotations

from collections.abc import Iterator

from kube.nodeselect import single_node
from kube.objects import OwnerReference, Pod, PodClaim, ResourceClaim
from kube.refusal import Refusal
from kube.resolved import Joined, Surroundings
from kube.salvage import is_stand_in
from packing.model import NodeName

MAX_RESERVED = 256
"""Pods that may use a claim (ResourceClaimReservedForMaxSize)."""


def pod_claims(pod: Pod, around: Surroundings) -> Iterator[ResourceClaim]:
    """Return the claims of a pod in the order of its spec, each once. Raises Refusal."""
    seen: set[str] = set()
    for wanted in pod.spec.resource_claims:
        name = _name(pod, wanted)
        if not name or name in seen:
            continue
        seen.add(name)
        claim = around.claim(pod.metadata.namespace, name)
        full_name = f"{pod.metadata.namespace}/{name}"
        if claim is None:
            raise Refusal(f"claim {full_name} does not exist", "create it; the pod waits")
        if wanted.resource_claim_template_name and not is_owned(claim, pod):
            text = f"claim {full_name} was not made for this pod: the pod does not control it"
            raise Refusal(text, f"delete the claim; one is then made from {wanted.resource_claim_template_name}")
        if claim.metadata.deletion_timestamp is not None:
            raise Refusal(f"claim {full_name} is being deleted", "wait until it is gone, or use another")
        yield claim


def claim_names(pod: Pod) -> list[str]:
    """Return the names of the claims of a pod, as far as they are made."""
    return [name for wanted in pod.spec.resource_claims if (name := _known_name(pod, wanted))]


def _known_name(pod: Pod, wanted: PodClaim) -> str | None:
    """Return the name of a claim; empty: none is needed; None: it is not made yet, or nobody knows from what."""
    if wanted.resource_claim_name:
        return wanted.resource_claim_name
    return next(
        (made.resource_claim_name for made in pod.status.resource_claim_statuses if made.name == wanted.name), None
    )


def _name(pod: Pod, wanted: PodClaim) -> str:
    """Return the name of the claim; empty: none is needed. Raises Refusal."""
    if not wanted.resource_claim_name and not wanted.resource_claim_template_name:
        text = f"claim {wanted.name} of the pod is from a source that this version of Dovetail does not know"
        raise Refusal(text, "name a claim or a template")
    known = _known_name(pod, wanted)
    if known is not None:
        return known
    template = f"{pod.metadata.namespace}/{wanted.resource_claim_template_name}"
    raise Refusal(f"claim {wanted.name} of the pod is not made yet", f"does the template {template} exist?")


def is_owned(claim: ResourceClaim, pod: Pod) -> bool:
    """Whether the pod controls the claim: its UID says so, not its name."""
    controller: OwnerReference | None = claim.metadata.controller
    return (
        controller is not None
        and controller.kind == "Pod"
        and bool(pod.metadata.uid)
        and (controller.uid == pod.metadata.uid)
    )


def join(claim: ResourceClaim, pod: Pod, around: Surroundings) -> Joined:
    """Return an allocated claim as one that the pod joins. Raises Refusal when it cannot."""
    name = f"claim {claim.metadata.full_name}"
    allocation = claim.status.allocation
    assert allocation is not None
    if is_stand_in(allocation):
        text = f"{name} cannot be read by this version of Dovetail"
        raise Refusal(
            text, "the scheduler's log names the field, parameters nested too deeply, say; make it anew without"
        )
    reserved = any(user.uid == pod.metadata.uid for user in claim.status.reserved_for)
    if not reserved and len(claim.status.reserved_for) >= MAX_RESERVED:
        raise Refusal(f"{name} is used by {MAX_RESERVED} pods, no more can", "use another claim, or end some of them")
    if any(result.binding_conditions for result in allocation.devices.results):
        text = f"{name} was allocated with binding conditions, for which Dovetail does not wait"
        raise Refusal(text, "leave the pod to the scheduler that allocated the claim")
    nodes: frozenset[NodeName] | None = None
    if allocation.node_selector is not None:
        one = single_node(allocation.node_selector)
        nodes = frozenset({NodeName(one)}) if one else around.nodes_admitted(allocation.node_selector)
    return Joined(claim=claim, nodes=nodes, reserved=reserved)
