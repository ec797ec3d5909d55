"""A node to prepare claims on: a twin under the real binding, the real journal and locks; and claims as in the API.

Sharing is the real one, with strategies that need no program. CDI files go through the real folder writer; what is in
them is tested where it is built.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from dra_driver.cdi.driverfiles import DriverFiles
from dra_driver.cdi.files import ClaimFiles
from dra_driver.cdi.folder import CdiFolder
from dra_driver.discover.node import discover
from dra_driver.inventory import NodeGpus
from dra_driver.nvml.api import Nvml
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.prepare import codec
from dra_driver.prepare.act import Effects
from dra_driver.prepare.effects import CdiFiles
from dra_driver.prepare.journal import Journal
from dra_driver.prepare.locks import Locks
from dra_driver.prepare.model import Record
from dra_driver.prepare.state import DeviceState
from dra_driver.roots import Roots
from dra_driver.sharing.control import NodeSharing
from dra_driver.simulated import simulated_gpus
from kube.objects import ResourceClaim
from topology.catalog import machine as machine_named
from topology.modes import MigMode
from twin import Twin

NODE = "node-a"
POOL = f"{NODE}/gpu.dovetail.dev"
BOOT = "6d0a7b2c-0000-4000-8000-000000000001"
A100 = "dgx-a100-40"
H100 = "hgx-h100-8"


class FileCdi:
    """CDI files with nothing in them but the record."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = CdiFolder(folder)

    def ids(self, record: Record) -> tuple[tuple[str, ...], ...]:
        return tuple((f"k8s.gpu.dovetail.dev/claim={record.claim.uid}-{each.device}",) for each in record.devices)

    def write(self, record: Record) -> None:
        self._folder.write(record.claim.uid, codec.encode(record))

    def is_current(self, record: Record) -> bool:
        return self._folder.read(record.claim.uid) == codec.encode(record)

    def remove(self, claim_uid: str) -> None:
        self._folder.remove(claim_uid)

    def claims(self) -> Sequence[str]:
        return self._folder.uids()

    def discard_unfinished(self) -> int:
        return self._folder.discard_unfinished()

    def copy_of(self, claim_uid: str) -> Record | None:
        content = self._folder.read(claim_uid)
        if content is None:
            return None
        try:
            return codec.decode(content).record
        except codec.CorruptError:
            return None


@dataclass
class Site:
    """A node, and the folders of its driver; `start` is a start of the driver."""

    folder: Path
    twin: Twin
    gpus: NodeGpus
    boot_id: str = BOOT
    cdi: CdiFiles | None = None
    nvml: Nvml = field(default_factory=PynvmlNvml)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def whole_host(self) -> None:
        """Give it a host's files: its GPUs are discovered, and its CDI files are the real ones from now on."""
        if not self.roots.driver_root.exists():
            self.twin.write_tree(self.roots.driver_root)
        self.gpus = discover(self.nvml, self.roots, NODE).node
        addresses = {gpu.uuid: gpu.pci_address for gpu in self.gpus.gpus}
        files = DriverFiles(self.roots)
        self.cdi = ClaimFiles(self.roots, files, lambda: self.gpus.driver_version, addresses.__getitem__)

    @property
    def roots(self) -> Roots:
        tree = self.folder / "host"
        return Roots(
            driver_root=tree,
            dev_root=tree,
            proc=tree / "proc",
            sys=tree / "sys",
            cdi=self.folder / "cdi",
            kubelet=self.folder / "kubelet",
            state=self.state,
            host_prefix=tree,
        )

    def start(self, **changed: Any) -> DeviceState:
        """A driver that starts on what is there."""
        effects = Effects(
            nvml=self.nvml,
            cdi=self.cdi or FileCdi(self.folder / "cdi"),
            sharing=NodeSharing(self.nvml, self.roots, self.boot_id),
            journal=Journal(self.state),
        )
        given: dict[str, Any] = {
            "effects": effects,
            "locks": Locks(self.state / "locks"),
            "node": lambda: self.gpus,
            "boot_id": self.boot_id,
            "written_by": "test",
        }
        return DeviceState(**(given | changed))

    def with_mig(self, mode: MigMode, *indices: int) -> None:
        """Publish GPUs (all, or some) with this MIG mode."""
        gpus = (replace(gpu, mig_mode=mode) if not indices or gpu.index in indices else gpu for gpu in self.gpus.gpus)
        self.gpus = replace(self.gpus, gpus=tuple(gpus))

    def instances(self, index: int = 0) -> list[tuple[int, int, int]]:
        """GPU instances of a GPU: (id, start, compute instances)."""
        return [(each.id, each.start, len(each.compute)) for each in self.twin.state.gpus[index].instances]

    def mig_enabled(self, index: int = 0) -> bool:
        return self.twin.state.gpus[index].mig_enabled

    def hardware(self) -> list[Any]:
        """All that preparing may change of the machine, without ids."""
        return [
            (gpu.mig_enabled, gpu.mig_pending, sorted((each.profile, each.start) for each in gpu.instances))
            for gpu in self.twin.state.gpus
        ]

    def files(self) -> list[str]:
        """Every file of the driver but locks, relative to its folder."""
        roots = [self.state / "claims", self.folder / "cdi", self.state / "sharing"]
        return sorted(
            str(path.relative_to(self.folder)) for root in roots for path in root.rglob("*") if path.is_file()
        )


