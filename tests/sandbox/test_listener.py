"""A proxy that ends leaves no connection behind, whatever state its clients are in."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
import yaml

from sandbox.chaos.proxy import ApiProxy


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Of an API server that nobody asks."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "authority"))
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority": str(tmp_path / "authority")}
    path = tmp_path / "kubeconfig"
    entries = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "x", **entries}))
    return path


def silent(address: tuple[str, int], tls: ssl.SSLContext) -> socket.socket:
    return socket.create_connection(address)


def idle(address: tuple[str, int], tls: ssl.SSLContext) -> socket.socket:
    """Through its handshake: so all that connected before have been accepted."""
    return tls.wrap_socket(socket.create_connection(address), server_hostname=address[0])


def halfway(address: tuple[str, int], tls: ssl.SSLContext) -> socket.socket:
    connected = idle(address, tls)
    connected.sendall(b"GET / HT")
    return connected


def waiting(address: tuple[str, int], tls: ssl.SSLContext) -> socket.socket:
    """It was answered, told that the connection ends, and does not react."""
    connected = idle(address, tls)
    connected.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: u\r\nConnection: close\r\n\r\n")
    assert connected.recv(1)
    return connected


Client = Callable[[tuple[str, int], ssl.SSLContext], socket.socket]


@pytest.mark.parametrize("client", [silent, idle, halfway, waiting])
def test_no_transport_outlives_the_proxy(kubeconfig: Path, client: Client) -> None:
    """A transport in a closed event loop was collected in some later test, which failed by its ResourceWarning."""
    gc.collect()
    with contextlib.ExitStack() as clients, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        with ApiProxy(kubeconfig) as proxy:
            (cluster,) = yaml.safe_load(proxy.kubeconfig.read_text())["clusters"]
            server = urlsplit(cluster["cluster"]["server"])
            assert server.hostname is not None
            assert server.port is not None
            tls = ssl.create_default_context(cafile=cluster["cluster"]["certificate-authority"])
            for connect in (client, idle):
                clients.enter_context(connect((server.hostname, server.port), tls))
            began = time.monotonic()
        assert time.monotonic() - began < 20, "it waited for its clients"
        gc.collect()
    assert [str(warning.message) for warning in seen] == []
