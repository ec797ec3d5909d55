"""The smallest DRA kubelet plugin that hands a device file to a container; only the sandbox's own tests use it.

Its device files are those of loop-control and fuse, which no container may open by default and which do no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from dra_driver.pb import dra_v1_pb2 as dra
from dra_driver.pb import dra_v1_pb2_grpc as dra_services
from dra_driver.pb import pluginregistration_v1_pb2 as registration
from dra_driver.pb import pluginregistration_v1_pb2_grpc as registration_services
from sandbox import objects
from sandbox.api import Api
from sandbox.node import Node

DEVICES = {"gpu-0": (10, 237), "gpu-1": (10, 229)}
"""Device -> major and minor number."""
CDI_KIND = "sandbox.test/claim"
REGISTERED_S = 20.0


class DraPlugin(dra_services.DRAPluginServicer, registration_services.RegistrationServicer):
    """Answers the kubelet; claims are read from the API server."""

    def __init__(self, node: Node, driver: str, api: Api) -> None:
        self.node = node
        self.driver = driver
        self.api = api
        self.registered = threading.Event()
        self.socket = node.paths.kubelet_root / "plugins" / driver / "dra.sock"
        self.registry = node.paths.kubelet_root / "plugins_registry" / f"{driver}-reg.sock"

    def GetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return registration.PluginInfo(
            type="DRAPlugin", name=self.driver, endpoint=str(self.socket), supported_versions=["v1.DRAPlugin"]
        )

    def NotifyRegistrationStatus(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        assert request.plugin_registered, request.error
        self.registered.set()
        return registration.RegistrationStatusResponse()

    def NodePrepareResources(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        response = dra.NodePrepareResourcesResponse()
        for claim in request.claims:
            for result in self._results(claim):
                device = response.claims[claim.uid].devices.add()
                device.request_names.append(result["request"])
                device.pool_name, device.device_name = result["pool"], result["device"]
                device.cdi_device_ids.append(f"{CDI_KIND}={claim.uid}-{result['device']}")
        return response

    def NodeUnprepareResources(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        response = dra.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            self._specification(claim.uid).unlink(missing_ok=True)
            response.claims[claim.uid].SetInParent()
        return response

    def _results(self, claim: Any) -> list[dict[str, str]]:
        stored = self.api.get(
            {
                "apiVersion": objects.RESOURCE_API,
                "kind": "ResourceClaim",
                "metadata": {"namespace": claim.namespace, "name": claim.name},
            }
        )
        results = [
            each for each in stored["status"]["allocation"]["devices"]["results"] if each["driver"] == self.driver
        ]
        devices = [
            {
                "name": f"{claim.uid}-{each['device']}",
                "containerEdits": {
                    "env": [f"GPU={each['device']}"],
                    "deviceNodes": [{"path": f"/dev/{each['device']}", "hostPath": str(self._device(each["device"]))}],
                },
            }
            for each in results
        ]
        content = {"cdiVersion": "0.6.0", "kind": CDI_KIND, "devices": devices}
        self._specification(claim.uid).write_text(json.dumps(content))
        return results

    def _device(self, name: str) -> Path:
        path = self.node.paths.directory / name
        if not path.exists():
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(*DEVICES[name]))
        return path

    def _specification(self, uid: str) -> Path:
        return self.node.paths.cdi / f"claim-{uid}.json"


@contextlib.contextmanager
def running(node: Node, driver: str, api: Api) -> Iterator[DraPlugin]:
    """Serve a plugin until the block ends."""
    with serving(DraPlugin(node, driver, api)) as plugin:
        yield plugin


@contextlib.contextmanager
def serving(plugin: DraPlugin) -> Iterator[DraPlugin]:
    """Serve on the node's sockets until the block ends; inside it the kubelet knows the plugin."""
    plugin.socket.parent.mkdir(parents=True, exist_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    dra_services.add_DRAPluginServicer_to_server(plugin, server)
    registration_services.add_RegistrationServicer_to_server(plugin, server)
    for socket in (plugin.socket, plugin.registry):
        server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        assert plugin.registered.wait(REGISTERED_S), "the kubelet does not register the plugin"
        yield plugin
    finally:
        server.stop(grace=None).wait()
