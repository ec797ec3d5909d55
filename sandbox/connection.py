"""What a kubeconfig file says, for asynchronous HTTP: the server, TLS and headers.

`sandbox.api` is for tests that look at objects; this is for tools that must send thousands of requests, or pass on
those of others byte by byte.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from kubernetes import client, config

AUTO_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """How one user reaches one API server."""

    server: str
    """Such as "https://127.0.0.1:6443"."""
    tls: ssl.SSLContext
    """Trusts the server's authority, and presents the user's certificate if there is one."""
    headers: dict[str, str]
    """The user's token, if there is one."""

    @classmethod
    def read(cls, kubeconfig: Path, *, certified: bool = True) -> Connection:
        """Read the current context. With `certified=False` the user's certificate stays unused."""
        facts = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=facts)  # type: ignore[no-untyped-call]
        tls = ssl.create_default_context(cafile=facts.ssl_ca_cert)
        if certified and facts.cert_file:
            tls.load_cert_chain(facts.cert_file, facts.key_file)
        token = facts.api_key.get("authorization")
        return cls(facts.host.rstrip("/"), tls, {"Authorization": token} if token else {})

    def session(self, *, connections: int = 0, reuse: bool = True) -> aiohttp.ClientSession:
        """Open an aiohttp session without time limits. `connections`: how many at once; 0 is no limit."""
        connector = aiohttp.TCPConnector(ssl=self.tls, limit=connections, force_close=not reuse)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=AUTO_HEADERS,
        )
