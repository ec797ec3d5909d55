"""How one user reaches one API server: address, TLS, token, for `ApiClient`; kubeconfigs by the `kubernetes` package.

Given a kubeconfig that one is read; else as kubectl does: $KUBECONFIG, ~/.kube/config, else the service account of the
pod that we run in. Tokens change while we run: a service account's is read again every minute, an exec plugin is
asked again when its token expires, and after a 401 everything is read once more.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from kube import incluster
from kube.errors import ClusterError

if TYPE_CHECKING:
    from kubernetes.client import Configuration

    Facts: TypeAlias = Configuration | incluster.InCluster

FRESH_S = 30.0
"""How long a token is used before the `kubernetes` package is asked whether there is a new one."""
DEFAULT_KUBECONFIG = Path("~/.kube/config")


class Access:
    """One user's way to one API server."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """Read it. Raises ClusterError, with what was looked for."""
        self._kubeconfig, self._context = kubeconfig, context
        self._facts = _read(kubeconfig, context)
        self.server: str = self._facts.host.rstrip("/")
        self.server_name: str | None = self._facts.tls_server_name
        self.proxy = self._facts.proxy or _proxy_of_environment(self.server)
        try:
            self.tls = _tls(self._facts)
        except OSError as fault:  # ssl.SSLError is one
            raise ClusterError(f"the certificates for {self.server} cannot be used: {fault}") from fault
        self._header: str | None = None
        self._read_s = -FRESH_S

    async def authorization(self) -> str | None:
        """Return the header of the same name. An exec plugin runs beside the event loop."""
        if time.monotonic() - self._read_s >= FRESH_S:
            # As the pydantic-based client does: the hook may read a file, or start a process.
            self._header = await asyncio.to_thread(self._facts.get_api_key_with_prefix, "BearerToken", "authorization")
            self._read_s = time.monotonic()
        return self._header

    async def renew(self, refused: str | None) -> None:
        """Read token and certificate again, since the API server did not know who `refused` is. Raises ClusterError."""
        if refused != self._header:
            return  # another call was refused before, and did it
        self._facts = await asyncio.to_thread(_read, self._kubeconfig, self._context)
        if self._facts.cert_file:
            self.tls.load_cert_chain(self._facts.cert_file, self._facts.key_file)
        self._read_s = -FRESH_S


def _read(kubeconfig: Path | None, context: str | None) -> Facts:
    paths = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG") or str(DEFAULT_KUBECONFIG.expanduser())
    if any(Path(path).expanduser().exists() for path in paths.split(os.pathsep) if path):
        return _read_kubeconfig(paths, context)
    if kubeconfig is None and incluster.HOST in os.environ:
        return incluster.InCluster.found()
    raise ClusterError(f"no kubeconfig at {paths}; name one with --kubeconfig or $KUBECONFIG")


def _read_kubeconfig(paths: str, context: str | None) -> Configuration:
    # Where there is none, as in every Pod, its 18 MB stay on the disk.
    import yaml
    from kubernetes import config
    from kubernetes.client import Configuration

    facts = Configuration()
    facts.proxy = None  # else the environment's, for hosts of this machine too
    try:
        config.load_kube_config(paths, context, facts, persist_config=False)  # type: ignore[no-untyped-call]
    except (config.ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, ValueError) as fault:
        raise ClusterError(f"{paths} is no usable kubeconfig: {fault}") from fault
    return facts


def _tls(facts: Facts) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=facts.ssl_ca_cert)
    if facts.cert_file:
        tls.load_cert_chain(facts.cert_file, facts.key_file)
    if not facts.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _proxy_of_environment(server: str) -> str | None:
    """Return $HTTPS_PROXY, unless $NO_PROXY has the server or it is on this machine."""
    split = urlsplit(server)
    host = split.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if local or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(split.scheme)
