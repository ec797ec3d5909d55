"""Every machine of the catalog, read back through pynvml and sysfs, is the machine of its file."""

import uuid
from ctypes import byref
from dataclasses import astuple
from pathlib import Path

import pynvml
import pytest

from tests.twin.nvmlcalls import gpu, placements
from topology.catalog import machine, machine_names, mig_for_product
from topology.facts import LinkKind
from twin import Twin
from twin.codes import LEVELS

P2P_NVLINK = 2


@pytest.fixture(params=machine_names())
def named(request, tmp_path: Path):
    twin = Twin.create(tmp_path / "t", request.param, node="n1")
    with twin.install():
        pynvml.nvmlInit()
        yield machine(request.param), twin


def test_gpus_are_those_of_the_file(named):
    shape, _twin = named
    assert pynvml.nvmlDeviceGetCount() == shape.gpu_count
    for index, device in enumerate(shape.devices):
        handle = gpu(index)
        assert pynvml.nvmlDeviceGetName(handle) == shape.product(index)
        assert pynvml.nvmlDeviceGetMemoryInfo(handle).total == shape.gpu.memory_total_mib << 20
        found = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        assert found.total == shape.gpu.memory_total_mib << 20
        capability = ".".join(map(str, pynvml.nvmlDeviceGetCudaComputeCapability(handle)))
        assert capability == shape.gpu.compute_capability
        assert pynvml.nvmlDeviceGetMinorNumber(handle) == pynvml.nvmlDeviceGetIndex(handle) == index
        pci = pynvml.nvmlDeviceGetPciInfo(handle)
        if device.pci_bus_id is not None:
            domain, bus, rest = device.pci_bus_id.split(":")
            assert pci.busId == f"{int(domain, 16):08X}:{bus}:{rest}".upper()
            assert (pci.domain, pci.bus) == (int(domain, 16), int(bus, 16))
        name = uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_DNS, "gpu.dovetail.dev"), f"n1/{index}")
        assert pynvml.nvmlDeviceGetUUID(handle) == f"GPU-{name}"
        by_uuid = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{name}")
        by_bus = pynvml.nvmlDeviceGetHandleByPciBusId(pci.busId)
        assert pynvml.nvmlDeviceGetIndex(by_uuid) == pynvml.nvmlDeviceGetIndex(by_bus) == index


def test_links_are_those_of_the_matrix(named):
    shape, _twin = named
    switched = shape.nvlink.kind is LinkKind.NVSWITCH
    addresses = {pynvml.nvmlDeviceGetPciInfo(gpu(at)).busId: at for at in range(shape.gpu_count)}
    for index, row in enumerate(shape.nvlink.matrix):
        counted, into_switches = [0] * shape.gpu_count, 0
        for link in range(shape.nvlink.links_per_gpu):
            if not pynvml.nvmlDeviceGetNvLinkState(gpu(index), link):
                continue
            remote = pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(gpu(index), link)
            if remote == pynvml.NVML_NVLINK_DEVICE_TYPE_GPU:
                counted[addresses[pynvml.nvmlDeviceGetNvLinkRemotePciInfo(gpu(index), link).busId]] += 1
            into_switches += remote == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH
        assert (into_switches == max(row)) if switched else (tuple(counted) == row)
        for peer in range(shape.gpu_count):
            status = pynvml.nvmlDeviceGetP2PStatus(gpu(index), gpu(peer), P2P_NVLINK)
            assert (status == pynvml.NVML_P2P_STATUS_OK) == bool(row[peer])
            ancestor = pynvml.nvmlDeviceGetTopologyCommonAncestor(gpu(index), gpu(peer))
            assert ancestor == LEVELS[shape.pcie.levels[index][peer]]


def test_profiles_and_placements_are_those_of_the_geometry(named):
    shape, _twin = named
    for index in range(shape.gpu_count):
        geometry = mig_for_product(shape.product(index))
        found = set()
        for enum in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
            try:
                info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu(index), enum)
            except pynvml.NVMLError_NotSupported:
                continue
            starts = tuple(start for start, _ in placements(gpu(index), info.id))
            engines = (info.copyEngineCount, info.decoderCount, info.encoderCount, info.jpegCount, info.ofaCount)
            its = next(p for p in geometry.profiles if p.nvml_enum == enum)
            assert info.multiprocessorCount == (its.sm_count or 0)
            assert engines == (astuple(its.engines) if its.engines else (0,) * 5)
            assert info.name == f"MIG {its.name}"
            found.add((enum, info.id, info.sliceCount, info.instanceCount, info.memorySizeMB, starts))
        profiles = geometry.profiles if geometry is not None and geometry.placeable else ()
        assert found == {
            (p.nvml_enum, p.profile_id, p.compute_slices, p.max_instances, p.memory_mib or 0, p.starts)
            for p in profiles
        }


def test_fabric_is_that_of_the_file(named):
    shape, _twin = named
    info = pynvml.c_nvmlGpuFabricInfo_v3_t()
    pynvml.nvmlDeviceGetGpuFabricInfoV(gpu(), byref(info))
    fabric = shape.fabric
    assert info.state == {"not-supported": 0, "completed": 3}[fabric.state]
    if fabric.state == "completed":
        assert str(uuid.UUID(bytes=bytes(info.clusterUuid))) == fabric.cluster_uuid
        assert info.cliqueId == fabric.clique_id


def test_sysfs_has_the_levels_of_the_file(named, tmp_path: Path):
    shape, twin = named
    twin.write_tree(tmp_path / "host")
    devices = tmp_path / "host/sys/bus/pci/devices"
    gpus = [(devices / one.pci_address).resolve() for one in twin.facts.gpus]
    cards = [(tmp_path / "host/sys/class/infiniband" / nic.name / "device").resolve() for nic in shape.nics]
    for index, path in enumerate(gpus):
        assert int((path / "numa_node").read_text()) == shape.devices[index].numa_node
        for peer, level in enumerate(shape.pcie.levels[index]):
            if peer != index and level in ("PIX", "PXB", "PHB"):
                assert _level(path, gpus[peer]) == level
            elif peer != index and twin.facts.gpus[peer].pcie_root != twin.facts.gpus[index].pcie_root:
                # In some virtual machines GPUs of two NUMA nodes are on one bus all the same.
                assert _level(path, gpus[peer]) == "", "another root complex"
        for nic, card in zip(shape.nics, cards, strict=True):
            best = max(nic.levels, key=list(reversed(LEVELS)).index)
            if nic.levels[index] == best:
                assert (_level(path, card) or best) == best


def _level(one: Path, other: Path) -> str:
    """The distance by what two paths share: root complex, root port, a switch, a second one."""
    common = next((at for at, (a, b) in enumerate(zip(one.parts, other.parts, strict=True)) if a != b), 0)
    root = next(at for at, part in enumerate(one.parts) if part.startswith(("pci0", "pcif")))
    return {0: "", 1: "PHB", 2: "PXB", 3: "PXB", 4: "PXB", 5: "PIX", 6: "PIX"}[max(0, common - root)]
