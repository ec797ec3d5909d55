"""Names of CDI devices and files. They come from claims, so nothing but what is allowed gets through."""

from __future__ import annotations

import re

from dra_driver.errors import PermanentError
from dra_driver.prepare.model import DeviceIntent
from dra_driver.roots import DRIVER_NAME

VENDOR = f"k8s.{DRIVER_NAME}"
CLASS = "claim"
KIND = f"{VENDOR}/{CLASS}"
# As the runtimes' own library names files that live as long as their devices.
PREFIX = f"{VENDOR}-{CLASS}_"
SUFFIX = ".json"

_UID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DEVICE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class CdiNameError(PermanentError):
    """A name that cannot become (a part of) a file's or a CDI device's name."""


def require_uid(uid: str) -> str:
    """Return the UID of a claim if it is one, as the API server writes it."""
    if not _UID.fullmatch(uid):
        raise CdiNameError(f"claim UID {uid[:80]!r}: must be a UUID, as the API server makes them")
    return uid


def file_name(uid: str) -> str:
    """Return the name of the file of a claim."""
    return f"{PREFIX}{require_uid(uid)}{SUFFIX}"


def uid_of_file(name: str) -> str | None:
    """Return the claim that a file in the CDI folder belongs to, None where it is not ours."""
    if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
        return None
    uid = name[len(PREFIX) : -len(SUFFIX)]
    return uid if _UID.fullmatch(uid) else None


def device_name(uid: str, device: DeviceIntent) -> str:
    """Return `<claim>-<device>`, for a share `<claim>-<device>-<share>`: never the same for two claims.

    Runtimes remember devices by name, hence none is ever used for something else.
    """
    if not _DEVICE.fullmatch(device.device):
        raise CdiNameError(f"device {device.device[:80]!r}: must be a DNS label, as ResourceSlices name devices")
    parts = [require_uid(uid), device.device]
    if device.share is not None and device.share.share_id:
        if not _UID.fullmatch(device.share.share_id):
            raise CdiNameError(f"device {device.device}: share ID {device.share.share_id[:80]!r} is no UUID")
        parts.append(device.share.share_id)
    return "-".join(parts)


def qualified_name(uid: str, device: DeviceIntent) -> str:
    """Return the name that the kubelet hands to the runtime."""
    return f"{KIND}={device_name(uid, device)}"
