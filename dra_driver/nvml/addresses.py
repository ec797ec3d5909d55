"""PCI addresses: NVML writes `00000000:1B:00.0`, sysfs `0000:1b:00.0`. Ours are those of sysfs."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}:[01][0-9a-f]\.[0-7])")
"""A bus has 32 devices: `ffffffff:ff:ff.0`, which virtual machines give for what they hide, is no address."""


def sysfs_address(nvml: str) -> str:
    """Return the address as sysfs writes it; empty where it is none."""
    match = _ADDRESS.fullmatch(nvml.lower())
    return f"{int(match[1], 16):04x}:{match[2]}" if match else ""
