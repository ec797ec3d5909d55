"""The named tests of the CDI part find what they are there for: each fails when its bug is planted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dra_driver.cdi import files as files_module
from dra_driver.cdi import folder as folder_module
from dra_driver.cdi import kernel, nodes
from dra_driver.cdi.driverfiles import DriverFiles
from dra_driver.cdi.files import ClaimFiles
from dra_driver.cdi.folder import CdiFolder
from dra_driver.cdi.model import CdiDevice, DeviceNode, Edits, EnvVar
from dra_driver.cdi.names import PREFIX, SUFFIX
from dra_driver.cdi.spec import Json, spec_for
from dra_driver.prepare.model import Record
from dra_driver.roots import Roots
from tests.dra_driver.cdi import test_files, test_folder, test_libraries, test_nodes, test_spec
from tests.dra_driver.cdi.hostile import attack
from tests.dra_driver.cdi.hosts import Host

Patch = pytest.MonkeyPatch
Proof = Callable[[Path], object]
LEAKED: list[int] = []


def everybody_gets_everything(patch: Patch) -> None:
    """All device nodes of a claim at the top of its spec (NVIDIA #426)."""

    def at_the_top(devices: Sequence[CdiDevice], common: Edits, notes: dict[str, str]) -> Json:
        whole = functools.reduce(Edits.__add__, (device.edits for device in devices), common)
        return spec_for([CdiDevice(name=each.name, edits=Edits(env=each.edits.env)) for each in devices], whole, notes)

    patch.setattr(files_module, "spec_for", at_the_top)


def claims_by_name(patch: Patch) -> None:
    """A file for each name of a claim, not for each UID (k/k #131513)."""
    patch.setattr(folder_module, "file_name", lambda _uid: f"{PREFIX}{test_files.UID}{SUFFIX}")


def what_is_there_is_right(patch: Patch) -> None:
    """A file is current because it is there (k/k #135711)."""

    def is_current(self: ClaimFiles, record: Record) -> bool:
        return self._folder.read(record.claim.uid) is not None

    patch.setattr(ClaimFiles, "is_current", is_current)


def handles_stay_open(patch: Patch) -> None:
    """The folder is opened for each call and never closed (HAMi #2245)."""
    patch.setattr(folder_module.os, "close", LEAKED.append)


def links_are_followed(patch: Patch) -> None:
    """The file is opened where it is, whatever stands there (CVE-2024-0132 and its kin)."""

    def put(_self: CdiFolder, folder: int, name: str, content: bytes) -> None:
        with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder), "wb") as file:
            file.write(content)

    patch.setattr(CdiFolder, "_put", put)


def capabilities_are_remembered(patch: Patch) -> None:
    """Minors of MIG instances are looked up once, though ids are used again."""
    patch.setattr(nodes, "gpu_instance_minor", functools.cache(kernel.gpu_instance_minor))


def numbers_come_from_dev(patch: Patch) -> None:
    """What stands in /dev says which device a container may open."""
    real = nodes._node

    def node(roots: Roots, name: str, major: int, minor: int) -> DeviceNode:
        try:
            number = (roots.dev_root / "dev" / name).stat().st_rdev
        except OSError:
            return real(roots, name, major, minor)
        return real(roots, name, os.major(number), os.minor(number))

    patch.setattr(nodes, "_node", node)


def names_are_not_checked(patch: Patch) -> None:
    """A UID is what the caller says it is."""
    patch.setattr(folder_module, "file_name", lambda uid: f"{PREFIX}{uid}{SUFFIX}")
    patch.setattr(files_module, "device_name", lambda uid, device: f"{uid}-{device.device}")


def any_variable_will_do(patch: Patch) -> None:
    """Environment variables are written as they come."""
    patch.setattr(EnvVar, "__post_init__", lambda _self: None)


def libraries_are_found_once(patch: Patch) -> None:
    """Driver files are looked for once in the life of the program."""
    patch.setattr(DriverFiles, "mounts", functools.lru_cache(maxsize=1)(lambda self, _version: self._find("580.95.05")))


def a_folder(path: Path) -> tuple[CdiFolder, Path]:
    (path / "cdi").mkdir(mode=0o755)
    return CdiFolder(path / "cdi"), path / "cdi"


def with_instances(path: Path) -> Host:
    host = Host(path)
    host.instance(0, 3, 0, (30, 31))
    host.instance(0, 4, 0, (39, 40))
    return host


def planted_link(path: Path) -> None:
    folder, cdi = a_folder(path)
    outside = path / "outside.json"
    outside.write_bytes(test_folder.SECRET)
    test_folder.test_hi8_what_is_planted_is_replaced_never_followed(
        folder, cdi, outside, test_folder.symlink, test_folder.NAME
    )


def hostile_names(path: Path) -> None:
    host = Host(path)
    host.roots.cdi.mkdir()
    assert attack(host.files(), host.roots.cdi, 100, seed=7).faults == []


def remembered_files(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_libraries.test_what_was_found_is_remembered_until_the_driver_changes(Host(path), patch)


CASES: list[tuple[Callable[[Patch], None], Proof]] = [
    (
        everybody_gets_everything,
        lambda p: test_files.test_t18_a_container_sees_the_devices_of_its_request_alone(Host(p)),
    ),
    (
        everybody_gets_everything,
        lambda p: test_files.test_t18_partitions_of_one_gpu_are_told_apart_by_their_capabilities(with_instances(p)),
    ),
    (claims_by_name, lambda p: test_files.test_t06_a_new_claim_of_the_same_name_has_a_file_of_its_own(Host(p))),
    (what_is_there_is_right, lambda p: test_files.test_t12_every_cut_and_every_flipped_byte_is_noticed(Host(p))),
    (handles_stay_open, lambda p: test_folder.test_t27_no_handle_is_left_open_whatever_happens(*a_folder(p))),
    (links_are_followed, planted_link),
    (
        links_are_followed,
        lambda p: test_folder.test_fi1_kill_9_at_every_effect_leaves_the_old_or_the_new_file(*a_folder(p)),
    ),
    (
        capabilities_are_remembered,
        lambda p: test_nodes.test_capabilities_are_those_of_the_instance_that_was_made_now(Host(p)),
    ),
    (numbers_come_from_dev, lambda p: test_nodes.test_a_planted_node_decides_nothing(Host(p))),
    (names_are_not_checked, hostile_names),
    (
        any_variable_will_do,
        lambda _p: test_spec.test_hi9_only_listed_variables_with_plain_values("DOVETAIL_X", "a\nLD_PRELOAD=/x"),
    ),
    (libraries_are_found_once, remembered_files),
]


@pytest.mark.parametrize(
    ("bug", "proof"), CASES, ids=[f"{bug.__name__}-{at}" for at, (bug, _proof) in enumerate(CASES)]
)
def test_the_named_test_finds_the_planted_bug(
    tmp_path: Path, monkeypatch: Patch, bug: Callable[[Patch], None], proof: Proof
) -> None:
    with monkeypatch.context() as patch:
        bug(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            proof(tmp_path)
    while LEAKED:
        os.close(LEAKED.pop())
