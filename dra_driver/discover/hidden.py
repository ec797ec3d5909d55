"""NVLinks that NVML hides while MIG is on. Pure.

A GPU that is cut for a claim has its wires still, and is joined again when the claim ends. Where there is no fabric to
ask (older drivers) NVML denies its peers meanwhile, so what was seen before holds: what a node offers does not change,
and is not written anew, with each partition.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dra_driver.inventory import Gpu, NodeGpus


def with_hidden_links(before: NodeGpus, now: NodeGpus, cut: Collection[str]) -> NodeGpus:
    """Return `now` with the links of `before` where MIG hides them; `cut` are UUIDs of the GPUs with MIG on.

    Rows are by index: after the GPUs were numbered anew nothing of `before` holds.
    """
    known = {gpu.uuid: gpu for gpu in before.gpus}
    if any(gpu.uuid not in known or known[gpu.uuid].index != gpu.index for gpu in now.gpus):
        return now
    indices = {gpu.index for gpu in now.gpus if gpu.uuid in cut}
    return replace(now, gpus=tuple(_with_hidden(known[gpu.uuid], gpu, indices) for gpu in now.gpus))


def _with_hidden(before: Gpu, now: Gpu, cut: Collection[int]) -> Gpu:
    row = [*now.nvlinks, *(0,) * (len(before.nvlinks) - len(now.nvlinks))]
    for peer, links in enumerate(before.nvlinks):
        if not row[peer] and (now.index in cut or peer in cut):
            row[peer] = links
    if tuple(row) == now.nvlinks or not any(row):
        return now
    return replace(
        now,
        nvlinks=tuple(row),
        nvlink_count=before.nvlink_count,
        nvlink_mbps=before.nvlink_mbps,
        nvswitch=before.nvswitch,
    )
