"""What a node's programs are told: configuration of containerd, the kubelet and the network plugin. Pure.

Every value that differs from the default says why. Seen to work with containerd 2.4 (configuration version 4), the
kubelet 1.36, cgroup v1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.isolation import USUAL
from sandbox.objects import IMAGE
from sandbox.pki import KeyPair
from sandbox.ports import LOOPBACK

PAUSE_IMAGE = "localhost/pause:1"
IMAGES = {PAUSE_IMAGE: ("sleep", "2147483647"), IMAGE: ("sh",)}
"""Reference -> command of the images that a node has."""
POD_NETWORK = "10.200"
NO_EVICTION = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")


@dataclass(frozen=True, slots=True)
class NodePaths:
    """Where a node keeps what; all below one private directory."""

    directory: Path

    @property
    def socket(self) -> Path:
        """Return the socket of containerd."""
        return self.directory / "containerd.sock"

    @property
    def kubelet_root(self) -> Path:
        """Return the kubelet's root directory as other programs see it: plugins_registry, plugins, pods."""
        return self.directory / "kubelet"

    @property
    def cdi(self) -> Path:
        """Return the folder where containerd looks for CDI specifications."""
        return self.directory / "cdi"

    @property
    def cni(self) -> Path:
        """Return the folder of the network plugin."""
        return self.directory / "cni"


def containerd(paths: NodePaths, shim: Path, runc: Path) -> str:
    """Return containerd's configuration."""
    home = paths.directory / "containerd"
    return f"""version = 4
root = '{home}/root'
state = '{home}/state'
disabled_plugins = [
  'io.containerd.nri.v1.nri', 'io.containerd.tracing.processor.v1.otlp', 'io.containerd.snapshotter.v1.blockfile',
  'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.native', 'io.containerd.snapshotter.v1.zfs',
]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
  cdi_spec_dirs = ['{USUAL["cdi"]}']
  netns_mounts_under_state_dir = true
  # Without CAP_SYS_RESOURCE nobody may lower the score, and every container would fail to start.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  runtime_path = '{shim}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '{runc}'
  Root = '{home}/runc'
  SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{paths.cni}']
  conf_dir = '{paths.cni}'
  use_internal_loopback = true
[plugins.'io.containerd.internal.v1.opt']
  path = '{home}/opt'
[plugins.'io.containerd.server.v1.grpc']
  address = '{paths.socket}'
[plugins.'io.containerd.server.v1.ttrpc']
  address = '{paths.socket}.ttrpc'
"""


def kubelet(
    paths: NodePaths, port: int, health_port: int, serving: KeyPair, authority: Path, cgroup: str
) -> dict[str, Any]:
    """Return a KubeletConfiguration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": LOOPBACK,
        "port": port,
        "healthzBindAddress": LOOPBACK,
        "healthzPort": health_port,
        "readOnlyPort": 0,
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority)}},
        "containerRuntimeEndpoint": f"unix://{paths.socket}",
        "failCgroupV1": False,  # many a test machine still has it
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failSwapOn": False,  # the machine is not ours to change
        "makeIPTablesUtilChains": False,  # nor are its firewall rules
        "podLogsDir": f"{USUAL['kubelet']}/logs",
        "volumePluginDir": f"{USUAL['kubelet']}/volumeplugins",
        "resolvConf": "",
        "evictionHard": dict.fromkeys(NO_EVICTION, "0%"),  # a full disk of a developer must not evict test pods
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,  # needs a file system that it can measure
        "nodeStatusUpdateFrequency": "2s",  # Ready is seen sooner
        "nodeLeaseDurationSeconds": 10,
        "shutdownGracePeriod": "0s",
        "registerNode": True,
    }


def network_plugin() -> str:
    """Return a CNI plugin that gives pods a loopback interface and an invented address: no test needs more."""
    return f"""#!/bin/sh
cat > /dev/null
case "$CNI_COMMAND" in
  ADD)
    number=$(echo "$CNI_CONTAINERID" | cksum | cut -d ' ' -f 1)
    address="{POD_NETWORK}.$((number / 250 % 250)).$((number % 250 + 2))/16"
    echo '{{"cniVersion":"1.0.0","interfaces":[{{"name":"'"$CNI_IFNAME"'","sandbox":"'"$CNI_NETNS"'"}}],' \\
      '"ips":[{{"address":"'"$address"'","interface":0}}]}}' ;;
  VERSION) echo '{{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}}' ;;
esac
"""


def network() -> dict[str, Any]:
    """Return the network configuration that names the plugin."""
    return {"cniVersion": "1.0.0", "name": "sandbox", "plugins": [{"type": "invented"}]}
