"""Joins what is on the node with how it fares, and says what the slices shall be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dra_driver.changes import change, changes
from dra_driver.health.board import HealthBoard
from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.publish.slices import resource_slices
from dra_driver.publish.taints import Taints
from dra_driver.slices.controller import SliceController

REFRESH_S = 5.0
"""How often taints are asked for without a change: that of a GPU that has fallen silent comes with time alone."""


class Publisher:
    """What is published of this node. `show` it after each discovery; `run` publishes, and follows the health.

    Nothing is published before the first look at the GPUs, or REFRESH_S without one: one that is broken when the driver
    starts is never there without its taint.
    """

    def __init__(self, controller: SliceController, board: HealthBoard, *, refresh_s: float = REFRESH_S) -> None:
        self._controller, self._board, self._refresh_s = controller, board, refresh_s
        self._node: NodeGpus | None = None
        self._wanted: tuple[NodeGpus, Taints] | None = None
        self._begun = False

    def show(self, node: NodeGpus) -> None:
        """Publish `node` from now on. Called in the event loop."""
        self._board.show(node)
        self._node = node
        self._want()

    async def run(self) -> None:
        """Publish and follow the health until cancelled."""
        with changes(self._board) as changed:
            self._begun = self._board.looked
            while True:
                changed.clear()
                self._want()
                await change(changed, self._refresh_s)
                self._begun = self._begun or self._board.looked or not changed.is_set()

    def _want(self) -> None:
        node = self._node
        if node is None or not self._begun:
            return
        taints = self._board.taints()
        if self._wanted == (node, taints):
            return
        self._wanted = node, taints
        self._controller.want(lambda features: resource_slices(node, taints=taints, features=features))


def with_lost(before: NodeGpus, now: NodeGpus, lost: Collection[str]) -> NodeGpus:
    """Return `now` with the GPUs of `before` that are lost: they stay published, tainted, until they are back.

    A lost GPU whose index or minor another has now is left out.
    """
    indices, minors = {gpu.index for gpu in now.gpus}, {gpu.minor for gpu in now.gpus}
    there = {gpu.uuid for gpu in now.gpus}
    kept = [
        gpu
        for gpu in before.gpus
        if gpu.uuid in lost and gpu.uuid not in there and gpu.index not in indices and gpu.minor not in minors
    ]
    return replace(now, gpus=tuple(sorted((*now.gpus, *kept), key=lambda gpu: gpu.index)))


def without_own(node: NodeGpus, own: Collection[tuple[str, int, int]]) -> NodeGpus:
    """Return `node` with the MIG devices of others alone.

    `own`: those that claims have been given, as (UUID of the GPU, profile id, start). They are published as placements,
    as before they were made: what a pool offers does not change when some of it is taken.
    """

    def others(gpu: Gpu) -> Gpu:
        left = tuple(each for each in gpu.instances if (gpu.uuid, each.profile_id, each.start) not in own)
        return replace(gpu, instances=left) if len(left) != len(gpu.instances) else gpu

    return replace(node, gpus=tuple(map(others, node.gpus)))
