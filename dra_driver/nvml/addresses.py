"""PCI addresses: NVML writes `00000000:1B:00.0`, sysfs `0000:1b:00.0`. Ours are those of sysfs."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")


def sysfs_address(nvml: bytes | str) -> str:
    """Return the address as sysfs writes it; empty where it is none, such as `fffffff:ffff:ff` in virtual machines."""
    text = (nvml.decode(errors="replace") if isinstance(nvml, bytes) else nvml).lower()
    match = _ADDRESS.fullmatch(text)
    if match is None or set(text) <= set("f:."):
        return ""
    return f"{int(match[1], 16):04x}:{match[2]}"
