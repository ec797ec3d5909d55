"""API objects as decoded: names as in the Kubernetes API, in Python's spelling; what we do not read is not there.

This module has the objects of the core API and Lease, and passes on those of resource.k8s.io, so that one import does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from kube.objects_base import *  # noqa: F403
from kube.objects_base import Metadata, Part, Quantity, empty
from kube.objects_claims import *  # noqa: F403
from kube.objects_devices import *  # noqa: F403
from kube.objects_pods import *  # noqa: F403


class NodeStatus(Part, frozen=True, kw_only=True):
    """What a node has. `allocatable` is what pods may use of `capacity`; both hold extended resources too."""

    capacity: Mapping[str, Quantity] = msgspec.field(default_factory=empty)
    allocatable: Mapping[str, Quantity] = msgspec.field(default_factory=empty)


class Node(Part, frozen=True, kw_only=True):
    """A node."""

    metadata: Metadata
    status: NodeStatus = NodeStatus()


class Namespace(Part, frozen=True, kw_only=True):
    """A namespace."""

    metadata: Metadata


class LeaseSpec(Part, frozen=True, kw_only=True):
    """Who holds a lease, and until when."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: datetime | None = None
    renew_time: datetime | None = None
    lease_transitions: int = 0


class Lease(Part, frozen=True, kw_only=True):
    """A lease of coordination.k8s.io: who leads."""

    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()
