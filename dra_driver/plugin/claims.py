"""A claim as the kubelet names it, against the claim as the API server has it now."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dra_driver.errors import DeviceError, PermanentError, RetryableError
from dra_driver.plugin.ports import Claims
from dra_driver.prepare.model import ClaimRef
from kube.client import ApiClient
from kube.errors import ClusterError, ForbiddenError, MalformedObjectError, NotFoundError
from kube.kinds import CLAIMS, Kind
from kube.objects import ResourceClaim

UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

MAX_TEXT = 900
"""Characters of an error: an event has room for 1,024, and the kubelet adds some of its own."""
MAX_NAMESPACE = 63
MAX_NAME = 253


@dataclass(frozen=True, slots=True)
class ApiClaims:
    """Claims of the API server, read one by one."""

    api: ApiClient
    kind: Kind[ResourceClaim] = CLAIMS

    async def get(self, namespace: str, name: str) -> ResourceClaim:
        """Return a claim as it is now. Raises kube.errors.ClusterError."""
        return await self.api.get(self.kind, namespace, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class OurNode:
    """What an allocation of ours must name."""

    driver: str
    pool: str
    node: str


def bad_name(claim: ClaimRef) -> str:
    """Return what is wrong with the names, empty where the API server could have given them."""
    for field, value, form in (
        ("uid", claim.uid, UID),
        ("namespace", claim.namespace, _LABEL),
        ("name", claim.name, _SUBDOMAIN),
    ):
        if not form.fullmatch(value):
            return f"{field} is {value[:80]!r}, which no claim of the API server can have"
    return ""


async def fetch(claims: Claims, wanted: ClaimRef) -> ResourceClaim:
    """Read a claim from the API server. Raises DeviceError."""
    try:
        return await claims.get(wanted.namespace, wanted.name)
    except NotFoundError as fault:
        raise PermanentError("is gone from the API server; the pod must be created again") from fault
    except ForbiddenError as fault:
        raise RetryableError(f"the driver may not read it: {fault}; apply manifests/driver again") from fault
    except MalformedObjectError as fault:
        raise PermanentError(f"the API server's answer cannot be read: {fault}") from fault
    except ClusterError as fault:
        raise RetryableError(f"the API server did not answer: {fault}; retried by the kubelet") from fault


def check(claim: ResourceClaim, wanted: ClaimRef, ours: OurNode) -> None:
    """Raise DeviceError where the claim is not the one meant, not in use, or not allocated to devices of this node."""
    if claim.metadata.uid != wanted.uid:
        raise PermanentError(
            f"was replaced: the API server has UID {claim.metadata.uid}, the pod asks for {wanted.uid}; "
            f"delete the pod, so that its controller makes another one"
        )
    allocation = claim.status.allocation
    if allocation is None:
        raise RetryableError("is not allocated (any more); the scheduler must allocate it first")
    if not claim.status.reserved_for:
        raise RetryableError("is reserved for no pod; only what a pod uses is prepared")
    results = [result for result in allocation.devices.results if result.driver == ours.driver]
    if not results:
        raise PermanentError(f"has no device of driver {ours.driver}; the kubelet asked the wrong driver")
    for result in results:
        if result.pool != ours.pool:
            raise PermanentError(
                f"device {result.device} of request {result.request} is of pool {result.pool}, not of this node's "
                f"{ours.pool}; the allocation is for another node than {ours.node}: delete the pod"
            )


def text_of(claim: ClaimRef, fault: Exception) -> str:
    """Return what people read in the pod's events: one line, printable, with an end."""
    if isinstance(fault, DeviceError):
        what = str(fault)
    else:
        what = f"internal error, {type(fault).__name__}: {fault}; please report it with the driver's log"
    text = printable(f"claim {claim.namespace[:MAX_NAMESPACE]}/{claim.name[:MAX_NAME]}: {what}")
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def printable(text: str) -> str:
    """Return text that cannot break a line or steer a terminal."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
