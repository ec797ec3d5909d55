"""The folder of CDI files: whatever stands in it, whoever may write there, however a write ends."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dra_driver.cdi import folder as folder_module
from dra_driver.cdi.folder import MAX_BYTES, CdiFolder, CdiFolderError, UnsafeFolderError
from dra_driver.cdi.names import file_name
from tests.dra_driver.cdi.hosts import OTHER_UID, UID

NAME = file_name(UID)
UNFINISHED = f".{NAME}.part"
SECRET = b"not ours"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cdi"


@pytest.fixture
def folder(path: Path) -> CdiFolder:
    path.mkdir(mode=0o755)
    return CdiFolder(path)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A file that nothing in the folder may reach; checked at the end."""
    file = tmp_path / "outside.json"
    file.write_bytes(SECRET)
    file.chmod(0o600)
    yield file
    assert file.read_bytes() == SECRET
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_is_written_whole_with_its_mode(folder: CdiFolder, path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder.write(UID, b"one")
    finally:
        os.umask(before)
    assert [entry.name for entry in path.iterdir()] == [NAME]
    status = (path / NAME).stat()
    assert stat.S_IMODE(status.st_mode) == 0o644
    assert status.st_uid == os.geteuid()
    assert folder.read(UID) == b"one"
    folder.write(UID, b"two")
    assert folder.read(UID) == b"two"
    assert folder.uids() == (UID,)


def test_files_of_others_are_neither_seen_nor_touched(folder: CdiFolder, path: Path) -> None:
    others = ["nvidia.yaml", "k8s.gpu.nvidia.com-claim_x.json", f"{NAME}.bak", f"x{NAME}", ".x.part", NAME.upper()]
    for name in others:
        (path / name).write_bytes(SECRET)
    folder.write(UID, b"one")
    assert folder.uids() == (UID,)
    assert folder.discard_unfinished() == 0
    folder.remove(UID)
    folder.remove(OTHER_UID)
    assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == dict.fromkeys(others, SECRET)


def test_remove_and_read_of_nothing_are_fine(folder: CdiFolder) -> None:
    folder.remove(UID)
    assert folder.read(UID) is None
    assert folder.uids() == ()


def test_the_folder_is_made_where_it_is_missing(path: Path) -> None:
    """/run is empty after a reboot."""
    CdiFolder(path).write(UID, b"one")
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0


def test_a_folder_that_was_replaced_is_found_again(folder: CdiFolder, path: Path) -> None:
    """A handle kept open would write into the old folder, which nobody reads any more."""
    folder.write(UID, b"one")
    path.rename(path.with_name("old"))
    folder.write(UID, b"two")
    assert (path / NAME).read_bytes() == b"two"
    assert folder.read(OTHER_UID) is None


def symlink(entry: Path, outside: Path) -> None:
    entry.symlink_to(outside)


def dangling(entry: Path, outside: Path) -> None:
    entry.symlink_to(outside.with_name("to-be-made"))


def hard_link(entry: Path, outside: Path) -> None:
    entry.hardlink_to(outside)


def fifo(entry: Path, _outside: Path) -> None:
    os.mkfifo(entry)


Plant = Callable[[Path, Path], None]
PLANTED = [symlink, dangling, hard_link, fifo]


@pytest.mark.parametrize("name", [NAME, UNFINISHED], ids=["file", "unfinished"])
@pytest.mark.parametrize("plant", PLANTED)
def test_hi8_what_is_planted_is_replaced_never_followed(
    folder: CdiFolder, path: Path, outside: Path, plant: Plant, name: str
) -> None:
    plant(path / name, outside)
    folder.write(UID, b"one")
    assert {entry.name for entry in path.iterdir()} == {NAME}
    assert stat.S_ISREG((path / NAME).lstat().st_mode)
    assert (path / NAME).stat().st_nlink == 1
    assert folder.read(UID) == b"one"
    assert {entry.name for entry in outside.parent.iterdir()} == {"cdi", "outside.json"}


@pytest.mark.parametrize("plant", [symlink, dangling, fifo])
def test_hi8_what_is_planted_is_not_read_and_goes_with_its_claim(
    folder: CdiFolder, path: Path, outside: Path, plant: Plant
) -> None:
    plant(path / NAME, outside)
    assert folder.read(UID) is None
    assert folder.uids() == (UID,)
    folder.remove(UID)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("name", [NAME, UNFINISHED], ids=["file", "unfinished"])
def test_hi8_a_folder_in_the_way_is_an_error_that_says_so(folder: CdiFolder, path: Path, name: str) -> None:
    (path / name).mkdir()
    with pytest.raises(CdiFolderError, match=r"a folder stands where the file should be; remove it") as error:
        folder.write(UID, b"one")
    assert error.value.code in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
    assert {entry.name for entry in path.iterdir()} == {name}
    assert folder.discard_unfinished() == 0
    with pytest.raises(CdiFolderError, match="remove it"):
        folder.remove(UID)


def test_a_file_that_cannot_be_ours_is_not_read(folder: CdiFolder, path: Path) -> None:
    (path / NAME).mkdir()
    assert folder.read(UID) is None
    (path / NAME).rmdir()
    with (path / NAME).open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert folder.read(UID) is None


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o757])
def test_a_folder_that_others_may_write_to_is_refused(folder: CdiFolder, path: Path, mode: int) -> None:
    folder.write(UID, b"one")
    path.chmod(mode)
    for act in (lambda: folder.write(UID, b"two"), lambda: folder.read(UID), folder.uids, folder.discard_unfinished):
        with pytest.raises(UnsafeFolderError, match=f"chmod 0755 {path}"):
            act()
    assert (path / NAME).read_bytes() == b"one"