@contextmanager
def site(folder: Path, machine: str = H100, mode: MigMode = MigMode.DYNAMIC, **twin: Any) -> Iterator[Site]:
    """A node that is such a machine; with MIG fixed on where `mode` says so."""
    Twin.create(folder / "twin", machine, node=NODE, mig_enabled=mode is MigMode.ENABLED, **twin)
    with again(folder, simulated_gpus(machine_named(machine), NODE, mig_mode=mode)) as there:
        yield there


@contextmanager
def again(folder: Path, gpus: NodeGpus, boot_id: str = BOOT) -> Iterator[Site]:
    """The node that `site` left in a folder."""
    twin = Twin.open(folder / "twin")
    with twin.install():
        nvml = PynvmlNvml()
        try:
            yield Site(folder, twin, gpus, boot_id, nvml=nvml)
        finally:
            nvml.close()


def uid(name: str) -> str:
    """The UID of the claim called so."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def claim(name: str, *devices: str | dict[str, Any], namespace: str = "team", **config: Any) -> ResourceClaim:
    """An allocated claim; a device is its name, or a result with more in it. `config`: sharing for all requests."""
    results = [
        {"request": f"r{at}", "driver": "gpu.dovetail.dev", "pool": POOL}
        | (device if isinstance(device, dict) else {"device": device})
        for at, device in enumerate(devices)
    ]
    opaque = {
        "driver": "gpu.dovetail.dev",
        "parameters": {"apiVersion": "gpu.dovetail.dev/v1alpha1", "kind": "GpuConfig", "sharing": config},
    }
    entries = [{"source": "FromClaim", "requests": [], "opaque": opaque}] if config else []
    allocation = {"devices": {"results": results, "config": entries}}
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": namespace, "uid": uid(f"{namespace}/{name}")},
            "status": {"allocation": allocation},
        },
        ResourceClaim,
    )


def share(device: str, number: int, memory: str = "10Gi", milli: int = 100) -> dict[str, Any]:
    """A result for a share of a GPU."""
    return {
        "device": device,
        "shareID": str(uuid.UUID(int=number + 1)),
        "consumedCapacity": {"memory": memory, "computeMilli": str(milli)},
    }


class Gone:
    """A caller that gives up after it was asked so many times."""

    def __init__(self, after: int = 0) -> None:
        self.left = after

    def is_gone(self) -> bool:
        self.left -= 1
        return self.left < 0
