"""When two devices cannot be had at once. Pure: the one place that says it; plan and sentinel ask it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dra_driver.inventory import Gpu
from dra_driver.prepare.model import DeviceIntent, MigTarget, Record
from dra_driver.prepare.resolve import gpu_wide
from dra_driver.publish.attributes import WHOLE_MILLI
from topology.mig import MigGeometry, MigProfile

Held = tuple[Record, DeviceIntent]
"""A device and the claim that holds it."""


def held_on(records: Iterable[Record], gpu_uuid: str) -> Iterator[Held]:
    """Yield what is held of a GPU; admin access holds nothing."""
    for record in records:
        for intent in record.devices:
            if intent.gpu_uuid == gpu_uuid and not intent.admin:
                yield record, intent


def clash(one: DeviceIntent, other: DeviceIntent, geometry: MigGeometry | None) -> str:
    """Return why two devices cannot both be held (a verb phrase about `one`), or nothing."""
    if one.admin or other.admin or one.gpu_uuid != other.gpu_uuid:
        return ""
    if one.mig is not None and other.mig is not None:
        return _mig_clash(one.mig, other.mig, geometry)
    if one.share is not None and other.share is not None:
        if one.share.sharing is not other.share.sharing:
            return f"would share the GPU by {one.share.sharing}, not by {other.share.sharing} like"
        if gpu_wide(one) != gpu_wide(other):
            return (
                f"wants the time slice {one.settings.interval} for all of the GPU, not {other.settings.interval} like"
            )
        return ""
    return "is the same GPU as" if one.device == other.device else "takes from the same GPU as"


def over_budget(shares: Sequence[Held], gpu: Gpu) -> str:
    """Return what the shares of a GPU have too much of together, or nothing."""
    memory = sum(intent.share.memory_bytes for _, intent in shares if intent.share is not None)
    milli = sum(intent.share.compute_milli for _, intent in shares if intent.share is not None)
    if memory > gpu.memory_bytes:
        return f"memory: {memory} bytes of {gpu.memory_bytes}"
    if milli > WHOLE_MILLI:
        return f"compute: {milli} thousandths of {WHOLE_MILLI}"
    return ""


def _mig_clash(one: MigTarget, other: MigTarget, geometry: MigGeometry | None) -> str:
    if one.start < other.start + other.size and other.start < one.start + one.size:
        return "overlaps"
    profile, beside = _profile(geometry, one), _profile(geometry, other)
    if profile and beside and (profile.blocked_by & beside.takes or beside.blocked_by & profile.takes):
        return "needs the same engines as"
    return ""


def _profile(geometry: MigGeometry | None, target: MigTarget) -> MigProfile | None:
    """Return the profile; None where a record of an earlier boot names one that this driver version lacks."""
    profiles = () if geometry is None else geometry.profiles
    return next((profile for profile in profiles if profile.profile_id == target.profile_id), None)
