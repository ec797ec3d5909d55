"""The way to the API server that can misbehave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.chaos.proxy import ApiProxy
from sandbox.controlplane import ControlPlane
from sandbox.testbed import Testbed


@pytest.fixture(scope="module")
def _module_proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
def proxy(_module_proxy: ApiProxy, testbed: Testbed) -> Iterator[ApiProxy]:
    yield _module_proxy
    _module_proxy.cut()