@needs_root
def test_a_folder_of_another_user_is_refused(folder: CdiFolder, path: Path) -> None:
    os.chown(path, 12345, 12345)
    with pytest.raises(UnsafeFolderError, match="belongs to user 12345"):
        folder.write(UID, b"one")


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "cdi").symlink_to("elsewhere")
    with pytest.raises(CdiFolderError, match="stands where the folder should be"):
        CdiFolder(tmp_path / "cdi").write(UID, b"one")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cdi").write_bytes(SECRET)
    with pytest.raises(CdiFolderError, match="cannot list"):
        CdiFolder(tmp_path / "cdi").uids()


EFFECTS = ["open", "fchmod", "fsync", "replace"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("effect", EFFECTS)
def test_fi8_a_disk_that_says_no_is_a_typed_error_and_the_old_file_stays(
    folder: CdiFolder, path: Path, monkeypatch: pytest.MonkeyPatch, effect: str, code: int
) -> None:
    folder.write(UID, b"old")

    def failing(*_arguments: object, **_more: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(folder_module.os, effect, failing)
        with pytest.raises(CdiFolderError, match=rf"{os.strerror(code)} \({errno.errorcode[code]}\); ") as error:
            folder.write(UID, b"new")
    assert error.value.code == code
    assert folder.read(UID) == b"old"
    assert {entry.name for entry in path.iterdir()} == {NAME}


def test_fi8_a_disk_that_cannot_be_read_is_an_error_and_no_missing_file(
    folder: CdiFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is taken for missing would be taken for a claim that holds nothing."""
    folder.write(UID, b"one")
    real = os.open

    def failing(path: object, flags: int, **more: Any) -> int:
        if path == NAME:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, flags, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(folder_module.os, "open", failing)
    with pytest.raises(CdiFolderError, match="Input/output error"):
        folder.read(UID)


def test_t27_no_handle_is_left_open_whatever_happens(folder: CdiFolder, path: Path) -> None:
    """HAMi #2245 lost a handle with every MIG apply."""

    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    folder.write(UID, b"one")
    before = handles()
    (path / file_name(OTHER_UID)).mkdir()
    for _ in range(50):
        folder.write(UID, b"one")
        folder.read(UID)
        folder.read(OTHER_UID)
        folder.uids()
        with pytest.raises(CdiFolderError):
            folder.write(OTHER_UID, b"one")
    assert handles() == before


def test_what_a_crash_left_is_removed_at_the_start(folder: CdiFolder, path: Path) -> None:
    folder.write(UID, b"one")
    (path / UNFINISHED).write_bytes(b"hal")
    (path / f".{file_name(OTHER_UID)}.part").symlink_to("/etc/passwd")
    assert folder.uids() == (UID,)
    assert folder.discard_unfinished() == 2
    assert {entry.name for entry in path.iterdir()} == {NAME}


def test_a_write_outlives_another_instance_that_cleans_up(
    folder: CdiFolder, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a rolling update the new driver starts, and cleans, while the old one still writes."""
    real, cleaned = os.replace, []

    def replace(*arguments: Any, **more: Any) -> None:
        if not cleaned:
            cleaned.append(CdiFolder(path).discard_unfinished())
        real(*arguments, **more)

    monkeypatch.setattr(folder_module.os, "replace", replace)
    folder.write(UID, b"one")
    assert cleaned == [1]
    assert folder.read(UID) == b"one"


def killed_at(path: Path, effect: int) -> bool:
    """Write in a process that kills itself before effect number `effect`; False where it came to its end."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def act(*arguments: Any, **more: Any) -> Any:
                nonlocal count
                count += 1
                if count == effect:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **more)

            return act

        for name in ("open", "unlink", "fchmod", "fsync", "replace", "close"):
            setattr(folder_module.os, name, counted(getattr(os, name)))
        CdiFolder(path).write(UID, b"new" * 100_000)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_fi1_kill_9_at_every_effect_leaves_the_old_or_the_new_file(folder: CdiFolder, path: Path) -> None:
    seen = set()
    for effect in range(1, 100):
        folder.write(UID, b"old")
        killed = killed_at(path, effect)
        content = (path / NAME).read_bytes()
        assert content in (b"old", b"new" * 100_000)
        seen.add(content[:3])
        assert folder.uids() == (UID,)
        folder.discard_unfinished()
        assert {entry.name for entry in path.iterdir()} == {NAME}
        if not killed:
            break
    assert not killed
    assert effect > 6
    assert seen == {b"old", b"new"}


def test_fi1_readers_see_whole_files_while_writers_are_killed(folder: CdiFolder, path: Path) -> None:
    """The runtime reads at any time. Contents differ in length, so that a torn one shows."""
    contents = {bytes([65 + size]) * (size * 40_000 + 1) for size in range(4)}
    folder.write(UID, min(contents))
    for _ in range(20):
        child = os.fork()
        if child == 0:
            while True:
                for content in contents:
                    CdiFolder(path).write(UID, content)
        try:
            for _ in range(30):
                assert (path / NAME).read_bytes() in contents
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert folder.read(UID) in contents
    folder.discard_unfinished()
    assert {entry.name for entry in path.iterdir()} == {NAME}
