"""Values between the claim and the hardware: what a claim was given here, and what became of it.

`Record` is all that is needed to undo a claim when neither the API server nor this version of the driver is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dra_driver.config.model import Settings
from topology.modes import Sharing

NO_SETTINGS = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRef:
    """A claim: names are for people, `uid` is the claim."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigTarget:
    """Exactly one MIG placement."""

    profile: str
    profile_id: int
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTarget:
    """A part of a shared GPU. `share_id` as the scheduler made it; amounts it may use."""

    sharing: Sharing
    share_id: str
    memory_bytes: int
    compute_milli: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIntent:
    """One device of a claim, resolved against this node. `mig` or `share` is set, or neither: the whole GPU.

    `existing_uuid`: a MIG device that somebody else made and that is published as it is; never destroyed by us.
    """

    request: str
    """Base name of the request, without the alternative."""
    pool: str
    device: str
    gpu_uuid: str
    minor: int
    mig: MigTarget | None = None
    existing_uuid: str = ""
    share: ShareTarget | None = None
    admin: bool = False
    settings: Settings = NO_SETTINGS


class Phase(StrEnum):
    """How far a claim is. Each is recorded after its effects, and before those of the next begin.

    Phases in which there is nothing to do for a claim are passed over.
    """

    PLANNED = "planned"
    GI_CREATED = "gi_created"
    CI_CREATED = "ci_created"
    SHARING_APPLIED = "sharing_applied"
    COMPLETED = "completed"
    """The CDI file is written too. A record of an earlier boot still holds its devices, but nothing of it exists."""
    UNPREPARING = "unpreparing"
    """On the way back; what is left to undo stands in `made`."""
    UNKNOWN = "unknown"
    """The record was lost, and the claim may hold any of `devices`: whole GPUs, which nobody else is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made for a device: ids by NVML, None and empty where nothing (yet, or any more)."""

    gpu_instance: int | None = None
    compute_instance: int | None = None
    uuid: str = ""
    """Of the MIG device; compared before anything is destroyed, since ids are used again. Kept when that is destroyed
    and the GPU instance is not yet."""
    mig_switched_on: bool = False
    """We switch MIG on for it (recorded before), or did for one that is there now: who is last switches it off."""
    sharing_applied: bool = False
    """We set what all users of the GPU share (recorded before); who is last puts it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The journal's entry of one claim. `made` runs along `devices`."""

    claim: ClaimRef
    boot_id: str
    phase: Phase
    devices: tuple[DeviceIntent, ...]
    made: tuple[Made, ...]
    written_by: str = ""
    """Version of the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDevice:
    """What the kubelet is told of a device."""

    requests: tuple[str, ...]
    pool: str
    device: str
    cdi_ids: tuple[str, ...]
    share_id: str = ""
