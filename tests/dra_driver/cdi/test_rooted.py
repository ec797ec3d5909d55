"""Paths below another root end there, and mean what they mean to a program whose root that is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra_driver.cdi.rooted import find, resolve

NAMES = st.sampled_from(["a", "b", "c", "..", "."])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TARGETS = st.tuples(st.sampled_from(["", "/", "//", "///"]), PATHS).map("".join)
LINKS = st.dictionaries(st.sampled_from(["a", "b", "c", "a/b", "b/c", "c/a"]), TARGETS, max_size=5)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for chroot(2)")


def build(root: Path, links: dict[str, str]) -> None:
    for folder in ("a", "b", "c"):
        if folder not in links:
            (root / folder).mkdir()
    for path, target in links.items():
        if not (root / path).is_symlink() and (root / path).parent.is_dir() and not (root / path).parent.is_symlink():
            (root / path).symlink_to(target)


@needs_root
@given(links=LINKS, path=PATHS)
def test_a_path_means_what_the_kernel_says_under_that_root(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str], path: str
) -> None:
    root = tmp_path_factory.mktemp("root")
    build(root, links)
    found = find(root, "/" + path)
    real = identity_in(root, "/" + path)
    assert (None if found is None else (found.stat().st_dev, found.stat().st_ino)) == real
    if found is not None:
        assert found.is_relative_to(root)
        assert not found.is_symlink()
        assert ".." not in found.parts


def identity_in(root: Path, path: str) -> tuple[int, int] | None:
    """What the kernel finds at `path` for a process whose root is `root`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.chroot(root)
        os.chdir("/")
        try:
            status = os.stat(path)  # noqa: PTH116 - nothing may be imported behind the new root
            os.write(writer, f"{status.st_dev} {status.st_ino}".encode())
        except OSError:
            pass
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        words = answer.read().split()
    return (int(words[0]), int(words[1])) if words else None


def test_two_slashes_are_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("//a")
    assert resolve(tmp_path, "//a") == resolve(tmp_path, "/b") == tmp_path / "a"


def test_links_that_go_round_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels") as error:
        resolve(tmp_path, "/a")
    assert error.value.errno == errno.ELOOP


def test_nothing_is_found_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    assert find(tmp_path, "/a/b") is None
    assert find(tmp_path, "/a") == tmp_path / "a"
