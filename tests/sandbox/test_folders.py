"""A sandbox's folder is private and short enough for sockets; images are the same bytes each time."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from pathlib import Path

import pytest

from sandbox import image, nodeconfig, rundir
from sandbox.errors import SandboxError


def test_the_base_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", f"{folder}/b")
        assert rundir.base().stat().st_mode & 0o777 == 0o700


def test_a_base_folder_that_others_may_write_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", folder)
        with pytest.raises(SandboxError, match="is not a folder of this user alone; remove it, or point"):
            rundir.base()


def test_a_base_folder_with_a_long_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", str(tmp_path / ("x" * 60)))
    with pytest.raises(SandboxError, match="too long for sockets below it; DOVETAIL_SANDBOX_DIR may have 44 bytes"):
        rundir.base()


def test_old_logs_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", folder)
        for number in range(rundir.KEPT_LOGS + 2):
            path, lock = rundir.create(f"run{number}")
            os.close(lock)
            kept = rundir.keep_logs(path)
            os.utime(kept, (number, number))
        names = {entry.name.partition("-")[0] for entry in (Path(folder) / "logs").iterdir()}
        assert names == {f"run{number}" for number in range(2, rundir.KEPT_LOGS + 2)}


def test_an_image_archive_is_reproducible_and_names_its_images(tmp_path: Path) -> None:
    shell = tmp_path / "busybox"
    shell.write_bytes(b"\x7fELF")
    archives = [tmp_path / "first.tar", tmp_path / "second.tar"]
    for archive in archives:
        image.write_archive(archive, shell, nodeconfig.IMAGES, "amd64")
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        names = [entry["annotations"]["io.containerd.image.name"] for entry in json.load(index)["manifests"]]
    assert names == list(nodeconfig.IMAGES)
