"""/proc and /dev as the driver's kernel modules make them."""

from __future__ import annotations

import uuid
from pathlib import Path

from twin.facts import GpuFacts, MachineFacts
from twin.state import State
from twin.tree.capabilities import CONFIG_MINOR, MONITOR_MINOR, access_text, mig_minors
from twin.tree.paths import CONTROL_MINOR, MODESET_MINOR, NVIDIA_MAJOR, device_node, write

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "boot.dovetail.dev")


def free_majors(count: int) -> tuple[int, ...]:
    """Return majors that no driver of this machine has: opening such a node must give ENXIO, not a real device."""
    taken = {line.split()[0] for line in Path("/proc/devices").read_text().splitlines() if line.strip()}
    return tuple(major for major in range(511, 383, -1) if str(major) not in taken)[:count]


def write_dev(root: Path, facts: MachineFacts, state: State) -> None:
    """Make the device nodes: one per GPU, those all share, unified memory, MIG's two."""
    dev, behaviour = root / "dev", state.behaviour
    for gpu in facts.gpus:
        device_node(dev / f"nvidia{gpu.minor}", NVIDIA_MAJOR, gpu.minor)
    device_node(dev / "nvidiactl", NVIDIA_MAJOR, CONTROL_MINOR)
    device_node(dev / "nvidia-modeset", NVIDIA_MAJOR, MODESET_MINOR)
    device_node(dev / "nvidia-uvm", behaviour.uvm_major, 0)
    device_node(dev / "nvidia-uvm-tools", behaviour.uvm_major, 1)
    for minor in (CONFIG_MINOR, MONITOR_MINOR):
        device_node(dev / f"nvidia-caps/nvidia-cap{minor}", behaviour.caps_major, minor)
    (dev / "shm").mkdir(exist_ok=True)


def write_proc(root: Path, facts: MachineFacts, state: State) -> None:
    """Write what the driver shows under /proc."""
    behaviour = state.behaviour
    write(root, "proc/devices", _devices(behaviour.uvm_major, behaviour.caps_major))
    write(root, "proc/driver/nvidia/version", _version(behaviour.driver_version))
    write(root, "proc/driver/nvidia/params", "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\n")
    write(root, "proc/driver/nvidia/capabilities/mig/config", access_text(CONFIG_MINOR))
    write(root, "proc/driver/nvidia/capabilities/mig/monitor", access_text(MONITOR_MINOR))
    write(
        root, "proc/driver/nvidia-caps/mig-minors", mig_minors(1 + max((gpu.minor for gpu in facts.gpus), default=-1))
    )
    write_boot_id(root, facts, state)
    for gpu in facts.gpus:
        write(root, f"proc/driver/nvidia/gpus/{gpu.pci_address}/information", _information(gpu))
        (root / f"proc/driver/nvidia/capabilities/gpu{gpu.minor}/mig").mkdir(parents=True, exist_ok=True)


def write_boot_id(root: Path, facts: MachineFacts, state: State) -> None:
    """Write the kernel's boot id: another one after each reboot of the twin."""
    write(root, "proc/sys/kernel/random/boot_id", f"{uuid.uuid5(_NAMESPACE, f'{facts.node}/{state.boots}')}\n")


def _devices(uvm: int, caps: int) -> str:
    listed = [(1, "mem"), (5, "/dev/tty"), (10, "misc"), (195, "nvidia"), (195, "nvidia-modeset"), (195, "nvidiactl")]
    listed += sorted([(uvm, "nvidia-uvm"), (caps, "nvidia-caps")])
    characters = "".join(f"{major:3} {name}\n" for major, name in listed)
    return f"Character devices:\n{characters}\nBlock devices:\n  7 loop\n254 virtblk\n"


def _version(version: str) -> str:
    return (
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Release Build\n"
        "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2)\n"
    )


def _information(gpu: GpuFacts) -> str:
    return (
        f"Model: \t\t {gpu.product}\nIRQ:   \t\t {64 + gpu.index}\nGPU UUID: \t {gpu.uuid}\n"
        f"Bus Type: \t PCIe\nBus Location: \t {gpu.pci_address}\nDevice Minor: \t {gpu.minor}\n"
        "GPU Excluded:\t No\n"
    )
