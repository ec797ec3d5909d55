"""What the kubelet says containers have is read from its socket; no answer is no "no"."""

from __future__ import annotations

import asyncio

import pytest
from grpc import aio

from dra_driver.errors import RetryableError
from dra_driver.pb import podresources_v1_pb2 as messages
from dra_driver.pb import podresources_v1_pb2_grpc as services
from dra_driver.plugin.podresources import PodResources
from dra_driver.prepare.model import ClaimRef
from dra_driver.roots import DRIVER_NAME
from tests.dra_driver.plugin.world import new_world


class Lister(services.PodResourcesListerServicer):
    def __init__(self, *pods: messages.PodResources) -> None:
        self.pods = pods

    async def List(self, request, context):  # noqa: N802 - gRPC's name
        return messages.ListPodResourcesResponse(pod_resources=self.pods)

    async def GetAllocatableResources(self, request, context):  # noqa: N802 - gRPC's name
        raise NotImplementedError

    async def Get(self, request, context):  # noqa: N802 - gRPC's name
        raise NotImplementedError


def container(claim: str, driver: str) -> messages.ContainerResources:
    resource = messages.ClaimResource(driver_name=driver, pool_name="pool", device_name="gpu-0")
    claimed = messages.DynamicResource(claim_name=claim, claim_namespace="default", claim_resources=[resource])
    return messages.ContainerResources(name="main", dynamic_resources=[claimed])


def ref(name: str, namespace: str = "default") -> ClaimRef:
    return ClaimRef(namespace=namespace, name=name, uid="11111111-1111-4111-8111-111111111111")


def test_claims_that_containers_have_are_listed() -> None:
    pods = [
        messages.PodResources(name="one", namespace="default", containers=[container("ours", DRIVER_NAME)]),
        messages.PodResources(name="two", namespace="default", containers=[container("theirs", "nic.example.com")]),
        messages.PodResources(name="three", namespace="default"),
    ]

    async def story() -> list[bool]:
        with new_world() as world:
            resources = PodResources.of(world.root, DRIVER_NAME)
            resources.socket.parent.mkdir()
            server = aio.server()
            services.add_PodResourcesListerServicer_to_server(Lister(*pods), server)
            server.add_insecure_port(f"unix:{resources.socket}")
            await server.start()
            try:
                return [await resources.lists(claim) for claim in (ref("ours"), ref("theirs"), ref("ours", "other"))]
            finally:
                await server.stop(None)

    assert asyncio.run(story()) == [True, False, False]


def test_a_kubelet_that_does_not_answer_proves_nothing() -> None:
    with new_world() as world:
        resources = PodResources.of(world.root, DRIVER_NAME)
        with pytest.raises(RetryableError, match=r"kubelet\.sock .* UNAVAILABLE"):
            asyncio.run(resources.lists(ref("ours")))
