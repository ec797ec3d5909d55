"""Names of devices, counters, pools and slices. Devices are called as NVIDIA's DRA driver calls them."""

from __future__ import annotations

import hashlib
import re

from dra_driver.inventory import Gpu
from topology.mig import MigProfile
from topology.modes import Sharing

DRIVER_NAME = "gpu.dovetail.dev"
MAX_SUBDOMAIN = 253
_DIGEST = 8


def gpu_name(gpu: Gpu) -> str:
    """Return `gpu-<minor>`: minors are what device nodes carry; NVML's index is an attribute."""
    return f"gpu-{gpu.minor}"


def partition_name(gpu: Gpu, profile: MigProfile, start: int) -> str:
    """Return `gpu-<minor>-mig-<profile>-<profile id>-<start>`, which says exactly what is to be created."""
    return f"{gpu_name(gpu)}-mig-{label(profile.name.replace('.', ''))}-{profile.profile_id}-{start}"


def share_name(gpu: Gpu, sharing: Sharing) -> str:
    """Return `gpu-<minor>-time-slicing` or `gpu-<minor>-mps`."""
    return f"{gpu_name(gpu)}-{sharing}"


def counter_set_name(gpu: Gpu) -> str:
    """Return `gpu-<minor>-counter-set`."""
    return f"{gpu_name(gpu)}-counter-set"


def pool_name(driver: str, node: str) -> str:
    """Return `<node>/<driver>`: kube-scheduler keeps counters by pool name alone, so two drivers must not share one."""
    return f"{_fitted(node, MAX_SUBDOMAIN - len(driver) - 1)}/{driver}"


def slice_name(position: int, driver: str, node: str) -> str:
    """Return a name that sorts by position, the order in which kube-scheduler reads the slices of a pool."""
    prefix = f"{position:05x}-{driver}-"
    return prefix + _fitted(node, MAX_SUBDOMAIN - len(prefix))


def label(text: str) -> str:
    """Return `text` as (a part of) a DNS label: lower case, anything else a hyphen."""
    return re.sub(r"[^a-z0-9-]", "-", text.lower()).strip("-")


def _fitted(node: str, room: int) -> str:
    """Shorten a long node name, keeping it unique by a digest."""
    if len(node) <= room:
        return node
    digest = hashlib.sha256(node.encode()).hexdigest()[:_DIGEST]
    return f"{node[: room - _DIGEST - 1].rstrip('-.')}-{digest}"
