"""The claim of our own whose changes wake waiting pods, on the API server (`scheduler.wakeup.Bell`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.client import ApiClient
from kube.kinds import CLAIMS


class ClaimBell:
    """One claim, by name."""

    def __init__(self, client: ApiClient, namespace: str, name: str) -> None:
        self._client = client
        self._where = (namespace, name)

    async def change(self, change: Mapping[str, Any]) -> None:
        """Merge a change into the claim. Raises NotFoundError where there is none."""
        await self._client.patch(CLAIMS, *self._where, change)

    async def create(self, claim: Mapping[str, Any]) -> None:
        """Create it. Raises ConflictError where there is one."""
        await self._client.create(CLAIMS, claim)
