"""The loader's cache is read as ldconfig writes it, and nothing in it can hurt."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra_driver.cdi.driverfiles import DriverFiles
from dra_driver.cdi.ldcache import entries, folders_of
from tests.dra_driver.cdi.hosts import LIBRARY_FOLDER, VERSION, Host

CACHE = Path("/etc/ld.so.cache")
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


def cache_of(libraries: list[tuple[str, str]], *, old_part: bool = False) -> bytes:
    """A cache as glibc lays it out."""
    texts = b""
    rows = []
    start = 48 + 24 * len(libraries)
    for name, path in libraries:
        offsets = []
        for text in (name, path):
            offsets.append(start + len(texts))
            texts += text.encode() + b"\0"
        rows.append(struct.pack("<iIIIQ", 0x0303, *offsets, 0, 0))
    new = struct.pack("<20sII20x", b"glibc-ld.so.cache1.1", len(libraries), len(texts)) + b"".join(rows) + texts
    if not old_part:
        return new
    old = struct.pack("<12sI", b"ld.so-1.7.0\0", 3) + bytes(12 * 3)
    return old + bytes(-len(old) % 8) + new


@given(st.lists(st.tuples(NAMES, NAMES), max_size=5), st.booleans())
def test_what_was_written_is_read(libraries: list[tuple[str, str]], old_part: bool) -> None:
    assert list(entries(cache_of(libraries, old_part=old_part))) == libraries


@given(st.data())
def test_spoilt_bytes_give_entries_or_nothing(data: st.DataObject) -> None:
    """Cut anywhere, any byte turned: no error, no endless loop."""
    whole = cache_of([("libcuda.so.1", "/usr/lib64/libcuda.so.1")] * 3, old_part=data.draw(st.booleans()))
    cut = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    if cut:
        cut[data.draw(st.integers(0, len(cut) - 1))] ^= data.draw(st.integers(1, 255))
    assert len(list(entries(bytes(cut)))) <= len(whole)


@pytest.mark.skipif(not CACHE.exists() or shutil.which("ldconfig") is None, reason="this machine has no ldconfig")
def test_this_machines_cache_is_read_as_ldconfig_prints_it() -> None:
    printed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    pairs = [line.strip().split(" => ") for line in printed.splitlines() if " => " in line]
    assert sorted((left.split(" (")[0], right) for left, right in pairs) == sorted(entries(CACHE.read_bytes()))


def test_folders_are_those_that_have_the_library(tmp_path: Path) -> None:
    cache = tmp_path / "ld.so.cache"
    cache.write_bytes(cache_of([("libcuda.so.1", "/opt/nvidia/lib/libcuda.so.1"), ("libz.so.1", "/opt/z/libz.so.1")]))
    assert folders_of(cache, "libcuda.so.1") == (PurePosixPath("/opt/nvidia/lib"),)
    assert folders_of(tmp_path / "none", "libcuda.so.1") == ()


def test_a_driver_in_a_folder_that_only_the_cache_knows_is_found(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (host.root / LIBRARY_FOLDER / f"libcuda.so.{VERSION}").unlink()
    (host.root / LIBRARY_FOLDER / "libcuda.so.1").unlink()
    host.library("libcuda", "libcuda.so.1", folder="opt/nvidia/lib")
    host.put("etc/ld.so.cache", cache_of([("libcuda.so.1", "/opt/nvidia/lib/libcuda.so.1")]))
    mounts = DriverFiles(host.roots, machine="x86_64").mounts(VERSION)
    assert f"{host.root}/opt/nvidia/lib/libcuda.so.{VERSION}" in {mount.host_path for mount in mounts}
