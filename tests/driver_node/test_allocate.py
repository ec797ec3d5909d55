"""From claim to container with our own scheduler in mode allocate: what it decides is what is made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.deployed import DeployedPod
from tests.driver_node.box import DRIVER, Bed, Box, allocated, claim, request, uses
from tests.driver_node.conftest import bed_of

pytestmark = pytest.mark.node
SCHEDULER = "dovetail"


@pytest.fixture
def bed(h100: Box, ours: DeployedPod) -> Iterator[Bed]:
    yield from bed_of(h100)


def profile(name: str) -> str:
    return f'device.attributes["{DRIVER}"].profile == "{name}"'


def test_the_decided_mig_placement_is_what_the_container_has(h100: Box, bed: Bed) -> None:
    seen: set[tuple[int, int, int]] = set()
    for number, name in enumerate(("3g.40gb", "1g.10gb", "2g.20gb", "1g.10gb")):
        bed.create(claim(bed.namespace, f"part-{number}", request("gpu", "mig", profile(name))))
        pod = h100.probing(bed.namespace, f"user-{number}", {"gpu": f"part-{number}"}, uses("main"))
        pod["spec"]["schedulerName"] = SCHEDULER
        view = h100.run(bed, pod)["main"]
        (device,) = allocated(bed.get_claim(f"part-{number}"))
        minor, start = int(device.split("-")[1]), int(device.rpartition("-")[2])
        assert view.gpus == {minor}
        assert view.passed == set(view.nodes.values())
        (made,) = [each for each in h100.instances(minor) if each.start == start]
        assert [compute.uuid for compute in made.compute] == list(view.devices.values())
        seen |= {(minor, each.id, each.start) for each in h100.instances(minor)}
    assert len(seen) == 4, "no instance was ever made anew or moved"
    bed.remove_workload()
    assert [h100.instances(minor) for minor in range(8)] == [[]] * 8


def test_linked_gpus_and_shares_are_prepared_as_decided(h100: Box, bed: Bed) -> None:
    link = {"requests": ["gpu"], "matchAttribute": f"{DRIVER}/nvlinkDomain"}
    share = request("gpu", "mps", capacity={"memory": "16Gi", "computeMilli": "200"})
    bed.create(
        claim(bed.namespace, "linked", request("gpu", "gpu", count=4), constraints=[link]),
        claim(bed.namespace, "left", share),
        claim(bed.namespace, "right", share),
    )
    views = {}
    for name in ("linked", "left", "right"):
        pod = h100.probing(bed.namespace, name, {"gpu": name}, uses("main"))
        pod["spec"]["schedulerName"] = SCHEDULER
        views[name] = h100.run(bed, pod)["main"]
        minors = {int(device.split("-")[1]) for device in allocated(bed.get_claim(name))}
        assert views[name].gpus == minors
        assert views[name].passed == set(views[name].nodes.values())
    assert len(views["linked"].gpus) == 4
    assert views["left"].gpus == views["right"].gpus
    assert views["left"].gpus.isdisjoint(views["linked"].gpus)
