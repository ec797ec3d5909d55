"""The CDI file of a claim: what it hands to which container, and that it can be read back and made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra_driver.cdi.files import RECORD_ANNOTATION, ClaimFiles, no_more
from dra_driver.cdi.kernel import KernelError
from dra_driver.cdi.model import CdiContentError, Edits, EnvVar, Mount
from dra_driver.cdi.names import KIND, file_name
from dra_driver.prepare.effects import CdiFiles
from dra_driver.prepare.model import DeviceIntent, Phase, Record
from tests.dra_driver.cdi.cdirules import applied, device_paths, faults
from tests.dra_driver.cdi.hosts import MADE_NOTHING, OTHER_UID, UID, VERSION, Host, gpu, made, partition, record, share
from topology.modes import Sharing

SHARES = ("0a0b6c1e-8a3d-4f5e-9b7a-0123456789ab", "0b0b6c1e-8a3d-4f5e-9b7a-0123456789ab")
COMMON = {"/dev/nvidiactl", "/dev/nvidia-uvm"}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.instance(0, 3, 0, (30, 31))
    host.instance(0, 4, 0, (39, 40))
    return host


def written(host: Host, entry: Record, files: ClaimFiles | None = None) -> dict[str, Any]:
    files = files or host.files()
    files.write(entry)
    spec: dict[str, Any] = json.loads((host.roots.cdi / file_name(entry.claim.uid)).read_bytes())
    assert faults(spec) == []
    assert {f"{KIND}={device['name']}" for device in spec["devices"]} == {
        each for ids in files.ids(entry) for each in ids
    }
    return spec


def test_the_protocol_is_kept(host: Host) -> None:
    files: CdiFiles = host.files()
    assert files.claims() == ()


def test_ids_are_the_claims_and_the_devices(host: Host) -> None:
    entry = record([gpu(0), partition(1, 4), share(2, SHARES[0])])
    assert host.files().ids(entry) == (
        (f"k8s.gpu.dovetail.dev/claim={UID}-gpu-0",),
        (f"k8s.gpu.dovetail.dev/claim={UID}-gpu-1-mig-1g10gb-19-4",),
        (f"k8s.gpu.dovetail.dev/claim={UID}-gpu-2-mps-{SHARES[0]}",),
    )


def test_t18_a_container_sees_the_devices_of_its_request_alone(host: Host) -> None:
    """NVIDIA #426: each container saw both GPUs although its claim named one."""
    spec = written(host, record([gpu(0, request="prefill"), gpu(1, request="decode")]))
    assert device_paths(spec, f"{UID}-gpu-0") == {*COMMON, "/dev/nvidia0"}
    assert device_paths(spec, f"{UID}-gpu-1") == {*COMMON, "/dev/nvidia1"}
    assert device_paths(spec, f"{UID}-gpu-0", f"{UID}-gpu-1") == {*COMMON, "/dev/nvidia0", "/dev/nvidia1"}


def test_t18_partitions_of_one_gpu_are_told_apart_by_their_capabilities(host: Host) -> None:
    spec = written(host, record([partition(0, 0), partition(0, 1)], [made(3), made(4)]))
    caps = "/dev/nvidia-caps/nvidia-cap"
    assert device_paths(spec, f"{UID}-gpu-0-mig-1g10gb-19-0") == {*COMMON, "/dev/nvidia0", f"{caps}30", f"{caps}31"}
    assert device_paths(spec, f"{UID}-gpu-0-mig-1g10gb-19-1") == {*COMMON, "/dev/nvidia0", f"{caps}39", f"{caps}40"}


def test_a_container_is_told_which_devices_are_its_own(host: Host) -> None:
    spec = written(host, record([gpu(1), partition(0, 0)], [MADE_NOTHING, made(3)]))
    assert applied(spec, f"{UID}-gpu-1", f"{UID}-gpu-0-mig-1g10gb-19-0")["env"] == [
        "NVIDIA_VISIBLE_DEVICES=void",
        "DOVETAIL_DEVICE_GPU_1=GPU-1",
        "DOVETAIL_DEVICE_GPU_0_MIG_1G10GB_19_0=MIG-3",
    ]


