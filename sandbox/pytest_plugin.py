"""Fixtures for tests on a real cluster; `pytest_plugins = ["sandbox.pytest_plugin"]` in a conftest makes them known.

    control_plane   one per pytest process, started by the first test that asks for it
    testbed         a namespace and a clean GPU inventory on it, per test
    node            a real kubelet with containerd, one per pytest process, cordoned while other tests run

Processes of pytest-xdist have one control plane each: tests of two processes would see each other's nodes and slices,
so they would have to take turns, and that costs more than a second control plane (docs/sandbox.md has the figures).
Tests that use them carry the markers `cluster` and `node` without writing them. Where the machine lacks something they
skip, with the reason and the remedy; with CI=true in the environment they fail instead.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import pytest

from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError, UnavailableError
from sandbox.node import Node
from sandbox.testbed import Testbed

MARKS = {"control_plane": "cluster", "node": "node"}
"""Fixture -> marker of the tests that use it."""
PROGRESS_EVERY_S = 10.0

Had = TypeVar("Had")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a cluster or a node, before `-m` selects."""
    for item in items:
        for fixture, mark in MARKS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


def had_or_skipped(get: Callable[[], Had]) -> Had:
    """Return what `get` gets; where this machine cannot, skip the test, or fail it under CI=true."""
    try:
        return get()
    except UnavailableError as lack:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, and {lack.reason}; {lack.remedy}", pytrace=False)
        pytest.skip(f"{lack.reason}; {lack.remedy}")


class _Teller:
    """Writes the progress of a build past pytest's capturing, a line now and then."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._last_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._last_s < PROGRESS_EVERY_S:
            return
        self._last_s = time.monotonic()
        with self._capture.global_and_fixture_disabled():
            sys.stderr.write(f"\nbuilding {what}: {done} of {total} packages\n")


@pytest.fixture(scope="session")
def control_plane(pytestconfig: pytest.Config) -> Iterator[ControlPlane]:
    """Start a control plane that lives as long as the pytest process."""
    control_plane = had_or_skipped(lambda: ControlPlane.start(progress=_Teller(pytestconfig)))
    with control_plane:
        yield control_plane


@pytest.fixture
def testbed(control_plane: ControlPlane) -> Iterator[Testbed]:
    """Give one test a namespace and a clean GPU inventory."""
    testbed = Testbed(control_plane)
    testbed.open()
    yield testbed
    testbed.close()


@pytest.fixture(scope="session")
def _session_node(control_plane: ControlPlane) -> Iterator[Node]:
    """Start a real node that lives as long as the pytest process."""
    with had_or_skipped(lambda: Node.start(control_plane, "real-1")) as node:
        yield node


@pytest.fixture
def node(_session_node: Node) -> Iterator[Node]:
    """Open the real node to the pods of one test; those of other tests do not come to it."""
    _session_node.uncordon()
    yield _session_node
    _session_node.cordon()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say where the logs of the cluster stay when a test fails."""
    report = yield
    if report.failed:
        for name in MARKS:
            holder = getattr(item, "funcargs", {}).get(name)
            if isinstance(holder, ControlPlane | Node):  # others call fixtures of theirs "node" too
                report.sections.append((f"logs of {name}", _kept(holder)))
    return report


def _kept(holder: ControlPlane | Node) -> str:
    try:
        return str(holder.programs.keep_logs())
    except SandboxError as fault:
        return str(fault)
