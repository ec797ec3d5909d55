"""MIG through pynvml against `topology.mig`: what is legal is made, what is not is refused and changes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.twin.nvmlcalls import code, compute_instances, create, gpu, gpu_instances, mig_uuid, placements
from topology.catalog import mig_geometries
from topology.mig import EMPTY, legal, occupation, place
from twin import Twin

MACHINES = ("hgx-h100-8", "dgx-a100-40", "hgx-b200-8")
SHARED = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED


class MigMachine(RuleBasedStateMachine):
    """A GPU whose MIG is driven by pynvml, beside a model that knows only `topology.mig`."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.twin = Twin.create(Path(self.folder.name) / "t", self.machine, mig_enabled=True)
        self.installed = self.twin.install()
        self.installed.__enter__()
        pynvml.nvmlInit()
        geometry = self.twin.facts.gpus[0].geometry
        assert geometry is not None
        self.geometry = geometry
        self.held: dict[int, tuple[str, int]] = {}
        """By GPU instance id."""
        self.compute: dict[int, str] = {}
        self.busy: set[int] = set()
        self.uuids: set[str] = set()

    def teardown(self) -> None:
        self.installed.__exit__(None, None, None)
        self.folder.cleanup()

    @rule(data=st.data())
    def create(self, data: st.DataObject) -> None:
        profile = data.draw(st.sampled_from(self.geometry.profiles), label="profile")
        start = data.draw(st.integers(0, 7), label="start")
        taken = occupation(self.geometry, self.held.values())
        assert profile.profile_id is not None
        if start not in profile.starts:
            answer = pynvml.NVML_ERROR_INVALID_ARGUMENT
        elif not legal(self.geometry, taken, profile, start):
            answer = pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES
        else:
            made = create(gpu(), profile.profile_id, start, profile.size)
            info = pynvml.nvmlGpuInstanceGetInfo(made)
            assert (info.placement.start, info.placement.size) == (start, profile.size)
            assert info.id not in self.held
            assert info.id == min(set(range(8)) - set(self.held)), "ids are used again, the lowest first"
            self.held[info.id] = (profile.name, start)
            return
        assert code(create, gpu(), profile.profile_id, start, profile.size) == answer

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def create_compute(self, data: st.DataObject) -> None:
        instance_id = data.draw(st.sampled_from(sorted(self.held)))
        instance = pynvml.nvmlDeviceGetGpuInstanceById(gpu(), instance_id)
        slices = self.geometry.profile(self.held[instance_id][0]).compute_slices
        profile = next(enum for enum, size in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 7)) if size == slices)
        info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, profile, SHARED)
        if instance_id in self.compute:
            refused = code(pynvml.nvmlGpuInstanceCreateComputeInstance, instance, info.id)
            assert refused == pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES
            return
        uuid = mig_uuid(pynvml.nvmlGpuInstanceCreateComputeInstance(instance, info.id))
        assert uuid not in self.uuids
        self.uuids.add(uuid)
        self.compute[instance_id] = uuid

    @precondition(lambda self: self.compute)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        instance_id = data.draw(st.sampled_from(sorted(self.compute)))
        self.twin.process(0, 1000 + instance_id, mig_device=(instance_id, 0))
        self.busy.add(instance_id)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        instance_id = data.draw(st.sampled_from(sorted(self.busy)))
        self.twin.process_gone(1000 + instance_id)
        self.busy.discard(instance_id)

    @precondition(lambda self: self.compute)
    @rule(data=st.data())
    def destroy_compute(self, data: st.DataObject) -> None:
        instance_id = data.draw(st.sampled_from(sorted(self.compute)))
        handle = pynvml.nvmlGpuInstanceGetComputeInstanceById(
            pynvml.nvmlDeviceGetGpuInstanceById(gpu(), instance_id), 0
        )
        answer = code(pynvml.nvmlComputeInstanceDestroy, handle)
        assert answer == (pynvml.NVML_ERROR_IN_USE if instance_id in self.busy else 0)
        if not answer:
            del self.compute[instance_id]
            assert code(pynvml.nvmlComputeInstanceDestroy, handle) == pynvml.NVML_ERROR_INVALID_ARGUMENT

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        instance_id = data.draw(st.sampled_from(sorted(self.held)))
        handle = pynvml.nvmlDeviceGetGpuInstanceById(gpu(), instance_id)
        answer = code(pynvml.nvmlGpuInstanceDestroy, handle)
        assert answer == (pynvml.NVML_ERROR_IN_USE if instance_id in self.compute else 0)
        if not answer:
            del self.held[instance_id]
            assert code(pynvml.nvmlGpuInstanceGetInfo, handle) == pynvml.NVML_ERROR_INVALID_ARGUMENT

    @rule()
    def mode_stays_while_there_are_instances(self) -> None:
        status = pynvml.nvmlDeviceSetMigMode(gpu(), 0) if self.held else pynvml.NVML_ERROR_IN_USE
        assert status == pynvml.NVML_ERROR_IN_USE
        assert pynvml.nvmlDeviceGetMigMode(gpu())[0] == 1
        assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == 0

    @invariant()
    def what_nvml_lists_is_what_was_made(self) -> None:
        listed = {}
        for profile in self.geometry.profiles:
            assert profile.profile_id is not None
            for instance in gpu_instances(gpu(), profile.profile_id):
                info = pynvml.nvmlGpuInstanceGetInfo(instance)
                listed[info.id] = (profile.name, info.placement.start)
        assert listed == self.held
        devices = {
            uuid: pynvml.nvmlDeviceGetGpuInstanceId(pynvml.nvmlDeviceGetHandleByUUID(uuid))
            for uuid in self.compute.values()
        }
        assert devices == {uuid: instance for instance, uuid in self.compute.items()}

    @invariant()
    def remaining_capacity_is_what_still_fits(self) -> None:
        taken = occupation(self.geometry, self.held.values())
        for profile in self.geometry.profiles:
            most, now = 0, taken
            for start in sorted(profile.starts):
                if legal(self.geometry, now, profile, start):
                    most, now = most + 1, place(self.geometry, now, profile, start)
            assert pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(gpu(), profile.profile_id) == most


