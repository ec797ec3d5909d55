"""A pod's containers run here as their manifests say, with paths, ports and addresses of this machine."""

from __future__ import annotations

from pathlib import Path

from sandbox.objects import Manifest
from sandbox.podspec import Place, declared_ports, files, processes

MAP: Manifest = {
    "kind": "ConfigMap",
    "metadata": {"name": "settings-4c42b7"},
    "data": {"drivers": "a b", "scheduler.yaml": "urlPrefix: http://127.0.0.1:8080/v1\nqps: 80801\n"},
}
TEMPLATE: Manifest = {
    "spec": {
        "containers": [
            {
                "name": "server",
                "command": ["serve", "run"],
                "args": ["--config=/etc/it/scheduler.yaml", "--listen=$(IP):8080", "--name=$(NAME)", "--keep=$(NONE)"],
                "env": [
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {
                        "name": "DRIVERS",
                        "valueFrom": {"configMapKeyRef": {"name": "settings-4c42b7", "key": "drivers"}},
                    },
                    {"name": "CACHE", "value": "/var/cache/it/deep"},
                ],
                "ports": [{"name": "web", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"scheme": "HTTPS", "port": "web", "path": "/readyz"}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 7}}},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/it"},
                    {"name": "cache", "mountPath": "/var/cache/it"},
                ],
            }
        ],
        "volumes": [
            {
                "name": "config",
                "configMap": {
                    "name": "settings-4c42b7",
                    "items": [{"key": "scheduler.yaml", "path": "scheduler.yaml"}],
                },
            },
            {"name": "cache", "emptyDir": {}},
        ],
    }
}
PLACE = Place(Path("/run/pod"), "pod-1", {8080: 31000})


def test_paths_ports_and_addresses_are_exchanged_and_nothing_else() -> None:
    (process,) = processes(TEMPLATE, [MAP], PLACE)
    assert (process.container, process.program) == ("server", "serve")
    assert process.argv == (
        "run",
        "--config=/run/pod/config/scheduler.yaml",
        "--listen=127.0.0.1:31000",
        "--name=pod-1",
        "--keep=$(NONE)",
    )
    assert process.environment == {
        "IP": "127.0.0.1",
        "NAME": "pod-1",
        "DRIVERS": "a b",
        "CACHE": "/run/pod/cache/deep",
    }
    assert process.probe == "https://127.0.0.1:31000/readyz"
    assert process.sleeps_s == 7
    assert declared_ports(TEMPLATE) == [8080]


def test_files_of_config_maps_are_written_with_the_ports_of_here() -> None:
    assert files(TEMPLATE, [MAP], PLACE) == {
        Path("/run/pod/config/scheduler.yaml"): "urlPrefix: http://127.0.0.1:31000/v1\nqps: 80801\n",
        Path("/run/pod/cache"): None,
    }


def test_a_kept_volume_outlives_the_pod() -> None:
    place = Place(PLACE.folder, PLACE.name, PLACE.ports, {"cache": Path("/home/me/.cache")})
    (process,) = processes(TEMPLATE, [MAP], place)
    assert process.environment["CACHE"] == "/home/me/.cache/deep"
    assert Path("/home/me/.cache") in files(TEMPLATE, [MAP], place)
