"""Puts the parts of the driver together: what works on the node by itself, and what faces the kubelet.

`NodeSide` needs neither the API server nor the event loop; its code blocks and runs in threads.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from dra_driver.cdi.driverfiles import DriverFiles
from dra_driver.cdi.files import ClaimFiles
from dra_driver.cdi.libraries import layouts
from dra_driver.cdi.rooted import find
from dra_driver.discover import discover
from dra_driver.inspection import Inspection
from dra_driver.inventory import NodeGpus
from dra_driver.nvml.api import Nvml
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.prepare.act import Effects
from dra_driver.prepare.journal import Journal
from dra_driver.prepare.locks import Locks
from dra_driver.prepare.model import Record
from dra_driver.prepare.state import DeviceState
from dra_driver.roots import DRIVER_NAME, Roots
from dra_driver.settings import Settings
from dra_driver.sharing.clients import edits_for
from dra_driver.sharing.control import NodeSharing
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

BOOT_ID = "sys/kernel/random/boot_id"
NVML_LIBRARY = "libnvidia-ml.so.1"
FOLDER_MODE = 0o750


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSide:
    """What prepares devices. Made once NVML answers."""

    nvml: Nvml
    inspection: Inspection
    state: DeviceState

    @classmethod
    def make(cls, settings: Settings, nvml: Nvml) -> Self:
        """Build it; nothing is read or changed but for our folder. Raises InvalidInputError where that cannot be."""
        roots = settings.roots
        _make_folder(roots.state)
        boot_id = read_boot_id(roots.proc)
        journal = Journal(roots.state)
        look = partial(discover, nvml, roots, settings.node, settings.mig, settings.sharing)
        inspection = Inspection(nvml, look, partial(_records, journal))
        files = ClaimFiles(
            roots,
            DriverFiles(roots),
            driver_version=lambda: inspection.node().driver_version,
            pci_address=lambda uuid: _pci_address(inspection.node(), uuid),
            more=lambda intent: edits_for(intent, roots),
        )
        effects = Effects(nvml=nvml, cdi=files, sharing=NodeSharing(nvml, roots, boot_id), journal=journal)
        state = DeviceState(
            effects=effects,
            locks=Locks(roots.state / "locks"),
            node=inspection.node,
            boot_id=boot_id,
            driver=DRIVER_NAME,
            written_by=settings.version,
        )
        return cls(nvml=nvml, inspection=inspection, state=state)

    def records(self) -> Collection[Record]:
        """Return what is prepared, or on its way there or back."""
        return _records(self.state.effects.journal)


def open_nvml(roots: Roots) -> PynvmlNvml:
    """Return NVML of the driver below the driver root; by the loader's own search where that is this root."""
    if roots.driver_root == Path("/"):
        return PynvmlNvml()
    folders = [folder for layout in layouts(platform.machine()) for folder in layout.host]
    found = [path for folder in folders if (path := find(roots.driver_root, f"{folder}/{NVML_LIBRARY}")) is not None]
    return PynvmlNvml(found[0] if found else None)


def read_boot_id(proc: Path) -> str:
    """Return the kernel's boot id, whose /proc it is. Raises InvalidInputError where it cannot be read."""
    for root in (proc, Path("/proc")):
        try:
            return (root / BOOT_ID).read_text().strip()
        except FileNotFoundError:
            continue
    raise InvalidInputError("driver settings", "--proc-root", f"{proc / BOOT_ID} is not there; give the host's /proc")


def _records(journal: Journal) -> Collection[Record]:
    return journal.entries().records.values()


def check_kubelet(root: Path) -> None:
    """Raise InvalidInputError where this is no kubelet's folder.

    Another journal beside the same CDI files would take the claims of the right one for its own.
    """
    registry = root / "plugins_registry"
    if not registry.is_dir():
        problem = f"{registry} is not there; give the kubelet's --root-dir, and start the kubelet once"
        raise InvalidInputError("driver settings", "--kubelet-root", problem)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        problem = f"{path}: {error.strerror}; the driver must be root, and the folder writable"
        raise InvalidInputError("driver settings", "--kubelet-root", problem) from error
    if not os.access(path, os.W_OK):
        raise InvalidInputError("driver settings", "--kubelet-root", f"{path} is not writable; mount it so")


def _pci_address(node: NodeGpus, uuid: str) -> str:
    """Return where a GPU is; nothing for one that is gone, which a claim may still hold."""
    return next((gpu.pci_address for gpu in node.gpus if gpu.uuid == uuid), "")
