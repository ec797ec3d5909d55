"""The pods of a load, and what they claim. Pure: values in, manifests out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sandbox import objects
from sandbox.objects import Manifest

LABEL = "sandbox.dovetail.dev/load"
GATE = "sandbox.dovetail.dev/hold"
Claims = Literal["template", "named", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Equal pods of one scheduler, each with a claim of its own."""

    namespace: str
    name: str
    """Of the load: a label of its objects and the beginning of their names."""
    pods: int
    scheduler: str = "default-scheduler"
    claims: Claims = "template"
    """template: Kubernetes makes each pod's claim; named: made before the pod; none: no devices."""
    device_class: str = "gpu"
    devices: int = 1
    """Per pod."""
    selectors: tuple[str, ...] = ()
    """CEL, for the devices."""

    def __post_init__(self) -> None:
        if self.pods < 1:
            raise ValueError(f"Workload.pods is {self.pods}; it must be at least 1")

    @property
    def selector(self) -> str:
        """Label selector of the pods and named claims."""
        return f"{LABEL}={self.name}"

    def template(self) -> Manifest | None:
        """Return the ResourceClaimTemplate, if the pods use one."""
        if self.claims != "template":
            return None
        return self._labelled(
            objects.claim_template(self.namespace, self.name, self.device_class, *self.selectors, count=self.devices)
        )

    def claim(self, number: int) -> Manifest | None:
        """Return the named ResourceClaim of a pod, if it has one."""
        if self.claims != "named":
            return None
        name = self.pod_name(number)
        claim = objects.claim(self.namespace, name, self.device_class, *self.selectors, count=self.devices)
        return self._labelled(claim)

    def pod(self, number: int, *, gated: bool) -> Manifest:
        """Return a pod; a gated one is not scheduled before its gate is removed."""
        name = self.pod_name(number)
        pod = objects.pod(
            self.namespace,
            name,
            claim=name if self.claims == "named" else None,
            template=self.name if self.claims == "template" else None,
            scheduler=self.scheduler,
        )
        if gated:
            pod["spec"]["schedulingGates"] = [{"name": GATE}]
        return self._labelled(pod)

    def pod_name(self, number: int) -> str:
        """Name a pod."""
        return f"{self.name}-{number}"

    def numbers(self) -> Iterator[int]:
        """Count the pods."""
        return iter(range(self.pods))

    def _labelled(self, manifest: Manifest) -> Manifest:
        manifest["metadata"]["labels"] = {LABEL: self.name}
        return manifest
