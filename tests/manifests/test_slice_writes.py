"""Who may write which ResourceSlice: the cases of kubernetes/test/e2e/dra/dra.go, on a real API server.

Users: the driver on a node, the driver on another node, an administrator, whom no fence may hold up.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dovetail.sandbox_cmd_driver import manifests
from dra_driver.publish.names import pool_name
from sandbox import kustomize, objects
from sandbox.api import Api, ApiFault
from sandbox.controlplane import ControlPlane
from sandbox.deployed import account_kubeconfig
from sandbox.objects import Manifest
from sandbox.pytest_plugin import had_or_skipped
from sandbox.waiting import NotYet, wait_for

pytestmark = pytest.mark.cluster
DRIVER = "gpu.dovetail.dev"
OWN, OTHER = "writes-1", "writes-2"
ADMIN = "admin"
FORBIDDEN = "may not write slices of node"


@pytest.fixture(scope="module")
def users(control_plane: ControlPlane) -> Iterator[dict[str, Api]]:
    """Clients by who uses them: a node's name stands for its driver."""
    rendered = had_or_skipped(manifests)
    api = control_plane.api
    nodes = [api.create(objects.node(name)) for name in (OWN, OTHER)]
    objects_ = kustomize.without_workloads(rendered)
    try:
        kustomize.apply(control_plane.kubeconfig, objects_)
        found = {ADMIN: api}
        for node in nodes:
            name = node["metadata"]["name"]
            path = control_plane.directory / f"writer-{name}.kubeconfig"
            found[name] = Api(account_kubeconfig(control_plane, rendered, path, node=node))
        wait_for("the policy to be in force", lambda: not _made(found[OTHER], OWN) or NotYet("accepted"))
        yield found
    finally:
        kustomize.delete(control_plane.kubeconfig, objects_)
        for node in nodes:
            api.delete(node)


def of_node(name: str | None) -> Manifest:
    """Return a slice of a node, or of the whole cluster."""
    made = objects.resource_slice(name or "cluster", DRIVER, [objects.device("gpu-0")])
    made["spec"]["pool"]["name"] = pool_name(DRIVER, name) if name else "cluster"
    if name is None:
        del made["spec"]["nodeName"]
        made["spec"]["allNodes"] = True
    return made


def changed(stored: Manifest) -> Manifest:
    devices = [objects.device("gpu-0"), objects.device("gpu-1")]
    pool = {**stored["spec"]["pool"], "generation": stored["spec"]["pool"]["generation"] + 1}
    return {**stored, "spec": {**stored["spec"], "devices": devices, "pool": pool}}


def _made(api: Api, node: str | None) -> bool:
    """Whether a user may create a slice; it goes at once."""
    try:
        stored = api.create(of_node(node))
    except ApiFault as fault:
        if FORBIDDEN not in str(fault):  # of anything else the test shall tell
            raise
        return False
    api.delete(stored)
    return True


WRITES = [
    (OWN, OWN, True),
    (OWN, OTHER, False),
    (OWN, None, False),
    (OTHER, OWN, False),
    (OTHER, OTHER, True),
    (OTHER, None, False),
    (ADMIN, OWN, True),
    (ADMIN, None, True),
]
"""Who, whose slice (None: the cluster's), whether the API server takes it."""


@pytest.mark.parametrize(("who", "whose", "allowed"), WRITES)
@pytest.mark.parametrize("verb", ["create", "update", "delete"])
def test_slices_are_written_by_their_node_and_by_administrators(
    users: dict[str, Api], verb: str, who: str, whose: str | None, allowed: bool
) -> None:
    user, admin = users[who], users[ADMIN]
    if verb == "create":
        assert _made(user, whose) is allowed
        return
    stored = admin.create(of_node(whose))
    try:
        before = admin.get(stored)
        if allowed:
            _write(user, verb, stored)
        else:
            with pytest.raises(ApiFault, match=FORBIDDEN):
                _write(user, verb, stored)
        after = admin.find(stored)
        assert (after == before) is not allowed
        assert (after is None) is (allowed and verb == "delete")
    finally:
        admin.delete(stored)


def _write(user: Api, verb: str, stored: Manifest) -> None:
    if verb == "update":
        user.replace(changed(stored))
    else:
        user.delete(stored)


def test_nobody_moves_a_slice_to_another_node(users: dict[str, Api]) -> None:
    """The API server keeps nodeName as it is; the fence would see the new one."""
    stored = users[OWN].create(of_node(OWN))
    try:
        with pytest.raises(ApiFault):
            users[OWN].replace({**stored, "spec": {**stored["spec"], "nodeName": OTHER}})
    finally:
        users[OWN].delete(stored)
