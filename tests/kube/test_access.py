"""Who we are to the API server: from a kubeconfig or a pod's service account, and again when tokens are replaced."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from kube import incluster
from kube.access import Access
from kube.client import ApiClient
from kube.errors import ClusterError, ForbiddenError
from kube.kinds import PODS
from sandbox.controlplane import ControlPlane
from sandbox.testbed import Testbed


@pytest.fixture
def token(testbed: Testbed) -> str:
    """One of the namespace's default service account, which may do nothing."""
    metadata = {"namespace": testbed.namespace, "name": "default"}
    return testbed.api.token({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}, seconds=600)


async def is_refused(client: ApiClient) -> ForbiddenError:
    with pytest.raises(ForbiddenError) as refused:
        await client.list_all(PODS)
    return refused.value


def is_read_again(access: Access, written: Path, token: str, testbed: Testbed, *, refused: int) -> None:
    """After a 401 and `refused` more the new token is known: nobody is asked to wait for a minute."""

    async def work() -> None:
        async with ApiClient(access) as client:
            assert (await is_refused(client)).status == 401
            written.write_text(token)
            for _ in range(refused):
                assert (await is_refused(client)).status == 401
            known = await is_refused(client)
            assert known.status == 403
            assert f"system:serviceaccount:{testbed.namespace}:default" in str(known)

    asyncio.run(work())


def test_a_token_file_of_a_kubeconfig(
    testbed: Testbed, control_plane: ControlPlane, token: str, tmp_path: Path
) -> None:
    written = tmp_path / "token"
    written.write_text("expired")
    document = yaml.safe_load(control_plane.kubeconfig.read_text())
    document["users"][0]["user"] = {"tokenFile": str(written)}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    is_read_again(Access(tmp_path / "kubeconfig"), written, token, testbed, refused=1)


def test_the_service_account_of_a_pod(
    testbed: Testbed, control_plane: ControlPlane, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, authority = tmp_path / "token", tmp_path / "ca.crt"
    written.write_text("expired")
    (cluster,) = yaml.safe_load(control_plane.kubeconfig.read_text())["clusters"]
    authority.write_text(Path(cluster["cluster"]["certificate-authority"]).read_text())
    server = urlsplit(cluster["cluster"]["server"])
    monkeypatch.setattr(incluster, "FOLDER", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(server.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    is_read_again(Access(), written, token, testbed, refused=0)


def test_a_pod_without_a_token_is_told_what_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incluster, "FOLDER", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    with pytest.raises(ClusterError, match="KUBERNETES_SERVICE_PORT must say"):
        Access()
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    for file, content, fault in (
        ("ca.crt", "", "ca.crt: No such file"),
        ("ca.crt", "x", "ca.crt is empty"),
        ("token", "", "token: No such file"),
        ("token", "one", "token is empty"),
    ):
        with pytest.raises(ClusterError, match=fault):
            Access()
        (tmp_path / file).write_text(content)
    found = incluster.InCluster.found()
    assert found.host == "https://[fd00::1]:443"
    (tmp_path / "token").write_text("two\n")
    assert found.get_api_key_with_prefix("BearerToken") == "Bearer two"
    (tmp_path / "token").unlink()
    assert found.get_api_key_with_prefix("BearerToken") == "Bearer two", "until there is another"


def test_the_kubernetes_package_is_loaded_for_kubeconfigs_alone() -> None:
    """It is 18 MB of each driver's memory."""
    code = "import sys, kube.access; sys.exit('kubernetes' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("text", ["", "{}", "a: [", "current-context: a\ncontexts: []\nclusters: []\nusers: []\n", "7"])
def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(ClusterError, match="kubeconfig is no usable kubeconfig"):
        Access(tmp_path / "kubeconfig")


def test_without_any_access_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for kubeconfig in (None, tmp_path / "nothing"):
        with pytest.raises(ClusterError, match=r"no kubeconfig at .*; name one with --kubeconfig or \$KUBECONFIG"):
            Access(kubeconfig)


@pytest.mark.parametrize(
    ("server", "no_proxy", "proxied"),
    [
        ("https://api.example.com:6443", "", True),
        ("https://api.example.com:6443", "example.com", False),
        ("https://10.0.0.1", "", True),
        ("https://127.0.0.1:6443", "", False),
        ("https://[::1]:6443", "", False),
        ("https://localhost", "", False),
    ],
)
def test_the_environments_proxy_is_not_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, no_proxy: str, proxied: bool
) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    document = {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "clusters": [{"name": "one", "cluster": {"server": server}}],
        "users": [{"name": "one", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    assert Access(tmp_path / "kubeconfig").proxy == ("http://proxy.example.com:3128" if proxied else None)
    document["clusters"][0]["cluster"]["proxy-url"] = "http://own.example.com"  # type: ignore[index]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    assert Access(tmp_path / "kubeconfig").proxy == "http://own.example.com"
