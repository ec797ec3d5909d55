"""A sandbox's folder is private and short enough for sockets; images are the same bytes each time."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from sandbox import image, nodeconfig, rundir
from sandbox.errors import SandboxError, StartError
from sandbox.programs import Programs


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


def test_a_relative_base_folder_is_one_below_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor and its programs have other current folders."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", "here")
        with Programs.launch("relative") as programs:
            programs.start("pwd", ["pwd"])
            programs.wait_end("pwd")
            assert programs.log("pwd").read_text() == f"{folder}/here/{programs.directory.name}\n"


def test_only_what_a_killed_supervisor_left_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may be one that holds other things, with locks of their own."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", folder)
        living, held = rundir.create("living")
        left, lock = rundir.create("left")
        os.close(lock)
        hidden = left.with_name(f".{left.name[:-6]}abcdef")  # as another version of Dovetail named them for a moment
        hidden.mkdir()
        (hidden / "lock").touch()
        foreign = Path(folder) / "mail"
        foreign.mkdir()
        (foreign / "lock").touch()
        with rundir.exclusive("sweep"):
            assert rundir.sweep() == [hidden, left]
        assert living.exists()
        assert foreign.exists()
        os.close(held)


def test_nobody_sweeps_a_directory_before_it_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making and locking it, `create` holds the lock that sweepers wait for."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", folder)
        opened, seen = os.open, []

        def watched(path: Path, *arguments: int) -> int:
            with (Path(folder) / "sweep.lock").open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    seen.append("sweepers wait")
            return opened(path, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", watched)
            _, held = rundir.create("new")
        os.close(held)
        assert seen == ["sweepers wait"]


def test_a_supervisor_that_ends_at_its_start_is_reported_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no module named sandbox >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", folder)
        with pytest.raises(StartError, match=r"is gone(.|\n)*no module named sandbox"):
            Programs.launch("broken")
        assert [path.name for path in Path(folder).iterdir() if path.is_dir()] == ["logs"]


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
    with tarfile.open(archives[0]) as content:
        index = content.extractfile("index.json")
        assert index is not None
        names = [entry["annotations"]["io.containerd.image.name"] for entry in json.load(index)["manifests"]]
    assert names == list(nodeconfig.IMAGES)
