"""What containers of every shape of claim get on an HGX H100: these devices, and no others by any way (T18)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import objects
from tests.driver_node.box import DRIVER, Bed, Box, allocated, claim, request, uses
from tests.driver_node.conftest import bed_of

pytestmark = pytest.mark.node
COMMON = {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"}


@pytest.fixture
def bed(h100: Box) -> Iterator[Bed]:
    yield from bed_of(h100)


def test_a_whole_gpu(h100: Box, bed: Bed) -> None:
    bed.create(claim(bed.namespace, "one", request("gpu", "gpu")))
    views = h100.run(bed, h100.probing(bed.namespace, "user", {"gpu": "one"}, uses("with"), {"name": "without"}))
    given = views["with"]
    (device,) = allocated(bed.get_claim("one"))
    minor = int(device.removeprefix("gpu-"))
    assert set(given.nodes) == {f"/dev/nvidia{minor}"} | COMMON
    assert given.passed == set(given.nodes.values())
    assert given.devices == {f"GPU_{minor}": h100.twin.gpu(minor).uuid}
    assert given.environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert given.libraries
    assert views["without"].nodes == {}
    assert views["without"].passed == set()
    assert views["without"].environment == {}


def test_two_gpus_of_one_nvlink_domain(h100: Box, bed: Bed) -> None:
    link = {"requests": ["gpu"], "matchAttribute": f"{DRIVER}/nvlinkDomain"}
    bed.create(claim(bed.namespace, "pair", request("gpu", "gpu", count=2), constraints=[link]))
    (view,) = h100.run(bed, h100.probing(bed.namespace, "user", {"gpu": "pair"}, uses("main"))).values()
    minors = {int(each.removeprefix("gpu-")) for each in allocated(bed.get_claim("pair"))}
    assert len(minors) == 2
    assert view.gpus == minors
    assert view.passed == set(view.nodes.values())


def test_mig_partitions_are_made_for_claims_and_go_with_them(h100: Box, bed: Bed) -> None:
    """Two profiles on one GPU; each container opens its own instance's capabilities and nobody else's."""
    small = f'device.attributes["{DRIVER}"].profile == "1g.10gb"'
    large = f'device.attributes["{DRIVER}"].profile == "3g.40gb"'
    link = {"requests": ["small", "large"], "matchAttribute": f"{DRIVER}/parentUUID"}
    bed.create(
        claim(
            bed.namespace, "parts", request("small", "mig", small), request("large", "mig", large), constraints=[link]
        )
    )
    pod = h100.probing(bed.namespace, "user", {"gpu": "parts"}, uses("one", "small"), uses("other", "large"))
    views = h100.run(bed, pod)
    one, other = views["one"], views["other"]
    assert one.gpus == other.gpus
    (minor,) = one.gpus
    for view in (one, other):
        (uuid,) = view.devices.values()
        assert uuid.startswith("MIG-")
        assert view.capabilities == 2, "of the GPU instance and of its compute instance"
        assert view.passed == set(view.nodes.values())
    assert one.passed & other.passed == {(195, minor)} | {one.nodes[path] for path in COMMON}
    placed = {each.start for each in h100.instances(minor)}
    assert placed == {int(name.rpartition("-")[2]) for name in allocated(bed.get_claim("parts"))}
    bed.remove_workload()
    assert h100.instances(minor) == []


@pytest.mark.parametrize("kind", ["time-slicing", "mps"])
def test_shares_of_one_gpu(h100: Box, bed: Bed, kind: str) -> None:
    """Two claims hold shares of one GPU; both open it, and MPS tells each its limits."""
    amount = {"memory": "20Gi", "computeMilli": "250"}
    pods = []
    for name in ("left", "right"):
        bed.create(claim(bed.namespace, name, request("gpu", kind, capacity=amount)))
        pods.append(h100.probing(bed.namespace, name, {"gpu": name}, uses("main")))
    left, right = (h100.run(bed, pod)["main"] for pod in pods)
    assert left.gpus == right.gpus
    assert left.passed == right.passed == set(left.nodes.values())
    limits = {name for name in left.environment if name.startswith("CUDA_MPS_")}
    wanted = {"PIPE_DIRECTORY", "PINNED_DEVICE_MEM_LIMIT", "ACTIVE_THREAD_PERCENTAGE"} if kind == "mps" else set()
    assert {name.removeprefix("CUDA_MPS_") for name in limits} >= wanted


def test_containers_get_the_requests_that_they_name(h100: Box, bed: Bed) -> None:
    bed.create(claim(bed.namespace, "two", request("a", "gpu"), request("b", "gpu")))
    pod = h100.probing(
        bed.namespace, "user", {"gpu": "two"}, uses("a", "a"), uses("b", "b"), uses("both"), {"name": "none"}
    )
    views = h100.run(bed, pod)
    assert len(views["a"].gpus) == len(views["b"].gpus) == 1
    assert views["a"].gpus.isdisjoint(views["b"].gpus)
    assert views["both"].gpus == views["a"].gpus | views["b"].gpus
    assert views["none"].gpus == set()
    for view in views.values():
        assert view.passed == set(view.nodes.values())


def test_an_init_container_has_what_it_asks_for_and_the_others_do_not(h100: Box, bed: Bed) -> None:
    bed.create(claim(bed.namespace, "one", request("gpu", "gpu")))
    pod = h100.probing(bed.namespace, "user", {"gpu": "one"}, uses("init"), {"name": "main"})
    init, main = pod["spec"]["containers"]
    init["command"][-1] = init["command"][-1].removesuffix("exec sleep 3600")
    pod["spec"] |= {"initContainers": [init], "containers": [main]}
    bed.run(pod)
    seen = h100.view(pod, "init")
    assert len(seen.gpus) == 1
    assert seen.passed == set(seen.nodes.values())
    assert h100.view(pod, "main").passed == set()


def test_a_claim_that_no_container_uses_is_prepared_all_the_same(h100: Box, bed: Bed) -> None:
    """Prepare may do what only a node can, such as loading a library: e2e, `dra.go`."""
    bed.create(claim(bed.namespace, "one", request("gpu", "gpu")))
    bed.run(h100.probing(bed.namespace, "user", {"gpu": "one"}, {"name": "main"}))
    assert [record["claim"]["name"] for record in h100.records()] == ["one"]


def test_claims_made_from_a_template_are_one_for_each_pod(h100: Box, bed: Bed) -> None:
    bed.create(objects.claim_template(bed.namespace, "each", DRIVER))
    pods = [h100.probing(bed.namespace, f"user-{number}", {}, uses("main")) for number in range(2)]
    for pod in pods:
        pod["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "each"}]
    one, two = (h100.run(bed, pod)["main"] for pod in pods)
    assert one.gpus.isdisjoint(two.gpus)
