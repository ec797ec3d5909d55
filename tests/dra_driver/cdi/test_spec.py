"""Laws of the CDI spec: any edits become a file that runtimes take, and no value can say more than it should."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra_driver.cdi.model import NO_EDITS, CdiContentError, CdiDevice, DeviceNode, Edits, EnvVar, Mount
from dra_driver.cdi.spec import MAX_ANNOTATIONS, encode, lowest_version, spec_for
from tests.dra_driver.cdi.cdirules import applied, faults
from tests.dra_driver.cdi.hosts import UID

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
PATHS = st.lists(st.from_regex(r"[a-zA-Z0-9_.+-]{0,8}[a-zA-Z0-9]", fullmatch=True), min_size=1, max_size=4)
ABSOLUTE = PATHS.map(lambda parts: "/usr/" + "/".join(parts))
VARIABLES = st.builds(
    EnvVar,
    st.from_regex(r"DOVETAIL_[A-Z0-9_]{1,20}|CUDA_MPS_PIPE_DIRECTORY", fullmatch=True),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
)
NODES = st.builds(
    DeviceNode,
    st.integers(0, 255).map(lambda minor: f"/dev/nvidia{minor}"),
    st.integers(1, 4095),
    st.integers(0, 1048575),
    st.one_of(st.just(""), ABSOLUTE),
)
MOUNTS = st.builds(Mount, ABSOLUTE, ABSOLUTE, st.booleans())
EDITS = st.builds(
    Edits,
    env=st.lists(VARIABLES, max_size=3).map(tuple),
    nodes=st.lists(NODES, min_size=1, max_size=3).map(tuple),
    mounts=st.lists(MOUNTS, max_size=3).map(tuple),
)
DEVICES = st.lists(
    st.builds(CdiDevice, name=NAMES, edits=EDITS), min_size=1, max_size=4, unique_by=lambda one: one.name
)
NOTES = st.dictionaries(st.just("gpu.dovetail.dev/record"), st.text(max_size=30), max_size=1)


@given(DEVICES, EDITS, NOTES)
def test_every_spec_is_one_that_runtimes_take(devices: list[CdiDevice], common: Edits, notes: dict[str, str]) -> None:
    assert faults(json.loads(encode(spec_for(devices, common, notes)))) == []


@given(DEVICES, EDITS)
def test_a_container_gets_the_common_edits_and_those_of_its_devices_alone(
    devices: list[CdiDevice], common: Edits
) -> None:
    spec = spec_for(devices, common, {})
    for device in devices:
        given_to = applied(spec, device.name)
        assert len(given_to["env"]) == len(common.env) + len(device.edits.env)
        assert len(given_to["deviceNodes"]) == len(common.nodes) + len(device.edits.nodes)
        assert len(given_to["mounts"]) == len(common.mounts) + len(device.edits.mounts)


@pytest.mark.parametrize(
    ("name", "notes", "host_path", "version"),
    [
        ("gpu", {}, "", "0.3.0"),
        (UID, {}, "", "0.5.0"),
        ("gpu", {}, "/host/dev/nvidia0", "0.5.0"),
        ("gpu", {"gpu.dovetail.dev/claim": "a/b"}, "", "0.6.0"),
    ],
)
def test_the_version_is_the_lowest_that_has_what_is_used(
    name: str, notes: dict[str, str], host_path: str, version: str
) -> None:
    device = CdiDevice(name=name, edits=Edits(nodes=(DeviceNode("/dev/nvidia0", 195, 0, host_path),)))
    spec = spec_for([device], NO_EDITS, notes)
    assert spec["cdiVersion"] == lowest_version(spec) == version


def test_a_host_path_that_is_the_path_needs_no_newer_version() -> None:
    device = CdiDevice(name="gpu", edits=Edits(nodes=(DeviceNode("/dev/nvidia0", 195, 0, "/dev/nvidia0"),)))
    assert spec_for([device], NO_EDITS, {})["cdiVersion"] == "0.3.0"


def test_the_first_minor_is_written_out() -> None:
    """A number left out would make the runtime look at the host's node instead."""
    device = CdiDevice(name="gpu", edits=Edits(nodes=(DeviceNode("/dev/nvidia0", 195, 0),)))
    assert spec_for([device], NO_EDITS, {})["devices"][0]["containerEdits"]["deviceNodes"][0]["minor"] == 0


@pytest.mark.parametrize(
    "devices",
    [[], [CdiDevice(name="a", edits=NO_EDITS)] * 2],
    ids=["none", "twice"],
)
def test_no_spec_without_devices_or_with_one_twice(devices: list[CdiDevice]) -> None:
    with pytest.raises(CdiContentError, match="CDI devices"):
        spec_for(devices, NO_EDITS, {})


