"""Which claims the kubelet has given to containers, by its own word (pod-resources API v1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grpc import aio

from dra_driver.errors import RetryableError
from dra_driver.pb import podresources_v1_pb2 as messages
from dra_driver.pb.podresources_v1_pb2_grpc import PodResourcesListerStub
from dra_driver.prepare.model import ClaimRef

TIMEOUT_S = 5.0
MAX_ANSWER = 16 << 20
"""Bytes; the kubelet's own limit for such clients."""


@dataclass(frozen=True, slots=True)
class Given:
    """What containers have of ours."""

    claims: frozenset[tuple[str, str]]
    """Namespace and name."""
    names: frozenset[str]
    """Of CDI devices; they carry the UID of the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodResources:
    """The kubelet's list. It names claims by namespace and name, not by UID; CDI ids have ours in them."""

    socket: Path
    driver: str

    @classmethod
    def of(cls, kubelet_root: Path, driver: str) -> PodResources:
        """Return the list of the kubelet with this root folder."""
        return cls(socket=kubelet_root / "pod-resources" / "kubelet.sock", driver=driver)

    async def claims(self) -> frozenset[tuple[str, str]]:
        """Return (namespace, name) of every claim of ours that a container has. Raises RetryableError."""
        return (await self.given()).claims

    async def given(self) -> Given:
        """Return what containers have of ours. Raises RetryableError."""
        options = [("grpc.max_receive_message_length", MAX_ANSWER)]
        try:
            async with aio.insecure_channel(f"unix:{self.socket}", options=options) as channel:
                listed = await PodResourcesListerStub(channel).List(
                    messages.ListPodResourcesRequest(), timeout=TIMEOUT_S
                )
        except aio.AioRpcError as fault:
            raise RetryableError(
                f"the kubelet's list of pod resources at {self.socket} cannot be read: {fault.code().name} "
                f"{fault.details()}; what it may still use is left alone"
            ) from fault
        ours = [
            (claim, device)
            for pod in listed.pod_resources
            for container in pod.containers
            for claim in container.dynamic_resources
            for device in claim.claim_resources
            if device.driver_name == self.driver
        ]
        return Given(
            frozenset((claim.claim_namespace, claim.claim_name) for claim, _device in ours),
            frozenset(each.name for _claim, device in ours for each in device.cdi_devices),
        )

    async def lists(self, claim: ClaimRef) -> bool:
        """Tell whether a container has the claim, or another one of its name. Raises RetryableError."""
        return (claim.namespace, claim.name) in await self.claims()