def test_a_mig_device_of_somebody_else_is_named_by_its_uuid(host: Host) -> None:
    existing = replace(partition(0, 0), existing_uuid="MIG-theirs")
    spec = written(host, record([existing], [replace(made(3), uuid="")]))
    assert "DOVETAIL_DEVICE_GPU_0_MIG_1G10GB_19_0=MIG-theirs" in applied(spec, spec["devices"][0]["name"])["env"]


def test_two_shares_of_one_gpu_in_one_claim_are_two_devices(host: Host) -> None:
    """Limits differ between them, so neither may have the other's name."""

    def limit(device: DeviceIntent) -> Edits:
        assert device.share is not None
        return Edits(env=(EnvVar("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", device.share.share_id[1]),))

    entry = record([share(0, SHARES[0]), share(0, SHARES[1])])
    spec = written(host, entry, host.files(limit))
    for share_id, own in zip(SHARES, "ab", strict=True):
        env = applied(spec, f"{UID}-gpu-0-{Sharing.MPS}-{share_id}")["env"]
        assert [variable for variable in env if "MPS_ACTIVE" in variable] == [
            f"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE={own}"
        ]


def test_the_same_device_for_an_administrator_and_a_user_is_one_device(host: Host) -> None:
    spec = written(host, record([gpu(0), gpu(0, admin=True, request="watch")]))
    assert [device["name"] for device in spec["devices"]] == [f"{UID}-gpu-0"]


def test_mounts_of_sharing_are_writable_and_lie_in_our_folder(host: Host) -> None:
    def pipes(_device: DeviceIntent) -> Edits:
        return Edits(mounts=(Mount("/tmp/nvidia-mps", str(host.roots.state / "mps/GPU-0"), writable=True),))

    spec = written(host, record([gpu(0)]), host.files(pipes))
    (mount,) = spec["devices"][0]["containerEdits"]["mounts"]
    assert mount["options"] == ["rw", "nosuid", "nodev", "noexec", "rbind", "rprivate"]


@pytest.mark.parametrize("path", ["/etc", "/", "state", "dev/shm", "dev", "state2/mps", "state/../etc"])
def test_hi9_sharing_cannot_mount_what_is_not_ours(host: Host, path: str) -> None:
    """Neither others' folders nor all of ours at once."""
    target = str(host.root / path)

    def theirs(_device: DeviceIntent) -> Edits:
        return Edits(mounts=(Mount("/tmp/nvidia-mps", target, writable=True),))

    files = host.files(theirs)
    with pytest.raises(CdiContentError, match=r"which is not our own|must be absolute, normal"):
        files.write(record([gpu(0)]))
    assert files.claims() == ()


def test_what_cannot_be_made_leaves_the_earlier_file(host: Host) -> None:
    files = host.files()
    files.write(record([gpu(0)]))
    with pytest.raises(KernelError):
        files.write(record([partition(0, 0)]))
    assert files.is_current(record([gpu(0)]))


def test_the_copy_is_the_record(host: Host) -> None:
    files = host.files()
    entry = record(
        [partition(0, 0), gpu(1), share(2, SHARES[0])], [made(3), MADE_NOTHING, MADE_NOTHING], name="ünï-日本"
    )
    files.write(entry)
    assert files.copy_of(UID) == entry
    assert files.copy_of(OTHER_UID) is None


def test_what_a_crash_left_is_cleaned_and_no_claim(host: Host) -> None:
    files = host.files()
    host.put(f"cdi/.{file_name(UID)}.part", "hal")
    assert files.claims() == ()
    assert files.discard_unfinished() == 1
    assert list(host.roots.cdi.iterdir()) == []


def test_t06_a_new_claim_of_the_same_name_has_a_file_of_its_own(host: Host) -> None:
    files = host.files()
    files.write(record([gpu(0)]))
    files.write(record([gpu(1)], uid=OTHER_UID))
    files.remove(UID)
    assert files.claims() == (OTHER_UID,)
    assert files.copy_of(OTHER_UID) == record([gpu(1)], uid=OTHER_UID)