def test_annotations_stay_within_what_runtimes_take() -> None:
    device = CdiDevice(name="gpu", edits=Edits(env=(EnvVar("DOVETAIL_X", "1"),)))
    key = "gpu.dovetail.dev/record"
    spec_for([device], NO_EDITS, {key: "x" * (MAX_ANNOTATIONS - len(key))})
    with pytest.raises(CdiContentError, match="annotations"):
        spec_for([device], NO_EDITS, {key: "x" * (MAX_ANNOTATIONS - len(key) + 1)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", "/evil.so"),
        ("LD_LIBRARY_PATH", "/evil"),
        ("PATH", "/evil"),
        ("NVIDIA_VISIBLE_DEVICES", "all"),
        ("NVIDIA_DRIVER_CAPABILITIES", "all"),
        ("CUDA_VISIBLE_DEVICES", "0"),
        ("CUDA_MPS_ANYTHING", "0"),
        ("DOVETAIL_", "x"),
        ("DOVETAIL_a", "x"),
        ("DOVETAIL_X=LD_PRELOAD", "x"),
        ("DOVETAIL_X\nLD_PRELOAD", "x"),
        ("DOVETAIL_X", "a\nLD_PRELOAD=/evil.so"),
        ("DOVETAIL_X", "a\0b"),
        ("DOVETAIL_X", "ü"),
        ("DOVETAIL_X", "x" * 4097),
    ],
)
def test_hi9_only_listed_variables_with_plain_values(name: str, value: str) -> None:
    with pytest.raises(CdiContentError, match="environment variable"):
        EnvVar(name, value)


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "//usr/x", "usr/x", "/usr/../etc", "/usr/./x", "/usr//x", "/usr/x/", "/usr/\n", "/usr/ü", "/a\0b"],
)
def test_hi9_only_plain_paths(path: str) -> None:
    for wrong in (lambda: Mount(path, "/usr/x"), lambda: Mount("/usr/x", path)):
        with pytest.raises(CdiContentError, match="path"):
            wrong()
    if path:
        with pytest.raises(CdiContentError, match="path"):
            DeviceNode("/dev/nvidia0", 195, 0, path)


@pytest.mark.parametrize("path", ["/proc/self/exe", "/sys", "/dev/sda", "/dev", "/proc/1/environ", "/dev/shm/x"])
def test_hi9_nothing_is_mounted_over_what_the_runtime_mounts(path: str) -> None:
    with pytest.raises(CdiContentError, match="would hide"):
        Mount(path, "/usr/x")


@pytest.mark.parametrize(
    ("path", "major", "minor"),
    [
        ("/etc/passwd", 195, 0),
        ("/dev/../etc/x", 195, 0),
        ("/dev/", 195, 0),
        ("/dev/a/b/c", 195, 0),
        ("/dev/nvidia0\n", 195, 0),
        ("/dev/nvidia0", 0, 0),
        ("/dev/nvidia0", -1, 0),
        ("/dev/nvidia0", 4096, 0),
        ("/dev/nvidia0", 195, -1),
        ("/dev/nvidia0", 195, 1 << 20),
    ],
)
def test_hi9_only_devices_that_can_be(path: str, major: int, minor: int) -> None:
    with pytest.raises(CdiContentError, match="device"):
        DeviceNode(path, major, minor)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"hooks": [{"hookName": "createContainer", "path": "/x"}]},
        {"env": ["LD_PRELOAD=/x"]},
        {"mounts": [{"hostPath": "/x", "containerPath": "/y", "options": ["rw", "nosuid", "nodev"]}]},
        {"deviceNodes": [{"path": "/dev/sda", "type": "b", "major": 8, "minor": 0, "permissions": "rw"}]},
        {"deviceNodes": [{"path": "/dev/x", "type": "c", "major": 8, "minor": 0, "permissions": "rwm"}]},
        {"deviceNodes": [{"path": "/dev/x"}]},
        {"additionalGids": [0]},
    ],
)
def test_the_rules_refuse_what_a_claim_must_never_get(spoilt: dict[str, Any]) -> None:
    """The checker of these tests is worth something: it finds what it is there for."""
    device = CdiDevice(name="gpu", edits=Edits(env=(EnvVar("DOVETAIL_X", "1"),)))
    spec = spec_for([device], NO_EDITS, {})
    assert faults(spec) == []
    assert faults({**spec, "containerEdits": spoilt}) != []
