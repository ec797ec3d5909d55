"""Hosts with NVIDIA's driver, as trees of files; claims on them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dra_driver.cdi.driverfiles import DriverFiles
from dra_driver.cdi.files import ClaimFiles, no_more
from dra_driver.prepare.model import ClaimRef, DeviceIntent, Made, MigTarget, Phase, Record, ShareTarget
from dra_driver.roots import Roots
from topology.modes import Sharing

VERSION = "580.95.05"
UID = "5f0b6c1e-8a3d-4f5e-9b7a-0123456789ab"
OTHER_UID = "6f0b6c1e-8a3d-4f5e-9b7a-0123456789ab"
LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu"
MADE_NOTHING = Made()

DEVICES = """\
Character devices:
  1 mem
195 nvidia
195 nvidia-modeset
195 nvidiactl
226 drm
234 nvidia-caps
511 nvidia-uvm

Block devices:
  7 nvidia-uvm
"""


class Host:
    """A host below a folder; its GPUs have minors 0 to 7, its MIG instances those that `instance` adds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.roots = Roots(
            driver_root=root,
            dev_root=root,
            proc=root / "proc",
            sys=root / "sys",
            cdi=root / "cdi",
            state=root / "state",
        )
        self.put("proc/devices", DEVICES)
        self.library("libcuda", "libcuda.so.1")
        self.library("libnvidia-ml", "libnvidia-ml.so.1")
        self.put("usr/bin/nvidia-smi", "program").chmod(0o755)
        self.version = VERSION
        self.pci: dict[str, str] = {}

    def put(self, path: str, content: str | bytes = "") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def link(self, path: str, target: str) -> None:
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def library(self, name: str, *links: str, folder: str = LIBRARY_FOLDER, version: str = VERSION) -> None:
        self.put(f"{folder}/{name}.so.{version}", elf(2))
        for link in links:
            self.link(f"{folder}/{link}", f"{name}.so.{version}")

    def instance(self, gpu: int, gpu_instance: int, compute_instance: int, minors: tuple[int, int]) -> None:
        folder = f"proc/driver/nvidia/capabilities/gpu{gpu}/mig/gi{gpu_instance}"
        for path, minor in ((folder, minors[0]), (f"{folder}/ci{compute_instance}", minors[1])):
            self.put(f"{path}/access", capability(minor))

    def files(self, more: object = no_more) -> ClaimFiles:
        found = DriverFiles(self.roots, machine="x86_64")
        pci = self.pci
        return ClaimFiles(self.roots, found, lambda: self.version, lambda uuid: pci.get(uuid, ""), more)  # type: ignore[arg-type]


def elf(word: int) -> bytes:
    """The head of a library of 32 (1) or 64 bits (2)."""
    return b"\x7fELF" + bytes([word, 1, 1])


def capability(minor: int) -> str:
    return f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"


def gpu(minor: int, *, admin: bool = False, request: str = "gpus", device: str = "") -> DeviceIntent:
    return DeviceIntent(
        request=request, pool="n/p", device=device or f"gpu-{minor}", gpu_uuid=f"GPU-{minor}", minor=minor, admin=admin
    )


def partition(minor: int, start: int) -> DeviceIntent:
    target = MigTarget(profile="1g.10gb", profile_id=19, start=start, size=1)
    name = f"gpu-{minor}-mig-1g10gb-19-{start}"
    return DeviceIntent(request="r", pool="n/p", device=name, gpu_uuid=f"GPU-{minor}", minor=minor, mig=target)


def share(minor: int, share_id: str, sharing: Sharing = Sharing.MPS) -> DeviceIntent:
    target = ShareTarget(sharing=sharing, share_id=share_id, memory_bytes=1 << 30, compute_milli=250)
    name = f"gpu-{minor}-{sharing}"
    return DeviceIntent(request="r", pool="n/p", device=name, gpu_uuid=f"GPU-{minor}", minor=minor, share=target)


def made(gpu_instance: int, compute_instance: int = 0) -> Made:
    return Made(gpu_instance=gpu_instance, compute_instance=compute_instance, uuid=f"MIG-{gpu_instance}")


def record(
    devices: Iterable[DeviceIntent], made: Iterable[Made] | None = None, *, uid: str = UID, name: str = "claim"
) -> Record:
    devices = tuple(devices)
    claim = ClaimRef(namespace="default", name=name, uid=uid)
    results = tuple(made) if made is not None else (MADE_NOTHING,) * len(devices)
    return Record(claim=claim, boot_id="boot", phase=Phase.SHARING_APPLIED, devices=devices, made=results)
