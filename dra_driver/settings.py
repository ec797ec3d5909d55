"""What one run of the driver is told: read once from flags and environment, passed down, logged at the start."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from dra_driver.inventory import MAX_NODE_NAME
from dra_driver.policy import MigPolicy
from dra_driver.roots import DRIVER_NAME, Roots
from kube.address import Address, read_address
from topology.errors import InvalidInputError
from topology.modes import Sharing

WHAT = "driver settings"
DEFAULT_ROOTS = Roots()
DEFAULT_ADDRESS = Address("127.0.0.1", 12391)
NO_SHARING = "none"

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_POD_UID = re.compile(r"[a-z0-9]([-a-z0-9]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked when made: raises InvalidInputError, which names the flag."""

    node: str
    """Name of the Node object that we run on."""
    kubeconfig: Path | None = None
    """None: as kubectl, else the service account of the Pod."""
    roots: Roots = DEFAULT_ROOTS
    pod_uid: str = ""
    """Of our Pod: our sockets carry it, so that an old and a new instance live side by side. Empty: we are alone."""
    mig: MigPolicy = MigPolicy.DYNAMIC
    sharing: tuple[Sharing, ...] = tuple(Sharing)
    """How GPUs are offered in shares."""
    evict: bool = False
    """Whether pods are evicted from GPUs on which nothing can run any more (`health.devices`)."""
    listen: Address = DEFAULT_ADDRESS
    """Where probes and metrics are answered."""
    version: str = ""
    """Of Dovetail."""

    def __post_init__(self) -> None:
        if not _SUBDOMAIN.fullmatch(self.node) or len(self.node) > MAX_NODE_NAME:
            remedy = "give the metadata.name of the Node that this runs on"
            raise InvalidInputError(WHAT, "--node-name", f"{self.node[:80]!r} is no name of a node; {remedy}")
        if self.pod_uid and not _POD_UID.fullmatch(self.pod_uid):
            raise InvalidInputError(
                WHAT, "--pod-uid", f"{self.pod_uid[:80]!r} is no UID; give the metadata.uid of our Pod, or leave it out"
            )

    def public(self) -> dict[str, object]:
        """Return the settings as JSON values; there are no secrets among them."""
        roots = {each.name: str(getattr(self.roots, each.name)) for each in fields(self.roots)}
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return own | {
            "kubeconfig": str(self.kubeconfig) if self.kubeconfig else None,
            "listen": str(self.listen),
            "roots": roots,
        }


def read_listen(text: str) -> Address:
    """Read HOST:PORT, [IPV6]:PORT or :PORT, which means all addresses."""
    return read_address(WHAT, "--listen", text, example=DEFAULT_ADDRESS)


def read_sharing(words: list[str] | None) -> tuple[Sharing, ...]:
    """Read the ways of sharing; nothing given means all, `none` means none."""
    if not words:
        return tuple(Sharing)
    known = [each.value for each in Sharing]
    for word in words:
        if word not in (*known, NO_SHARING):
            raise InvalidInputError(
                WHAT, "--sharing", f"{word[:80]!r} is unknown; known: {', '.join(known)}, {NO_SHARING}"
            )
    if NO_SHARING in words:
        if len(words) > 1:
            raise InvalidInputError(WHAT, "--sharing", f"{NO_SHARING} goes with no other")
        return ()
    return tuple(Sharing(word) for word in dict.fromkeys(words))


def make_roots(kubelet: Path, **others: Path) -> Roots:
    """Return the roots; state lies below the kubelet's. Raises InvalidInputError."""
    try:
        return Roots(kubelet=kubelet, state=kubelet / "plugins" / DRIVER_NAME, **others)
    except ValueError as error:
        raise InvalidInputError(WHAT, "--*-root, --host-prefix", str(error)) from error
