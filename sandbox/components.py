"""The command lines of the control plane's components. Pure: values in, argument lists out.

Flags as in kubeadm's manifests of Kubernetes 1.36, but for addresses, and leader election, which would make a restarted
component wait for its predecessor's lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.pki import KeyPair
from sandbox.ports import LOOPBACK

SERVICE_RANGE = "10.96.0.0/16"
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1")
"""What pods call the API server; part of its certificate."""
ISSUER = "https://kubernetes.default.svc.cluster.local"
ADMISSION_PLUGINS = "NodeRestriction"
"""Beside those that are on by default; kubeadm's choice."""

Argv = list[str]


@dataclass(frozen=True, slots=True)
class Access:
    """How a component reaches the API server, and how others reach the component."""

    kubeconfig: Path
    serving: KeyPair
    port: int
    requests_per_s: int
    """Its client limit; with the default of 20 to 50 that limit would be what is measured."""

    @property
    def url(self) -> str:
        """Where its health and metrics are."""
        return f"https://{LOOPBACK}:{self.port}"

    def flags(self) -> Argv:
        """List the flags; the component asks the API server about those who come to its own port."""
        return [
            f"--kubeconfig={self.kubeconfig}",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self.serving.certificate}",
            f"--tls-private-key-file={self.serving.key}",
        ]


def gate_flags(gates: Mapping[str, bool]) -> Argv:
    """--feature-gates, or nothing."""
    return [f"--feature-gates={_pairs(gates)}"] if gates else []


def runtime_flags(served: Mapping[str, bool]) -> Argv:
    """--runtime-config, or nothing."""
    return [f"--runtime-config={_pairs(served)}"] if served else []


def _pairs(switches: Mapping[str, bool]) -> str:
    return ",".join(f"{name}={str(on).lower()}" for name, on in sorted(switches.items()))


@dataclass(frozen=True, slots=True)
class Store:
    """How etcd is reached: by TLS in both directions, with certificates of an authority for etcd alone.

    Whoever may write there is the cluster's administrator, so no certificate of a cluster user opens it.
    """

    authority: Path
    member: KeyPair
    client: KeyPair
    """The API server's."""
    client_port: int
    peer_port: int
    metrics_port: int

    @property
    def url(self) -> str:
        """Where its clients go."""
        return f"https://{LOOPBACK}:{self.client_port}"

    @property
    def metrics_url(self) -> str:
        """Where its health and metrics are, without a certificate and without any data, as kubeadm sets it up."""
        return f"http://{LOOPBACK}:{self.metrics_port}"


def etcd(program: Path, data: Path, store: Store, *, fsync: bool) -> Argv:
    """One etcd member. Without fsync a crash of the machine loses data; a killed etcd does not."""
    peers = f"https://{LOOPBACK}:{store.peer_port}"
    return [
        str(program),
        f"--data-dir={data}",
        f"--listen-client-urls={store.url}",
        f"--advertise-client-urls={store.url}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        f"--listen-metrics-urls={store.metrics_url}",
        "--client-cert-auth",
        f"--cert-file={store.member.certificate}",
        f"--key-file={store.member.key}",
        f"--trusted-ca-file={store.authority}",
        "--peer-client-cert-auth",
        f"--peer-cert-file={store.member.certificate}",
        f"--peer-key-file={store.member.key}",
        f"--peer-trusted-ca-file={store.authority}",
        "--log-level=warn",
        *([] if fsync else ["--unsafe-no-fsync"]),
    ]


def apiserver(program: Path, store: Store, port: int, authority: Path, serving: KeyPair, kubelet: KeyPair) -> Argv:
    """Serve the API; `kubelet` is how it presents itself to kubelets. Tokens are signed with its serving key."""
    return [
        str(program),
        f"--etcd-servers={store.url}",
        f"--etcd-cafile={store.authority}",
        f"--etcd-certfile={store.client.certificate}",
        f"--etcd-keyfile={store.client.key}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority}",
        f"--kubelet-client-certificate={kubelet.certificate}",
        f"--kubelet-client-key={kubelet.key}",
        f"--kubelet-certificate-authority={authority}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        f"--enable-admission-plugins={ADMISSION_PLUGINS}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={serving.key}",
        f"--service-account-signing-key-file={serving.key}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--endpoint-reconciler-type=none",  # a Service cannot point to a loopback address
        "--allow-privileged",
    ]


def controller_manager(program: Path, access: Access, authority: KeyPair, signing_key: Path, node_grace_s: int) -> Argv:
    """Run all default controllers, each with its own service account.

    `node_grace_s`: how long a node may be silent before it counts as lost.
    """
    return [
        str(program),
        *access.flags(),
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={signing_key}",
        f"--root-ca-file={authority.certificate}",
        f"--cluster-signing-cert-file={authority.certificate}",
        f"--cluster-signing-key-file={authority.key}",
        f"--node-monitor-grace-period={node_grace_s}s",
        f"--kube-api-qps={access.requests_per_s}",
        f"--kube-api-burst={2 * access.requests_per_s}",
    ]


def scheduler(program: Path, access: Access, configuration: Path) -> Argv:
    """Run a kube-scheduler with a KubeSchedulerConfiguration file."""
    return [str(program), *access.flags(), f"--config={configuration}"]


def scheduler_configuration(access: Access, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a KubeSchedulerConfiguration: the defaults, our connection, and `changes` to its top-level fields."""
    connection = {"qps": access.requests_per_s, "burst": 2 * access.requests_per_s}
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(access.kubeconfig), **connection},
        "leaderElection": {"leaderElect": False},
        **changes,
    }
