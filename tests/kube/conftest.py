"""Clients of a real API server, straight and through a proxy that can misbehave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.chaos.proxy import ApiProxy
from sandbox.controlplane import ControlPlane
from sandbox.testbed import Testbed


@pytest.fixture(scope="session")
def _session_proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
def proxy(_session_proxy: ApiProxy, testbed: Testbed) -> Iterator[ApiProxy]:
    yield _session_proxy
    _session_proxy.cut()
