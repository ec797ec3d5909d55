"""A DGX A100, whose MIG mode takes a reset: what is on stays on, what is off stays whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.driver_node.box import DRIVER, Bed, Box, allocated, claim, request, uses
from tests.driver_node.conftest import bed_of

pytestmark = pytest.mark.node


@pytest.fixture
def bed(a100: Box) -> Iterator[Bed]:
    yield from bed_of(a100)


def test_halves_are_published_as_they_are(a100: Box) -> None:
    devices = [each["name"] for stored in a100.slices() for each in stored["spec"].get("devices", ())]
    whole = {name for name in devices if name.removeprefix("gpu-").isdigit()}
    parts = {name.split("-mig-")[0] for name in devices if "-mig-" in name}
    assert whole == {f"gpu-{minor}" for minor in range(4)}
    assert parts == {f"gpu-{minor}" for minor in range(4, 8)}


def test_whole_linked_partitioned_and_shared_side_by_side(a100: Box, bed: Bed) -> None:
    """Every shape at once on one machine: no container opens a device of another."""
    link = {"requests": ["gpu"], "matchAttribute": f"{DRIVER}/nvlinkDomain"}
    profile = f'device.attributes["{DRIVER}"].profile == "2g.10gb"'
    bed.create(
        claim(bed.namespace, "whole", request("gpu", "gpu")),
        claim(bed.namespace, "linked", request("gpu", "gpu", count=2), constraints=[link]),
        claim(bed.namespace, "part", request("gpu", "mig", profile)),
        claim(bed.namespace, "turns", request("gpu", "time-slicing", capacity={"memory": "4Gi"})),
    )
    names = ("whole", "linked", "part", "turns")
    pods = {name: a100.probing(bed.namespace, name, {"gpu": name}, uses("main")) for name in names}
    views = {name: a100.run(bed, pod)["main"] for name, pod in pods.items()}
    for name, view in views.items():
        minors = {int(device.split("-")[1]) for device in allocated(bed.get_claim(name))}
        assert view.gpus == minors, name
        assert view.passed == set(view.nodes.values()), name
    taken = [minor for view in views.values() for minor in view.gpus]
    assert len(taken) == len(set(taken)) == 5
    assert views["part"].capabilities == 2
    bed.remove_workload()
    assert [a100.instances(minor) for minor in range(8)] == [[]] * 8
    assert all(gpu.mig_enabled == (minor >= 4) for minor, gpu in enumerate(a100.twin.state.gpus)), "as it was found"
