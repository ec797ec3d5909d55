"""The service account of the Pod that we run in, from the files and variables that the kubelet gives every container.

The `kubernetes` package reads the same, and 18 MB of memory with it, which a program on every node does not have.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from kube.errors import ClusterError

HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_TOKEN = 1 << 20


class InCluster:
    """What `kubernetes.client.Configuration` says of such a Pod, as far as it is used here."""

    proxy: str | None = None
    tls_server_name: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl = True

    def __init__(self, host: str, folder: Path) -> None:
        self.host = host
        self.ssl_ca_cert = str(folder / "ca.crt")
        self._token = folder / "token"
        self._last = self._read()

    @classmethod
    def found(cls) -> Self:
        """Return the Pod's. Raises ClusterError, with what lacks."""
        host, port = os.environ.get(HOST, ""), os.environ.get(PORT, "")
        if not host or not port:
            raise ClusterError(f"${HOST} and ${PORT} must say where the API server is; name a kubeconfig instead")
        try:
            if not (FOLDER / "ca.crt").stat().st_size:
                raise ClusterError(f"{FOLDER / 'ca.crt'} is empty; give the Pod a service account's token")
            return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}", FOLDER)
        except OSError as fault:
            raise ClusterError(f"{fault.filename}: {fault.strerror}; give the Pod a service account's token") from fault

    def get_api_key_with_prefix(self, _identifier: str, _alias: str | None = None) -> str:
        """Return the header, with the token that is there now; the kubelet replaces it before it expires."""
        try:
            self._last = self._read()
        except (OSError, ClusterError):
            return self._last  # while it lasts; the API server's 401 has everything read anew
        return self._last

    def _read(self) -> str:
        with self._token.open(encoding="utf-8") as file:
            token = file.read(MAX_TOKEN).strip()
        if not token:
            raise ClusterError(f"{self._token} is empty")
        return f"Bearer {token}"
