"""Simulated GPU nodes of a sandbox: from `4xhgx-h100-8` to Nodes, ResourceSlices and DeviceClasses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from dovetail.shipped import shipped
from dra_driver.publish import resource_slices
from dra_driver.simulated import simulated_gpus
from sandbox import objects
from topology.catalog import machine, machine_names
from topology.errors import InvalidInputError
from topology.modes import MigMode, Sharing

Manifest = dict[str, Any]

MAX_NODES = 1000
"""Ten slices each or more; the API server holds every one several times (docs/sandbox.md has the figures)."""
MAX_SHOWN = 80
MACHINE_LABEL = "node.kubernetes.io/instance-type"
DIVIDED_SINCE = (1, 36)
"""Minor version of Kubernetes whose defaults let devices share counters and be allocated several times."""

_ITEM = re.compile(r"(?:([0-9]{1,18})x)?(\S+)")


def parse_nodes(text: str) -> dict[str, int]:
    """Return how many nodes of which machine `text` asks for, as in `4xhgx-h100-8,l4-8-pcie`; empty: none.

    Raises InvalidInputError for a machine that the catalog does not have, and for too many nodes.
    """
    wanted: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise InvalidInputError("--nodes", item[:MAX_SHOWN], "write COUNTxMACHINE, as in 4xhgx-h100-8")
        count, name = int(match[1] or 1), match[2]
        known_machine("--nodes", name, item)
        wanted[name] = wanted.get(name, 0) + count
    if sum(wanted.values()) > MAX_NODES:
        raise InvalidInputError("--nodes", "", f"{sum(wanted.values())} nodes; at most {MAX_NODES} are simulated")
    return {name: count for name, count in wanted.items() if count}


def known_machine(option: str, name: str, item: str = "") -> None:
    """Raise InvalidInputError for a machine that the catalog does not have; `item` is what was written."""
    if name not in machine_names():
        raise InvalidInputError(option, (item or name)[:MAX_SHOWN], _unknown(name))


def nodes_text(nodes: Mapping[str, int]) -> str:
    """Write nodes as `parse_nodes` reads them."""
    return ",".join(f"{count}x{name}" for name, count in nodes.items())


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), machine_names(), n=3) or [
        known for known in machine_names() if name.lower() in known
    ]
    hint = f"did you mean {', '.join(near[:3])}? " if near else ""
    return f"no such machine; {hint}`dovetail topology list` lists them"


def names_by_machine(nodes: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the names of the nodes of each machine: `<machine>-<number>`."""
    return {name: [f"{name}-{number}" for number in range(count)] for name, count in nodes.items()}


def node_manifests(nodes: Mapping[str, int]) -> Iterator[Manifest]:
    """Return a Node for each."""
    for machine_name, names in names_by_machine(nodes).items():
        for name in names:
            yield objects.node(name, labels={MACHINE_LABEL: machine_name})


def slice_manifests(nodes: Mapping[str, int], uids: Mapping[str, str], version: tuple[int, int]) -> Iterator[Manifest]:
    """Return the ResourceSlices of all nodes; `uids` (by node name) makes them go with their nodes.

    An API server older than DIVIDED_SINCE is told of whole GPUs only.
    """
    divided = version >= DIVIDED_SINCE
    mode, sharing = (MigMode.DYNAMIC, tuple(Sharing)) if divided else (MigMode.DISABLED, ())
    for machine_name, names in names_by_machine(nodes).items():
        for name in names:
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uids[name], "controller": True}
            for manifest in resource_slices(
                simulated_gpus(machine(machine_name), name, mig_mode=mode, sharing=sharing)
            ):
                manifest["metadata"]["ownerReferences"] = [owner]
                yield manifest


def class_manifests() -> list[Manifest]:
    """Return the DeviceClasses: whole GPUs, MIG partitions, and each way of sharing."""
    return list(yaml.safe_load_all(shipped("manifests", "scheduler", "classes", "deviceclasses.yaml").read_text()))