def test_a_file_is_current_until_something_of_it_changes(host: Host) -> None:
    files, entry = host.files(), record([partition(0, 0)], [made(3)])
    assert not files.is_current(entry)
    files.write(entry)
    assert files.is_current(entry)
    assert files.is_current(replace(entry, phase=Phase.COMPLETED))
    assert not files.is_current(replace(entry, made=(made(4),)))
    # Minors change with the MIG mode, libraries with the driver: restarted containers need the new ones.
    host.instance(0, 3, 0, (130, 131))
    assert not files.is_current(entry)
    files.write(entry)
    host.library("libcuda", version="590.1")
    host.version = "590.1"
    assert not files.is_current(entry)
    host.version = VERSION
    assert files.is_current(entry)


def test_a_file_of_another_claim_in_its_place_is_not_its_copy(host: Host) -> None:
    files = host.files()
    files.write(record([gpu(0)]))
    (host.roots.cdi / file_name(UID)).rename(host.roots.cdi / file_name(OTHER_UID))
    assert files.copy_of(OTHER_UID) is None
    assert not files.is_current(record([gpu(0)], uid=OTHER_UID))
    assert files.claims() == (OTHER_UID,)


def test_t12_every_cut_and_every_flipped_byte_is_noticed(host: Host) -> None:
    """NVIDIA and Kubernetes (k/k #135711) stopped at half a file. A wrong one is written again, never trusted."""
    files, entry = host.files(), record([gpu(0)])
    files.write(entry)
    file = host.roots.cdi / file_name(UID)
    whole = file.read_bytes()
    start = whole.index(b"dovetail-claim")
    spoilt = [whole[:size] for size in range(0, len(whole), 7)]
    spoilt += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for content in spoilt:
        file.write_bytes(content)
        assert not files.is_current(entry)
        assert files.copy_of(UID) in (None, entry)
    # Within the record's copy no flip passes.
    for at in range(start, whole.index(b'"\n },', start)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert files.copy_of(UID) is None
    files.write(entry)
    assert file.read_bytes() == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.one_of(st.binary(max_size=200), JSON.map(msgspec.json.encode)))
def test_no_content_of_a_file_can_stop_recovery(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    host = Host(tmp_path_factory.mktemp("host"))
    host.put(f"cdi/{file_name(UID)}", content)
    assert host.files().copy_of(UID) is None
    assert not host.files().is_current(record([gpu(0)]))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"annotations":' * 5000,
        b'{"annotations": null}',
        b'{"annotations": {"gpu.dovetail.dev/record": 1}}',
        b'{"annotations": {"gpu.dovetail.dev/record": "\\ud800"}}',
        b"\xff\xfe{}",
        b'{"annotations": {"gpu.dovetail.dev/record": "' + b"1" * 5000 + b'"}}',
        b"1" * 5000,
    ],
)
def test_hi4_quirks_of_json_are_no_copy(host: Host, content: bytes) -> None:
    host.put(f"cdi/{file_name(UID)}", content)
    assert host.files().copy_of(UID) is None
    assert not host.files().is_current(record([gpu(0)]))


def test_the_copy_is_in_the_place_that_is_documented(host: Host) -> None:
    spec = written(host, record([gpu(0)]))
    assert spec["annotations"]["gpu.dovetail.dev/claim"] == "default/claim"
    assert spec["annotations"][RECORD_ANNOTATION].startswith("dovetail-claim ")
    assert spec["cdiVersion"] == "0.6.0"


def test_a_whole_allocation_fits(host: Host) -> None:
    """32 devices are the most that one claim can have."""
    for instance in range(32):
        host.instance(0, instance, 0, (2 * instance, 2 * instance + 1))
    entry = record([partition(0, start) for start in range(32)], [made(instance) for instance in range(32)])
    spec = written(host, entry, host.files(no_more))
    assert len(spec["devices"]) == 32
    assert host.files().is_current(entry)
