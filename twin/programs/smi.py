"""`nvidia-smi`: lists GPUs, sets compute mode, time slice and MIG mode, resets GPUs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from twin import mig
from twin.codes import TEXTS, Code, ComputeMode, Refused
from twin.facts import GpuFacts
from twin.nvml.faults import Faults
from twin.nvml.session import Session
from twin.processes import set_compute_mode, set_time_slice
from twin.resetting import reset_gpu
from twin.state import State
from twin.store import Store

NAME = "nvidia-smi"
MODES = {
    "DEFAULT": ComputeMode.DEFAULT,
    "PROHIBITED": ComputeMode.PROHIBITED,
    "EXCLUSIVE_PROCESS": ComputeMode.EXCLUSIVE_PROCESS,
}
SLICES = ("Default", "Short", "Medium", "Long")


class _Usage(Exception):  # noqa: N818
    """What was asked for is no question to this program."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise _Usage(message)


def main(folder: str, arguments: Sequence[str]) -> int:
    """Do what `arguments` ask on the twin in `folder`; returns the exit code, NVML's where that is what failed."""
    store = Store(Path(folder))
    faults = Faults(store)
    fault = faults.due(NAME, ())
    if fault is not None and not fault.after and (code := faults.act(fault)) is not None:
        return _failed(Code(code))
    try:
        answer = _run(Session(store), arguments)
    except _Usage as usage:
        print(f"Invalid combination of input arguments: {usage}. Please run 'nvidia-smi -h' for help.")
        return 2
    except Refused as refused:
        return _failed(refused.code)
    if fault is not None and fault.after and (code := faults.act(fault)) is not None:
        return _failed(Code(code))
    return answer


def _failed(code: Code) -> int:
    print(f"Failed: {TEXTS[code]}")
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=NAME, add_help=False)
    parser.add_argument("-i", "--id", default="")
    parser.add_argument("-L", "--list-gpus", action="store_true")
    parser.add_argument("-c", "--compute-mode")
    parser.add_argument("-mig", "--multi-instance-gpu", choices=("0", "1"))
    parser.add_argument("-r", "--gpu-reset", action="store_true")
    return parser


def _run(session: Session, arguments: Sequence[str]) -> int:
    if arguments[:1] == ["compute-policy"]:
        return _compute_policy(session, arguments[1:])
    asked = _parser().parse_args(arguments)
    if asked.list_gpus or not arguments:
        return _list(session, asked.id)
    with session.change() as state:
        gpus = _gpus(session, state, asked.id)
        if asked.compute_mode is not None:
            mode = _mode(asked.compute_mode)
            _each(gpus, f"Set compute mode to {mode.name} for", lambda gpu: set_compute_mode(state, gpu, mode))
        elif asked.multi_instance_gpu is not None:
            enabled = asked.multi_instance_gpu == "1"
            _each(
                gpus,
                f"{'Enabled' if enabled else 'Disabled'} MIG Mode for",
                lambda gpu: _mig(state, gpu, enabled=enabled),
            )
        elif asked.gpu_reset:
            _each(gpus, "Reset", lambda gpu: reset_gpu(state, gpu))
        else:
            raise _Usage(" ".join(arguments))
    print("All done.")
    return 0


def _mode(text: str) -> ComputeMode:
    by_number = {str(int(mode)): mode for mode in MODES.values()}
    if text not in (known := MODES | by_number):
        raise _Usage(f"compute mode {text}")
    return known[text]


def _mig(state: State, gpu: GpuFacts, *, enabled: bool) -> None:
    status = mig.set_mode(state, gpu, enabled=enabled)
    if status is not Code.SUCCESS:
        word = "enable" if enabled else "disable"
        print(f"Warning: MIG mode is in pending {word} state for GPU {_bus(gpu)}:{TEXTS[status]}")


def _each(gpus: Sequence[GpuFacts], done: str, act: Callable[[GpuFacts], None]) -> None:
    for gpu in gpus:
        act(gpu)
        print(f"{done} GPU {_bus(gpu)}.")


def _bus(gpu: GpuFacts) -> str:
    return f"0000{gpu.pci_address.upper()}"


def _gpus(session: Session, state: State, wanted: str) -> list[GpuFacts]:
    """Return the GPUs named by index, UUID or bus id, all without a name. GPU lost, unknown: NOT_FOUND."""
    found = [
        gpu
        for gpu in session.facts.gpus
        if not wanted or wanted in (str(gpu.index), gpu.uuid, gpu.pci_address) or wanted.upper() == _bus(gpu)
    ]
    if not found or any(state.gpus[gpu.index].lost for gpu in found):
        raise Refused(Code.NOT_FOUND, wanted)
    return found


def _list(session: Session, wanted: str) -> int:
    state = session.state
    for gpu in _gpus(session, state, wanted) if wanted else session.facts.gpus:
        if state.gpus[gpu.index].lost:
            print(f"Unable to determine the device handle for gpu {_bus(gpu)}: GPU is lost.")
            continue
        print(f"GPU {gpu.index}: {gpu.product} (UUID: {gpu.uuid})")
        at = 0
        for instance in state.gpus[gpu.index].instances:
            profile = mig.profile_by_enum(mig.geometry(gpu, state), instance.profile)
            for compute in instance.compute:
                print(f"  MIG {profile.name:15} Device {at:2}: (UUID: {compute.uuid})")
                at += 1
    return 0


def _compute_policy(session: Session, arguments: Sequence[str]) -> int:
    parser = _Parser(prog=f"{NAME} compute-policy", add_help=False)
    parser.add_argument("-i", "--id", default="")
    parser.add_argument("-l", "--list", action="store_true")
    parser.add_argument("--set-timeslice")
    asked = parser.parse_args(arguments)
    if asked.set_timeslice is None:
        state = session.state
        for gpu in _gpus(session, state, asked.id):
            level = SLICES[state.gpus[gpu.index].time_slice]
            supported = gpu.time_slice_supported and not state.behaviour.vgpu_guest
            print(f"GPU {gpu.index}: Timeslice: {level if supported else 'Not Supported'}")
        return 0
    if asked.set_timeslice not in ("0", "1", "2", "3"):
        raise _Usage(f"timeslice {asked.set_timeslice}")
    with session.change() as state:
        for gpu in _gpus(session, state, asked.id):
            _set_time_slice(state, gpu, int(asked.set_timeslice))
    return 0


def _set_time_slice(state: State, gpu: GpuFacts, level: int) -> None:
    try:
        set_time_slice(state, gpu, level)
    except Refused as refused:
        text = TEXTS[refused.code]
        print(f"Failed to set timeslice policy with value {SLICES[level]} for GPU {gpu.index} : {text}")
        raise
    print(f"Successfully set timeslice policy with value {SLICES[level]} for GPU {gpu.index}")