def _case(name: str) -> Any:
    machine = type(f"Mig_{name}", (MigMachine,), {"machine": name})
    case = machine.TestCase
    case.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
    return case


TestH100, TestA100, TestB200 = map(_case, MACHINES)


@pytest.mark.parametrize("geometry", [one for one in mig_geometries() if one.placeable], ids=lambda one: one.id)
def test_the_full_profile_leaves_no_room(geometry):
    """For every product: beside the largest profile nothing fits, by the rules that the twin asks."""
    largest = max(geometry.profiles, key=lambda one: one.size)
    full = place(geometry, EMPTY, largest, 0)
    assert not any(legal(geometry, full, p, s) for p in geometry.profiles for s in p.starts)


def test_a_compute_instance_never_takes_7_slice_nvl(h100):
    """N#1480: the profile can be asked for, has seven slices, and cannot be created."""
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == 0
    instance = create(gpu(), 0, 0, 8)
    info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, 8, SHARED)
    assert info.sliceCount == 7
    assert code(pynvml.nvmlGpuInstanceCreateComputeInstance, instance, info.id) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_compute_instances_share_a_gpu_instance_by_slices(a100):
    with a100.change() as state:
        state.gpus[0].mig_enabled = True
    instance = create(gpu(), 9, 4, 4)
    two = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 1)
    one = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 0)
    assert code(pynvml.nvmlGpuInstanceCreateComputeInstance, instance, 0) == pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES
    assert [pynvml.nvmlComputeInstanceGetInfo(ci).id for ci in (two, one)] == [0, 1]
    assert len(compute_instances(instance, 0)) == len(compute_instances(instance, 1)) == 1
    parts = pynvml.nvmlDeviceGetAttributes(pynvml.nvmlComputeInstanceGetInfo(two).device)
    assert (parts.gpuInstanceSliceCount, parts.computeInstanceSliceCount) == (3, 2)


def test_mode_is_switched_at_once_on_hopper_and_pending_on_ampere(h100, tmp_path):
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == 0
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [1, 1]
    ampere = Twin.create(tmp_path / "a", "dgx-a100-40")
    with ampere.install():
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == pynvml.NVML_ERROR_RESET_REQUIRED
        assert pynvml.nvmlDeviceGetMigMode(gpu()) == [0, 1]
        ampere.reset(0)
        assert pynvml.nvmlDeviceGetMigMode(gpu()) == [1, 1]


def test_a_mode_is_pending_while_a_process_holds_the_gpu(h100):
    h100.process(0, 4711)
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == pynvml.NVML_ERROR_IN_USE
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [0, 1]
    h100.process_gone(4711)
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == 0


def test_what_needs_mig_is_refused_without_it(h100):
    assert code(create, gpu(), 19, 0, 1) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert code(gpu_instances, gpu(), 19) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert placements(gpu(), 9) == [(0, 4), (4, 4)], "placements are told whatever the mode"
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu()) == 0
