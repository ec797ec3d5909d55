"""The operator's hand on a twin: makes one, puts it under pynvml, brings trouble, tells what is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from topology.facts import Machine
from twin.codes import Code, EventType
from twin.facts import CUDA_VERSION, DRIVER_VERSION, GpuFacts, MachineFacts
from twin.nvml.library import Library, install
from twin.processes import attach
from twin.resetting import reboot, recover_gpu, reset_gpu
from twin.state import Behaviour, Event, Fault, GpuState, Process, State, add_event
from twin.store import Store
from twin.tree.build import build_tree, sync_tree
from twin.tree.capabilities import changing


class Twin:
    """A machine in a folder. Every method may be called from any process that shares the folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def create(
        cls,
        folder: Path,
        machine: str | Machine,
        *,
        node: str = "twin",
        mig_enabled: bool = False,
        driver_version: str = DRIVER_VERSION,
        cuda_version: str = CUDA_VERSION,
        lacks: Sequence[str] = (),
        reset_supported: bool = True,
        vgpu_guest: bool = False,
        repeat_mig_uuids: bool = False,
        minors: Sequence[int] = (),
    ) -> Self:
        """Make a twin of a machine (id in the catalog, or one) in `folder`; UUIDs come from `node` and index.

        `minors` are of the device nodes, by index, where they are not the indices: a virtual machine or a GPU that is
        switched off leaves gaps. Raises FileExistsError where one is, InvalidInputError for an unknown machine.
        """
        # Only a new twin needs the catalog: a program that runs on one should not pay for a YAML reader.
        from topology.catalog import machine as machine_named
        from twin.fromfile import machine_facts

        shape = machine_named(machine) if isinstance(machine, str) else machine
        facts = machine_facts(shape, node, minors)
        enabled = [mig_enabled and gpu.geometry is not None and not vgpu_guest for gpu in facts.gpus]
        state = State(
            behaviour=Behaviour(
                driver_version=driver_version,
                cuda_version=cuda_version,
                lacks=list(lacks),
                reset_supported=reset_supported,
                vgpu_guest=vgpu_guest,
                repeat_mig_uuids=repeat_mig_uuids,
            ),
            gpus=[GpuState(mig_enabled=on, mig_pending=on) for on in enabled],
        )
        return cls(Store.make(Path(folder), facts, state))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the twin in `folder`; FileNotFoundError where none is."""
        store = Store(Path(folder))
        sync_tree(store)
        return cls(store)

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self._store.folder

    @property
    def facts(self) -> MachineFacts:
        """What never changes."""
        return self._store.facts

    @property
    def state(self) -> State:
        """The machine now; a picture, not to be changed."""
        return self._store.read()

    def change(self) -> AbstractContextManager[State]:
        """Change anything, alone: for tests that need what no method brings about."""
        return changing(self._store)

    def library(self) -> Library:
        """Return a new object for `pynvml.nvmlLib`."""
        return Library(self._store)

    def install(self) -> AbstractContextManager[Library]:
        """Put it under pynvml for the length of a `with` block."""
        return install(self.library())

    def gpu(self, name: int | str) -> GpuFacts:
        """Return a GPU by index or UUID; KeyError where there is none."""
        for facts in self.facts.gpus:
            if name in (facts.index, facts.uuid):
                return facts
        raise KeyError(f"no GPU {name}")

    def fault(
        self,
        function: str,
        *,
        code: Code | int | None = None,
        nth: int = 1,
        times: int = 1,
        delay_s: float = 0.0,
        hang: bool = False,
        kill: bool = False,
        after: bool = False,
        gpu: int | None = None,
    ) -> int:
        """Plan a fault at the `nth` call from now (1 is the next); returns its number. See `state.Fault`."""
        with self.change() as state:
            number = state.next_serial()
            state.faults.append(
                Fault(
                    number=number,
                    function=function,
                    skip=nth - 1,
                    times=times,
                    code=None if code is None else int(code),
                    delay_s=delay_s,
                    hang=hang,
                    kill=kill,
                    after=after,
                    gpu=gpu,
                )
            )
        return number

    def clear_faults(self) -> None:
        """Forget all faults; calls that hang return."""
        with self.change() as state:
            state.faults.clear()

    def process(
        self,
        gpu: int | str,
        pid: int,
        *,
        kind: str = "compute",
        memory_mib: int = 256,
        mig_device: tuple[int, int] | None = None,
    ) -> None:
        """Let a process use a GPU, or its MIG device (GPU instance id, compute instance id). Raises Refused."""
        at = mig_device or (None, None)
        process = Process(pid=pid, kind=kind, memory_mib=memory_mib, gpu_instance=at[0], compute_instance=at[1])
        with self.change() as state:
            attach(state, self.gpu(gpu), process)

    def process_gone(self, pid: int) -> None:
        """Take a process off every GPU."""
        with self.change() as state:
            for gpu in state.gpus:
                gpu.processes = [one for one in gpu.processes if one.pid != pid]

    def xid(
        self, gpu: int | str, xid: int, *, mig_device: tuple[int, int] | None = None, recovery_action: int = 0
    ) -> None:
        """Report an XID, on a GPU or on a MIG device of it; with what the GPU then needs."""
        at, index = mig_device or (None, None), self.gpu(gpu).index
        event = Event(number=0, gpu=index, kind=EventType.XID, data=xid, gpu_instance=at[0], compute_instance=at[1])
        with self.change() as state:
            add_event(state, event)
            _need(state, index, recovery_action)

    def recovery_action(self, gpu: int | str, action: int) -> None:
        """Set what the GPU needs (nvmlDeviceGpuRecoveryAction_t), and report the change."""
        with self.change() as state:
            _need(state, self.gpu(gpu).index, action)

    def lose(self, gpu: int | str) -> None:
        """Let a GPU fall off the bus: XID 79, and GPU_IS_LOST from then on."""
        index = self.gpu(gpu).index
        with self.change() as state:
            add_event(state, Event(number=0, gpu=index, kind=EventType.XID, data=79))
            state.gpus[index].lost = True

    def recover(self, gpu: int | str) -> None:
        """Bring a GPU back as after a repair: present, nothing needed. What was on a lost one is gone."""
        facts = self.gpu(gpu)
        with self.change() as state:
            recover_gpu(state, facts)
            _need(state, facts.index, 0)

    def reset(self, gpu: int | str) -> None:
        """Reset a GPU: a pending MIG mode becomes real. Raises Refused where it is in use or not supported."""
        facts = self.gpu(gpu)
        with self.change() as state:
            reset_gpu(state, facts)
            add_event(state, Event(number=0, gpu=facts.index, kind=EventType.RECOVERY_ACTION, data=0))

    def reboot(self) -> None:
        """Boot the node anew: another boot id, no process and no instance."""
        with self.change() as state:
            reboot(state, self.facts)
        sync_tree(self._store)

    def link(self, gpu: int | str, link: int, *, up: bool) -> None:
        """Take an NVLink down, or bring it up."""
        index = self.gpu(gpu).index
        with self.change() as state:
            down = set(state.gpus[index].links_down) - {link}
            state.gpus[index].links_down = sorted(down if up else down | {link})

    def write_tree(self, root: Path) -> None:
        """Write the host tree below `root`; it follows the twin from now on."""
        build_tree(self._store, Path(root))


def _need(state: State, index: int, action: int) -> None:
    if state.gpus[index].recovery_action != action:
        state.gpus[index].recovery_action = action
        add_event(state, Event(number=0, gpu=index, kind=EventType.RECOVERY_ACTION, data=action))
