"""Real kills: a forked driver dies by SIGKILL just before its n-th effect, on disk or on the machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml

from dra_driver.prepare.clash import clash, held_on, over_budget
from dra_driver.prepare.model import Phase, Record
from dra_driver.prepare.plan import is_partition
from dra_driver.prepare.state import DeviceState
from tests.dra_driver.prepare.sites import Site
from topology.modes import MigMode

ON_DISK = ("fsync", "replace", "rename", "unlink", "link")
ON_GPUS = (
    "nvmlDeviceSetMigMode",
    "nvmlDeviceSetComputeMode",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlComputeInstanceDestroy",
    "nvmlGpuInstanceDestroy",
)
NEVER = 1 << 30


class Reaper:
    """Counts effects, and kills this process before the one that is its number."""

    def __init__(self, victim: int) -> None:
        self.count = 0
        self._victim = victim
        self._inside = False

    def wrap(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        """Let an effect count. What it does inside (the twin keeps its machine in a file) does not."""

        def counted(*args: Any, **given: Any) -> Any:
            if self._inside:
                return effect(*args, **given)
            self.count += 1
            if self.count == self._victim:
                os.kill(os.getpid(), signal.SIGKILL)
            self._inside = True
            try:
                return effect(*args, **given)
            finally:
                self._inside = False

        return counted


class CountingLibrary:
    """The library under pynvml, with calls that change the machine counted."""

    def __init__(self, library: Any, reaper: Reaper) -> None:
        self._library = library
        self._reaper = reaper

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        return self._reaper.wrap(function) if name in ON_GPUS else function


@contextmanager
def reaping(victim: int) -> Iterator[Reaper]:
    """Count effects in the block, and die before the `victim`-th."""
    reaper = Reaper(victim)
    module: Any = pynvml
    library, kept = module.nvmlLib, {name: getattr(os, name) for name in (*ON_DISK, "open")}
    module.nvmlLib = CountingLibrary(library, reaper)
    module._nvmlGetFunctionPointer_cache.clear()
    counted_open = reaper.wrap(kept["open"])

    def opened(path: Any, flags: int, *args: Any, **given: Any) -> int:
        makes = flags & os.O_CREAT and not str(path).endswith("lock")
        return (counted_open if makes else kept["open"])(path, flags, *args, **given)

    try:
        for name in ON_DISK:
            setattr(os, name, reaper.wrap(kept[name]))
        os.open = opened  # type: ignore[assignment]
        yield reaper
    finally:
        module.nvmlLib = library
        module._nvmlGetFunctionPointer_cache.clear()
        for name, real in kept.items():
            setattr(os, name, real)


def dies(work: Callable[[Callable[[str], None]], None], victim: int) -> tuple[bool, list[str]]:
    """Run `work` in a forked process that dies before its `victim`-th effect; `work` is given what says how far it is.

    Returns whether it was killed, and what it said before.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.close(reading)
            with reaping(victim):
                work(lambda text: os.write(writing, f"{text}\n".encode()) and None)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as said:
        lines = said.read().splitlines()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True, lines
    assert os.WEXITSTATUS(status) == 0, f"the driver failed at kill point {victim}"
    return False, lines


def disagreements(site: Site, state: DeviceState) -> list[str]:
    """All in which journal, machine, CDI files and sharing differ: nothing leaked, nothing lost, nothing used twice."""
    entries = state.effects.journal.entries()
    records = list(entries.records.values())
    wrong = [f"unreadable record {uid}" for uid in entries.corrupt]
    wrong += [f"{each.claim} is {each.phase}" for each in records if each.phase is not Phase.COMPLETED]
    if any(name.endswith((".part", ".new")) for name in site.files()):
        wrong.append(f"unfinished files: {site.files()}")
    if sorted(state.effects.cdi.claims()) != sorted(entries.records):
        wrong.append(f"CDI files {state.effects.cdi.claims()} for claims {sorted(entries.records)}")
    wrong += [f"CDI file of {each.claim} is stale" for each in records if not state.effects.cdi.is_current(each)]
    shared = {i.gpu_uuid for each in records for i, m in zip(each.devices, each.made, strict=True) if m.sharing_applied}
    if set(state.effects.sharing.leftovers()) != shared:
        wrong.append(f"sharing is set on {state.effects.sharing.leftovers()}, claims need {sorted(shared)}")
    for gpu in site.gpus.gpus:
        wrong += _on_gpu(site, gpu.index, gpu.uuid, records)
        held = list(held_on(records, gpu.uuid))
        wrong += [
            f"used twice: GPU {gpu.index}" for a, one in held for b, two in held if a != b and clash(one, two, gpu.mig)
        ]
        wrong += [problem] if (problem := over_budget(held, gpu)) else []
    return wrong


def _on_gpu(site: Site, index: int, uuid: str, records: list[Record]) -> Iterator[str]:
    machine = site.twin.state.gpus[index]
    there = sorted((each.id, tuple(ci.uuid for ci in each.compute)) for each in machine.instances)
    recorded = sorted(
        (made.gpu_instance, (made.uuid,))
        for record in records
        for intent, made in zip(record.devices, record.made, strict=True)
        if intent.gpu_uuid == uuid and is_partition(intent)
    )
    if there != recorded:
        yield f"GPU {index} has instances {there}, the journal {recorded}"
    wanted = bool(recorded) or site.gpus.gpus[index].mig_mode is MigMode.ENABLED
    if machine.mig_enabled != wanted or machine.mig_pending != machine.mig_enabled:
        modes = f"{machine.mig_enabled} (pending {machine.mig_pending})"
        yield f"GPU {index}: MIG is {modes} with {len(recorded)} partitions"
