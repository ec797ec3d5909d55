"""Who is who in a sandbox: one certificate authority, client certificates as users, kubeconfig files.

A certificate's common name is the user and its organization the group, as in any cluster (Kubernetes docs,
"X509 client certificates").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
import yaml

from sandbox.ports import LOOPBACK

ADMIN = ("kubernetes-admin", "system:masters")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Files of a certificate and its private key."""

    certificate: Path
    key: Path


class Authority:
    """The certificate authority of one cluster, kept in a private folder so that others can join."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.crt"
        self.key = folder / "ca.key"
        if self.certificate.exists():
            self._authority = trustme.CA.from_pem(self.certificate.read_bytes(), self.key.read_bytes())
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        self._authority = trustme.CA(organization_name="dovetail-sandbox")
        write_private(self.key, self._authority.private_key_pem.bytes())
        self._authority.cert_pem.write_to_path(str(self.certificate))

    def server(self, name: str, *hosts: str) -> KeyPair:
        """Issue a certificate for a server that answers under these names and addresses."""
        return self._store(name, self._authority.issue_cert(LOOPBACK, "localhost", *hosts, common_name=name))

    def client(self, user: str, group: str | None = None) -> KeyPair:
        """Issue a certificate that makes its bearer `user`, a member of `group`."""
        name = user.replace(":", "-").replace("/", "-")
        # Go refuses the empty list of host names that trustme would write, so there is one.
        issued = self._authority.issue_cert("client.invalid", common_name=user, organization_name=group)
        return self._store(name, issued)

    def kubeconfig(self, server: str, user: str, group: str | None = None) -> Path:
        """Write a kubeconfig file for `user` at the API server `server` ("https://127.0.0.1:6443")."""
        pair = self.client(user, group)
        path = pair.certificate.with_suffix(".kubeconfig")
        access = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        write_private(path, kubeconfig_text(server, self.certificate, access).encode())
        return path

    def _store(self, name: str, issued: trustme.LeafCert) -> KeyPair:
        pair = KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        write_private(pair.key, issued.private_key_pem.bytes())
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return pair


def kubeconfig_text(server: str, authority: Path, access: dict[str, str]) -> str:
    """Return a kubeconfig with one context; `access` is the user entry: certificate files, or a token."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": "user", "user": access}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "user"}}],
        "current-context": "sandbox",
    }
    return yaml.safe_dump(document, sort_keys=False)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user can read, in one step."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.rename(path)
