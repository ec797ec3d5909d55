"""What the containers of a pod ask for together, as Kubernetes counts it (component-helpers, resource.PodRequests)."""

from __future__ import annotations

from collections.abc import Mapping

from kube.objects import Container, Pod, Quantity, Resources
from kube.quantity import parse_quantity
from packing.dra.model import NANO, Amount
from packing.model import MAX_AMOUNT

DEVICE_CLASS_PREFIX = "deviceclass.resource.kubernetes.io/"
"""Before the name of a DeviceClass: the extended resource that every class implies."""
MIB = 1 << 20

Amounts = dict[str, Amount]


def is_sidecar(container: Container) -> bool:
    """Whether an init container keeps running beside the others."""
    return container.restart_policy == "Always"


def asked(resources: Resources) -> Amounts:
    """Return the requests of a container; a limit without a request is one, as the API server has it."""
    named: Mapping[str, Quantity] = {**resources.limits, **resources.requests}
    return {name: parse_quantity(value) for name, value in named.items()}


def pod_requests(pod: Pod) -> Amounts:
    """Return what the pod needs at the most at once.

    Containers and sidecars run together; an init container runs beside the sidecars that started before it. Resources
    of the pod as a whole replace the sum; overhead comes on top.
    """
    together, sidecars, starting = Amounts(), Amounts(), Amounts()
    for container in pod.spec.containers:
        _add(together, asked(container.resources))
    for container in pod.spec.init_containers:
        needs = asked(container.resources)
        if is_sidecar(container):
            _add(together, needs)
            _add(sidecars, needs)
            needs = dict(sidecars)
        else:
            _add(needs, sidecars)
        _raise(starting, needs)
    _raise(together, starting)
    for name, amount in asked(pod.spec.resources).items():
        if name in {"cpu", "memory"} or name.startswith("hugepages-"):
            together[name] = amount
    _add(together, {name: parse_quantity(value) for name, value in pod.spec.overhead.items()})
    return together


def cpu_milli(requests: Mapping[str, Amount]) -> int:
    """Return the CPU of requests in thousandths of a core, rounded up; MAX_AMOUNT, which no node has, at the most."""
    return min(-(-requests.get("cpu", 0) // (NANO // 1000)), MAX_AMOUNT)


def memory_mib(requests: Mapping[str, Amount]) -> int:
    """Return the memory of requests in MiB, rounded up; MAX_AMOUNT, which no node has, at the most."""
    return min(-(-requests.get("memory", 0) // (NANO * MIB)), MAX_AMOUNT)


def may_be_device(resource: str) -> bool:
    """Whether a resource may stand for devices of a DeviceClass: extended resources, and those that classes imply."""
    if resource.startswith(DEVICE_CLASS_PREFIX):
        return True
    return "/" in resource and "kubernetes.io/" not in resource and not resource.startswith("requests.")


def _add(to: Amounts, more: Mapping[str, Amount]) -> None:
    for name, amount in more.items():
        to[name] = Amount(to.get(name, 0) + amount)


def _raise(to: Amounts, least: Mapping[str, Amount]) -> None:
    for name, amount in least.items():
        to[name] = max(to.get(name, amount), amount)
