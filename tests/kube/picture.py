"""A sink that keeps what it is told, and checks that no object ever goes back in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kube.access import Access
from kube.client import ApiClient
from kube.kinds import Kind
from kube.reflector import Reflector, ReflectorSettings
from sandbox.testbed import Testbed

PATIENCE_S = 30.0
QUICK = ReflectorSettings(page=5, first_delay_s=0.02, most_delay_s=0.2)


class Picture:
    """The objects of a kind by name."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.replaced: list[set[str]] = []
        self._changed = asyncio.Event()

    @property
    def versions(self) -> dict[str, str]:
        return {name: found.metadata.resource_version for name, found in self.known.items()}

    def keep(self, kind: Kind[Any], objects: Sequence[Any]) -> Sequence[Any]:
        return objects

    def replace(self, kind: Kind[Any], objects: Sequence[Any]) -> None:
        known = {found.metadata.name: found for found in objects}
        assert len(known) == len(objects)
        for name, found in known.items():
            self._never_older(name, found)
        self.known = known
        self.replaced.append(set(known))
        self._changed.set()

    def put(self, kind: Kind[Any], found: Any) -> None:
        self._never_older(found.metadata.name, found)
        self.known[found.metadata.name] = found
        self._changed.set()

    def remove(self, kind: Kind[Any], found: Any) -> None:
        known = self.known.pop(found.metadata.name, found)  # a malformed one was never put
        assert known.metadata.uid == found.metadata.uid
        self._changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true of the picture."""
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await self._changed.wait()
                self._changed.clear()

    def _never_older(self, name: str, found: Any) -> None:
        if name in self.known:
            assert int(self.known[name].metadata.resource_version) <= int(found.metadata.resource_version)


def custom_kind(testbed: Testbed, plural: str, type: type[Any]) -> Kind[Any]:  # noqa: A002
    """A kind that the API server has from now on, and that stores any fields."""
    group = f"{testbed.namespace}.example.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    testbed.create(definition)

    def established(stored: dict[str, Any]) -> bool:
        conditions = stored.get("status", {}).get("conditions") or []
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    testbed.api.wait(definition, established)
    return Kind(name="Thing", plural=plural, type=type, group=group)


def following(kubeconfig: Path, work: Callable[[ApiClient, asyncio.TaskGroup], Any]) -> None:
    """Run `work` with a client; reflectors that it starts as tasks end with it."""

    async def run() -> None:
        async with ApiClient(Access(kubeconfig)) as client, asyncio.TaskGroup() as tasks:
            await work(client, tasks)
            for task in list(tasks._tasks):
                task.cancel()

    asyncio.run(run())


def started(tasks: asyncio.TaskGroup, reflector: Reflector[Any]) -> Reflector[Any]:
    """Run a reflector in the background."""
    tasks.create_task(reflector.run())
    return reflector
