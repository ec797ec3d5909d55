"""A kubelet against the real driver on a twin: what it is told is what the machine, the journal and CDI have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dra_driver.roots import DRIVER_NAME
from tests.dra_driver.kubelet import V1, V1BETA1, Api, FakeKubelet, NotReadyError, Pod
from tests.dra_driver.plugin.real import Real, real_world

PARTITION = "gpu-{}-mig-1g10gb-19-{}"


def played(version: Api, story: Callable[[Real, FakeKubelet], Awaitable[None]]) -> None:
    async def play(real: Real) -> None:
        async with real.world.both() as (kubelet, _):
            await story(real, kubelet)

    with real_world(version) as real:
        asyncio.run(asyncio.wait_for(play(real), 60))


both_versions = pytest.mark.parametrize("version", [V1, V1BETA1], ids=["v1", "v1beta1"])


@both_versions
def test_every_shape_of_claim_starts_and_ends(version: Api) -> None:
    """Whole, two GPUs, a MIG placement, shares of both kinds; afterwards nothing of it is left."""

    async def story(real: Real, kubelet: FakeKubelet) -> None:
        world = real.world
        pod = Pod("pod", ["whole", "pair", "partition", "slice", "mps"])
        amounts = {"memory": "10Gi", "computeMilli": "100"}
        world.claim("whole", pod, device="gpu-0")
        world.claim_of("pair", [world.result(device=f"gpu-{number}") for number in (1, 2)], pod)
        world.claim("partition", pod, device=PARTITION.format(3, 0))
        for number, (name, way) in enumerate((("slice", "time-slicing"), ("mps", "mps"))):
            share = f"00000000-0000-4000-8000-00000000000{number}"
            world.claim(name, pod, device=f"gpu-{4 + number}-{way}", share_id=share, consumed_capacity=amounts)
        ids = await kubelet.until_started(pod)
        assert len(ids) == 6
        assert all(each.startswith(f"k8s.{DRIVER_NAME}/claim=") for each in ids)
        assert (real.instances(), real.cdi_files()) == (1, 5)
        await kubelet.until_ended(pod)
        assert (real.instances(), real.cdi_files()) == (0, 0)

    played(version, story)


@both_versions
def test_many_partitions_at_once(version: Api) -> None:
    """Fourteen pods on two GPUs, all at the same time, twice."""

    async def story(real: Real, kubelet: FakeKubelet) -> None:
        for _ in range(2):
            pods = [
                real.world.pod(f"pod-{gpu}-{start}", device=PARTITION.format(gpu, start))
                for gpu in (0, 1)
                for start in range(7)
            ]
            await asyncio.gather(*(kubelet.until_started(pod) for pod in pods))
            assert (real.instances(), real.cdi_files()) == (14, 14)
            await asyncio.gather(*(kubelet.until_ended(pod) for pod in pods))
            assert (real.instances(), real.cdi_files()) == (0, 0)

    played(version, story)


@both_versions
def test_what_a_force_deleted_pod_had_is_not_given_twice(version: Api) -> None:
    """T02 on the machine: the text names the claim that holds it; nothing is changed by the refusal."""

    async def story(real: Real, kubelet: FakeKubelet) -> None:
        old = real.world.pod("old", device=PARTITION.format(0, 0))
        new = real.world.pod("new", device="gpu-0")
        await kubelet.start(old)
        real.world.api.delete("old")
        with pytest.raises(NotReadyError, match=r"gpu-0.*default/old"):
            await kubelet.start(new)
        assert (real.instances(), real.cdi_files()) == (1, 1)
        await kubelet.end(old)
        assert await kubelet.until_started(new)
        assert (real.instances(), real.cdi_files()) == (0, 1)

    played(version, story)


@both_versions
def test_a_claim_that_the_node_cannot_serve_is_explained(version: Api) -> None:
    async def story(real: Real, kubelet: FakeKubelet) -> None:
        pod = real.world.pod("pod", device="gpu-99")
        with pytest.raises(NotReadyError, match=r"claim default/pod: .*gpu-99"):
            await kubelet.start(pod)
        await kubelet.end(pod)
        assert (real.instances(), real.cdi_files()) == (0, 0)

    played(version, story)
