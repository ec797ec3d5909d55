"""The version of the API server."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from kube.client import ApiClient
from kube.errors import UnavailableError

_VERSION = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})")


class KubernetesVersion(NamedTuple):
    """A release of Kubernetes."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def parse_version(text: str) -> KubernetesVersion:
    """Read a gitVersion such as v1.36.1, whatever a distributor adds to it. Raises ValueError."""
    found = _VERSION.match(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no version of Kubernetes")
    return KubernetesVersion(*map(int, found.groups()))


async def server_version(client: ApiClient) -> KubernetesVersion:
    """Ask the API server. Raises ClusterError."""
    text = await client.raw("/version")
    try:
        return parse_version(str(json.loads(text)["gitVersion"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"/version of the API server: {error}") from error
