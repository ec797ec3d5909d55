"""What the devices of one pool of our driver say of the node's GPUs, GPU by GPU (docs/devices.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packing.dra.model import Attribute, DeviceShape, GpuPart, PartKind, PoolShape
from packing.model import MAX_GPUS_PER_NODE
from topology.modes import Sharing

OUR_DRIVER = "gpu.dovetail.dev"
STANDARD = "resource.kubernetes.io"

_KINDS = {"gpu": PartKind.WHOLE, "mig": PartKind.PARTITION, "share": PartKind.SHARE}


@dataclass(slots=True)
class GpuDevices:
    """The devices that one GPU is published as."""

    index: int
    whole: DeviceShape | None = None
    partitions: dict[tuple[str, int, int], DeviceShape] = field(default_factory=dict)
    """(profile, start, size) -> device."""
    shares: dict[Sharing, DeviceShape] = field(default_factory=dict)
    positions: int = 0
    """Bit per position in the pool shape."""

    @property
    def is_fixed_in_mig(self) -> bool:
        """Whether it is published in partitions alone."""
        return bool(self.partitions) and self.whole is None and not self.shares

    @property
    def any(self) -> DeviceShape:
        """Return the device that says most: the whole GPU, else some part of it."""
        return self.whole or next(iter((*self.partitions.values(), *self.shares.values())))


def part_of(driver: str, attributes: Mapping[str, Attribute]) -> GpuPart | None:
    """Return what of a GPU a device of our driver is; None where its attributes do not say."""
    kind = _KINDS.get(text(attributes, f"{driver}/type"))
    gpu = number(attributes, f"{driver}/index", -1)
    if kind is None or not 0 <= gpu < MAX_GPUS_PER_NODE:
        return None
    if kind is PartKind.PARTITION:
        profile = text(attributes, f"{driver}/profile")
        start = number(attributes, f"{driver}/placementStart", -1)
        return GpuPart(gpu, kind, profile, start) if profile and start >= 0 else None
    if kind is PartKind.SHARE:
        sharing = text(attributes, f"{driver}/sharing")
        return GpuPart(gpu, kind, sharing=Sharing(sharing)) if sharing in tuple(Sharing) else None
    return GpuPart(gpu, kind)


def devices_by_gpu(shape: PoolShape) -> dict[int, GpuDevices]:
    """Return the GPUs of a pool by index, as far as their devices say what they are."""
    found: dict[int, GpuDevices] = {}
    for at, device in enumerate(shape.devices):
        if device.part is None:
            continue
        gpu = found.setdefault(device.part.gpu, GpuDevices(device.part.gpu))
        gpu.positions |= 1 << at
        if device.part.kind is PartKind.WHOLE:
            gpu.whole = device
        elif device.part.kind is PartKind.PARTITION:
            size = number(device.attributes, f"{shape.driver}/placementSize", 0)
            gpu.partitions[device.part.profile, device.part.start, size] = device
        else:
            gpu.shares[device.part.sharing] = device
    return dict(sorted(found.items()))


def text(attributes: Mapping[str, Attribute], name: str) -> str:
    """Return the text of an attribute, empty where there is none."""
    found = attributes.get(name)
    value = found.values[0] if found is not None and found.values else ""
    return value if isinstance(value, str) else ""


def number(attributes: Mapping[str, Attribute], name: str, missing: int) -> int:
    """Return the whole number of an attribute, `missing` where there is none."""
    found = attributes.get(name)
    value = found.values[0] if found is not None and found.values else missing
    return value if isinstance(value, int) and not isinstance(value, bool) else missing


def truth(attributes: Mapping[str, Attribute], name: str) -> bool:
    """Return whether an attribute is there and true."""
    found = attributes.get(name)
    return found is not None and found.values[:1] == (True,)
