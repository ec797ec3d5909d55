"""From the links that NVML reports to how many NVLinks join each two GPUs. Pure.

A link that ends at a GPU of the node counts for that pair. One that ends at a switch, or at something unreadable,
counts for every GPU that has such links too: which GPUs a switch joins, NVML never says, and NCCL infers it the same
way. The fabric, or what NVML says of peers, confirms it: in virtual machines the ends of bridges are unreadable too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dra_driver.nvml.api import GpuReading

_RATES = (20_000, 25_000, 50_000, 100_000)
_CODING = 1.08
"""Line rates are this much above at most: 25781 (A100) and 26562 (H100) of 25000, 53125 (B200) of 50000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLinks:
    """NVLink of one GPU. `row`: links to the GPU of each index; empty where there are none."""

    count: int = 0
    mbps: int = 0
    row: tuple[int, ...] = ()
    switched: bool = False


def gpu_links(readings: Sequence[GpuReading]) -> tuple[dict[int, GpuLinks], tuple[str, ...]]:
    """Return the links by index of the GPU, and notes on what did not agree."""
    gpus = {reading.index: reading for reading in readings}
    ends = {index: _Ends.of(gpu, {other.pci_address: other.index for other in readings}) for index, gpu in gpus.items()}
    width = max(gpus, default=-1) + 1
    rows = {
        index: tuple(_joined(gpus, ends, index, peer) if peer in gpus and peer != index else 0 for peer in range(width))
        for index in gpus
    }
    notes = tuple(
        f"GPU {index}: has {ends[index].direct[peer]} NVLinks to GPU {peer}, which has "
        f"{ends[peer].direct.get(index, 0)} back; the fewer are used"
        for index in gpus
        for peer in sorted(ends[index].direct)
        if index < peer and ends[index].direct[peer] != ends[peer].direct.get(index, 0)
    )
    return {index: _links(gpus[index], ends[index], rows[index]) for index in gpus}, notes


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where the links of one GPU end."""

    direct: dict[int, int]
    switch: int
    """Of these `unreadable` may end anywhere."""
    unreadable: int

    @classmethod
    def of(cls, gpu: GpuReading, indices: dict[str, int]) -> _Ends:
        direct: dict[int, int] = {}
        switch = unreadable = 0
        for link in gpu.links:
            peer = indices.get(link.remote_pci_address) if link.remote_pci_address else None
            if link.remote == "switch":
                switch += 1
            elif link.remote in ("gpu", "unknown"):
                if peer is not None and peer != gpu.index:
                    direct[peer] = direct.get(peer, 0) + 1
                # A GPU that is told and not of this node is lost, or another virtual machine's.
                elif link.remote == "unknown" or peer == gpu.index or not link.remote_pci_address:
                    unreadable += 1
        return cls(direct, switch + unreadable, unreadable)


def _joined(gpus: dict[int, GpuReading], ends: dict[int, _Ends], one: int, other: int) -> int:
    """Return the links between two GPUs, the fewer where their ends differ."""
    if other in ends[one].direct or one in ends[other].direct:
        return min(ends[one].direct.get(other, 0), ends[other].direct.get(one, 0))
    links = min(ends[one].switch, ends[other].switch)
    return links if links and _confirmed(gpus[one], gpus[other], ends[one].unreadable + ends[other].unreadable) else 0


def _confirmed(one: GpuReading, other: GpuReading, unreadable: int) -> bool:
    """Whether links into switches join these two.

    From Hopper on the fabric tells, which MIG leaves alone; where there is none to ask, NVML must call them peers.
    """
    if (one.fabric.state, other.fabric.state) != ("not-supported", "not-supported"):
        return _registered(one) == _registered(other) is not None
    if any(gpu.mig is not None and gpu.mig.enabled for gpu in (one, other)):
        # NVML denies peers while MIG is on, but links are facts of the machine.
        return not unreadable
    said = {_said(one, other.index), _said(other, one.index)}
    return False not in said and (True in said or not unreadable)


def _registered(gpu: GpuReading) -> tuple[str, int | None] | None:
    """Return the fabric and the clique where the GPU is in working order there."""
    fabric = gpu.fabric
    in_order = fabric.state == "completed" and fabric.status == "success"
    return (fabric.cluster_uuid, fabric.clique_id) if in_order else None


def _said(gpu: GpuReading, peer: int) -> bool | None:
    return gpu.nvlink_peers[peer] if peer < len(gpu.nvlink_peers) else None


def _links(gpu: GpuReading, ends: _Ends, row: tuple[int, ...]) -> GpuLinks:
    usable = sum(ends.direct.values()) + ends.switch
    if not usable or not any(row):
        return GpuLinks()
    mbps = [link.mbps for link in gpu.links if link.remote != "npu"]
    return GpuLinks(
        count=usable,
        mbps=usable_mbps(min(mbps)),
        row=row,
        switched=ends.switch > ends.unreadable or sum(row) > usable,
    )


def usable_mbps(line_mbps: int) -> int:
    """Return what a link of NVML's line rate carries, MB/s per direction: the rate that NVIDIA states for it.

    A rate that is none of theirs (RTX bridges: 14062) is taken as it is.
    """
    return next((rate for rate in _RATES if rate <= line_mbps <= rate * _CODING), line_mbps)
