"""Sockets are root's alone from the moment they exist; folders that others could change are refused, with a remedy."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dra_driver.plugin.errors import SocketError
from dra_driver.plugin.sockets import MAX_PATH, SocketPaths, claimed, private_sockets
from dra_driver.roots import DRIVER_NAME, Roots
from tests.dra_driver.plugin.world import World, new_world

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as world:
        yield world


def bound(path: Path) -> None:
    """Leave a socket behind that nobody serves, as a killed process does."""
    path.parent.mkdir(exist_ok=True, mode=0o750)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def test_modes(world: World) -> None:
    async def story() -> list[int]:
        async with world.plugin():
            paths = (world.paths().plugin, world.paths().registration, world.paths().plugin.parent)
            return [stat.S_IMODE(path.lstat().st_mode) for path in paths]

    before = os.umask(0)
    try:
        assert asyncio.run(story()) == [0o600, 0o600, 0o750]
        assert os.umask(0) == 0, "the mask is put back"
    finally:
        os.umask(before)


@needs_root
def test_other_users_cannot_connect(world: World) -> None:
    """The kernel refuses them; gRPC for Python cannot tell who is on the other side."""
    path = world.root / "try.sock"
    world.root.chmod(0o755)
    attempt = f"import os, socket; os.setuid(65534); socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    with socket.socket(socket.AF_UNIX) as server, private_sockets():
        server.bind(str(path))
        server.listen()
        done = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize("pod_uid", ["", "11111111-2222-4333-8444-555555555555"])
def test_names_are_those_that_the_kubelet_looks_for(pod_uid: str) -> None:
    paths = SocketPaths.of(Roots(), DRIVER_NAME, pod_uid)
    instance = f"-{pod_uid}" if pod_uid else ""
    assert str(paths.plugin) == f"/var/lib/kubelet/plugins/gpu.dovetail.dev/dra{instance}.sock"
    assert str(paths.registration) == f"/var/lib/kubelet/plugins_registry/gpu.dovetail.dev{instance}-reg.sock"


@pytest.mark.parametrize(("length", "fits"), [(MAX_PATH - 1, True), (MAX_PATH, True), (MAX_PATH + 1, False)])
def test_path_length(length: int, fits: bool) -> None:
    """AF_UNIX has room for 108 bytes, one of which ends the path."""
    path = Path("/" + "x" * (length - 1))
    if fits:
        SocketPaths(plugin=path, registration=path, lock=path)
        return
    with pytest.raises(SocketError, match=r"108 bytes are too long .* --kubelet-root"):
        SocketPaths(plugin=Path("/short"), registration=path, lock=path)


def test_the_longest_path_that_is_allowed_can_be_bound(world: World) -> None:
    room = MAX_PATH - len(os.fsencode(world.root)) - 1
    bound(world.root / ("x" * room))
    with pytest.raises(OSError, match="too long"):
        bound(world.root / ("x" * (room + 1)))


def linked(world: World) -> None:
    elsewhere = world.root / "elsewhere"
    elsewhere.mkdir()
    world.paths().plugin.parent.symlink_to(elsewhere)


def a_file(world: World) -> None:
    world.paths().plugin.parent.write_text("")


def group_writable(world: World) -> None:
    world.paths().plugin.parent.mkdir()
    world.paths().plugin.parent.chmod(0o770)


def world_writable_registry(world: World) -> None:
    world.paths().registration.parent.chmod(0o1777)


def no_registry(world: World) -> None:
    world.paths().registration.parent.rmdir()


def no_plugins(world: World) -> None:
    world.paths().plugin.parent.parent.rmdir()


def foreign(world: World) -> None:
    world.paths().plugin.parent.mkdir()
    os.chown(world.paths().plugin.parent, 65534, 65534)


def planted_file(world: World) -> None:
    world.paths().plugin.parent.mkdir()
    world.paths().plugin.write_text("somebody's")


def planted_link(world: World) -> None:
    world.paths().plugin.parent.mkdir()
    world.paths().plugin.symlink_to("/etc/hostname")


def linked_lock(world: World) -> None:
    world.paths().plugin.parent.mkdir()
    world.paths().lock.symlink_to(world.root / "target")


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (linked, "must be a folder, not a link or file; remove it"),
        (a_file, "must be a folder"),
        (group_writable, r"mode 0770\); chmod 0750"),
        (world_writable_registry, r"mode 1777\); chmod 1755"),
        (no_registry, "--kubelet-root the kubelet's --root-dir"),
        pytest.param(foreign, "belongs to user 65534; must belong to 0: chown", marks=needs_root),
        (planted_file, "not a socket; remove it"),
        (planted_link, "not a socket; remove it"),
        (linked_lock, "cannot be opened as a lock: .*; remove it"),
        (no_plugins, "--kubelet-root the kubelet's --root-dir"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_unsafe_places_are_refused(world: World, spoil: Callable[[World], None], remedy: str) -> None:
    spoil(world)
    before = sorted(world.root.rglob("*"))

    async def story() -> None:
        async with world.plugin():
            pass

    with pytest.raises(SocketError, match=remedy) as fault:
        asyncio.run(story())
    assert str(world.root) in str(fault.value)
    assert [path for path in before if not path.is_symlink() and not path.exists()] == [], "nothing was removed"


def test_the_planted_file_is_still_there(world: World) -> None:
    planted_file(world)
    with pytest.raises(SocketError), claimed(world.paths(), DRIVER_NAME):
        pass
    assert world.paths().plugin.read_text() == "somebody's"


def test_only_dead_instances_of_this_driver_are_cleaned_up(world: World) -> None:
    """What has no lock of ours, or a name that is none of ours, is not ours."""
    dead, alive, ours = world.paths("dead"), world.paths("alive"), world.paths("ours")
    stranger = world.roots.kubelet / "plugins_registry" / "nic.example.com-reg.sock"
    unlocked = world.paths("unlocked").plugin
    for path in (dead.plugin, dead.registration, alive.plugin, alive.registration, stranger, unlocked):
        bound(path)
    dead.lock.touch()
    odd = world.paths("odd")
    odd.lock.touch()
    odd.plugin.touch()
    with claimed(alive, DRIVER_NAME):
        bound(alive.plugin)
        with claimed(ours, DRIVER_NAME):
            left = {path for path in world.root.rglob("*") if path.is_socket()}
            assert left == {alive.plugin, stranger, unlocked}
            assert odd.plugin.exists(), "it is no socket, so nobody knows what it is"


def test_stop_leaves_no_file(world: World) -> None:
    with claimed(world.paths(), DRIVER_NAME):
        bound(world.paths().plugin)
    assert list(world.paths().plugin.parent.iterdir()) == []


def test_second_instance_of_a_name_is_refused(world: World) -> None:
    with (
        claimed(world.paths(), DRIVER_NAME),
        pytest.raises(SocketError, match="another instance is serving here"),
        claimed(world.paths(), DRIVER_NAME),
    ):
        pass
    with claimed(world.paths(), DRIVER_NAME):
        pass
