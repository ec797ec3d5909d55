"""The CDI file of each claim: `prepare.effects.CdiFiles` on the real folder.

A container keeps the names of its devices for life, and its runtime reads the file again at each start of a container:
files stay until their claim is unprepared, over every restart of the driver and of the kubelet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from dra_driver.cdi.driverfiles import DriverFiles
from dra_driver.cdi.folder import CdiFolder
from dra_driver.cdi.kernel import Majors, read_majors
from dra_driver.cdi.model import NO_EDITS, VISIBLE_DEVICES, CdiContentError, CdiDevice, Edits, EnvVar
from dra_driver.cdi.names import device_name, qualified_name
from dra_driver.cdi.nodes import common_nodes, device_nodes
from dra_driver.cdi.spec import encode, spec_for
from dra_driver.prepare import codec
from dra_driver.prepare.model import DeviceIntent, Made, Record
from dra_driver.roots import DRIVER_NAME, Roots

CLAIM_ANNOTATION = f"{DRIVER_NAME}/claim"
RECORD_ANNOTATION = f"{DRIVER_NAME}/record"
# The legacy runtime hook would add devices a second time, and all of them.
_NO_LEGACY = EnvVar(VISIBLE_DEVICES, "void")


def no_more(_device: DeviceIntent) -> Edits:
    """Return no edits: for those who share nothing."""
    return NO_EDITS


class ClaimFiles:
    """CDI files of claims. Calls may come from several threads; those of one claim never at a time."""

    def __init__(
        self,
        roots: Roots,
        driver_files: DriverFiles,
        driver_version: Callable[[], str],
        pci_address: Callable[[str], str],
        more: Callable[[DeviceIntent], Edits] = no_more,
    ) -> None:
        """`pci_address` of a GPU's UUID, empty where unknown; `more` is what sharing adds to a device's containers."""
        self._roots = roots
        self._driver_files = driver_files
        self._driver_version = driver_version
        self._pci_address = pci_address
        self._more = more
        self._folder = CdiFolder(roots.cdi)

    def ids(self, record: Record) -> tuple[tuple[str, ...], ...]:
        """Return the fully qualified CDI names of each device, along `record.devices`. Pure."""
        return tuple((qualified_name(record.claim.uid, device),) for device in record.devices)

    def write(self, record: Record) -> None:
        """Write the file of the claim, whole or not at all, with a copy of `record` in it. Raises DeviceError."""
        self._folder.write(record.claim.uid, self._content(record))

    def is_current(self, record: Record) -> bool:
        """Whether the file is as `write` would leave it; how far the claim was then does not matter."""
        content = self._folder.read(record.claim.uid)
        copy = None if content is None else _copy_in(content, record.claim.uid)
        return copy is not None and content == self._content(replace(record, phase=copy.phase))

    def remove(self, claim_uid: str) -> None:
        """Remove the file of a claim."""
        self._folder.remove(claim_uid)

    def claims(self) -> Sequence[str]:
        """Return the UIDs of claims that have a file, also an unreadable one."""
        return self._folder.uids()

    def copy_of(self, claim_uid: str) -> Record | None:
        """Return the record that was written into the file; None where there is no file, or no whole copy."""
        content = self._folder.read(claim_uid)
        return None if content is None else _copy_in(content, claim_uid)

    def discard_unfinished(self) -> int:
        """Remove what crashes have left of writes, and return how many. Asked once, at the start."""
        return self._folder.discard_unfinished()

    def _content(self, record: Record) -> bytes:
        majors = read_majors(self._roots.proc)
        devices: dict[str, Edits] = {}
        for device, made in zip(record.devices, record.made, strict=True):
            name = device_name(record.claim.uid, device)
            # Two requests may have the same device, such as an administrator's beside another.
            devices[name] = devices.get(name, NO_EDITS) + self._device_edits(majors, device, made)
        common = Edits(
            env=(_NO_LEGACY,),
            nodes=common_nodes(self._roots, majors),
            mounts=self._driver_files.mounts(self._driver_version()),
        )
        annotations = {CLAIM_ANNOTATION: str(record.claim), RECORD_ANNOTATION: _copy_of(record)}
        return encode(spec_for([CdiDevice(name=each, edits=devices[each]) for each in devices], common, annotations))

    def _device_edits(self, majors: Majors, device: DeviceIntent, made: Made) -> Edits:
        more = self._more(device)
        roots = self._roots
        # An MPS daemon and its clients share memory, which lies in memory.
        ours = roots.on_host(roots.state), roots.on_host(roots.dev_root / "dev/shm")
        for mount in more.mounts:
            if not any(Path(mount.host_path).parent.is_relative_to(each) for each in ours):
                raise CdiContentError(f"device {device.device}: mounts {mount.host_path}, which is not our own")
        variable = "DOVETAIL_DEVICE_" + device.device.upper().replace("-", "_")
        own = Edits(
            env=(EnvVar(variable, made.uuid or device.existing_uuid or device.gpu_uuid),),
            nodes=device_nodes(self._roots, majors, device, made, self._pci_address(device.gpu_uuid)),
        )
        return own + more


def _copy_of(record: Record) -> str:
    try:
        return codec.encode(record).decode()
    except UnicodeEncodeError as fault:
        raise CdiContentError(f"claim {record.claim.uid}: a name in it is no text: {fault.reason}") from fault


def _copy_in(content: bytes, uid: str) -> Record | None:
    """Return the record in a file's content; None unless it is whole, and of this claim."""
    try:
        spec: Any = msgspec.json.decode(content)
        record = codec.decode(spec["annotations"][RECORD_ANNOTATION].encode()).record
    except (msgspec.MsgspecError, codec.CorruptError, RecursionError, KeyError, TypeError, AttributeError, ValueError):
        return None
    return record if record.claim.uid == uid else None
