"""What a person hears who asks the scheduler about a pod: that of `kube.explaining`, and what is promised to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from kube.cluster import Cluster
from kube.explaining import explain
from kube.fitting import Fitter, allocation_of
from kube.objects import Pod


def explain_pod(cluster: Cluster, pod: Pod, promised: Collection[str], node: str | None) -> dict[str, Any]:
    """Return all there is to say of a pod as JSON values; with `node`, of that one device by device.

    Nothing of the cluster is changed, and no decision logged. Cores and memory are kube-scheduler's to tell of.
    Raises InvalidInputError for a node that is not there.
    """
    return explain(cluster, Fitter(cluster, allocation_of), pod, node=node) | {"promised": sorted(promised)}


def pod_named(pods: Iterable[Pod], namespace: str, name: str) -> Pod | None:
    """Return a pod by its name."""
    return next((each for each in pods if each.metadata.name == name and each.metadata.namespace == namespace), None)
