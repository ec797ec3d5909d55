"""Nobody but the user who started a sandbox gets into it: not at the API server, and not past it through etcd."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path

import pytest
import urllib3

from sandbox.api import Api
from sandbox.controlplane import ControlPlane
from sandbox.pki import Authority, KeyPair

WRITE = json.dumps({name: base64.b64encode(b"/registry/stranger").decode() for name in ("key", "value")})


def etcd_flags(control_plane: ControlPlane) -> dict[str, str]:
    """The flags with a value that etcd runs with."""
    pid = control_plane.programs.status()["etcd"].pid
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)


def written(url: str, authority: str, pair: KeyPair | None) -> int:
    """The status of a write to etcd over HTTP."""
    tls = ssl.create_default_context(cafile=authority)
    if pair is not None:
        tls.load_cert_chain(pair.certificate, pair.key)
    with urllib3.PoolManager(ssl_context=tls) as pool:
        return pool.request("POST", f"{url}/v3/kv/put", body=WRITE, retries=False, timeout=10.0).status


@pytest.mark.parametrize("endpoint", ["listen-client-urls", "listen-peer-urls"])
@pytest.mark.parametrize("who", ["nobody", "a stranger", "the cluster's administrator"])
def test_a_stranger_does_not_get_into_etcd(
    control_plane: ControlPlane, tmp_path: Path, endpoint: str, who: str
) -> None:
    """Whoever writes to etcd is administrator; a cluster user must not become one by a certificate of the cluster."""
    flags = etcd_flags(control_plane)
    pairs = {
        "nobody": None,
        "a stranger": Authority(tmp_path / "other").client("kube-apiserver"),
        "the cluster's administrator": control_plane.authority.client("system:admin", "system:masters"),
    }
    with pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)):
        written(flags[endpoint], flags["trusted-ca-file"], pairs[who])


def test_the_api_servers_certificate_gets_into_etcd(control_plane: ControlPlane) -> None:
    """So what refuses the others is the certificate."""
    flags = etcd_flags(control_plane)
    folder = control_plane.authority.folder / "etcd"
    pair = KeyPair(folder / "kube-apiserver.crt", folder / "kube-apiserver.key")
    assert written(flags["listen-client-urls"], flags["trusted-ca-file"], pair) == 200


def test_etcd_shows_no_data_without_a_certificate(control_plane: ControlPlane) -> None:
    """Its endpoint for health and metrics has no others."""
    url = etcd_flags(control_plane)["listen-metrics-urls"]
    with urllib3.PoolManager() as pool:
        asked = [
            pool.request(method, f"{url}{path}", body=WRITE, retries=False, timeout=10.0).status
            for method, path in (("GET", "/health"), ("POST", "/v3/kv/put"), ("POST", "/v3/kv/range"))
        ]
    assert asked == [200, 404, 404]


def test_a_proxy_of_the_environment_is_passed_by(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not reach a server that listens on this machine's loopback."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    api = Api(control_plane.kubeconfig)
    assert api.raw("/readyz") == "ok"
    api.close()
    control_plane.wait_healthy("kube-apiserver")
