"""How long a sandbox takes once its programs are built: control plane, real node, a thousand simulated nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sandbox import objects
from sandbox.controlplane import ControlPlane
from sandbox.fakenodes import FakeNodes
from sandbox.node import Node
from sandbox.pytest_plugin import had_or_skipped

MANY = 1000


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with had_or_skipped(ControlPlane.start) as control_plane:
        yield control_plane


def test_control_plane_until_ready(benchmark: BenchmarkFixture) -> None:
    had_or_skipped(ControlPlane.start).close()  # builds what is missing
    started: list[ControlPlane] = []

    def end_the_last() -> None:
        while started:
            started.pop().close()

    benchmark.pedantic(lambda: started.append(ControlPlane.start()), setup=end_the_last, rounds=3)
    assert started[0].api.raw("/readyz") == "ok"
    end_the_last()


def test_node_until_ready(benchmark: BenchmarkFixture, control_plane: ControlPlane) -> None:
    had_or_skipped(lambda: Node.start(control_plane, "bench")).close()
    started: list[Node] = []

    def end_the_last() -> None:
        while started:
            started.pop().close()

    benchmark.pedantic(lambda: started.append(Node.start(control_plane, "bench")), setup=end_the_last, rounds=3)
    assert started[0].wait_ready()["metadata"]["name"] == "bench"
    end_the_last()


def test_a_thousand_simulated_nodes_until_ready(benchmark: BenchmarkFixture, control_plane: ControlPlane) -> None:
    nodes = FakeNodes.start(control_plane)
    manifests = [objects.node(f"bench-{number}") for number in range(MANY)]
    names = benchmark.pedantic(lambda: nodes.add(manifests), rounds=1)
    assert len(names) == MANY
