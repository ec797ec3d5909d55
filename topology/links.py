"""The links of a machine as a graph, for questions about who is joined to whom.

Nodes are GPU indices. An edge with key "nvlink" carries `links` and `mbps`, one with key "pcie" its `level` and `mbps`.
A GPU in MIG mode has no peer access at all and leaves the graph, as does an unhealthy one.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topology.errors import InvalidInputError
from topology.facts import LinkKind, Machine
from topology.rates import nvlink_counts, nvlink_mbps, pcie_mbps

NVLINK = "nvlink"
PCIE = "pcie"


def link_graph(machine: Machine, without: AbstractSet[int] = frozenset()) -> nx.MultiGraph[int]:
    """NVLink and PCIe between the GPUs of `machine` that are not in `without` (in MIG mode, or unhealthy).

    With NVSwitch the edge of a pair is marked `shared`: its links serve all peers, so never add them over pairs.
    """
    unknown = sorted(set(without) - set(range(machine.gpu_count)))
    if unknown:
        raise InvalidInputError(machine.id, "without", f"names GPU {unknown[0]}; it has {machine.gpu_count}")
    graph: nx.MultiGraph[int] = nx.MultiGraph()
    gpus = [device for device in machine.devices if device.index not in without]
    for device in gpus:
        graph.add_node(device.index, product=machine.product(device.index), numa_node=device.numa_node)
    counts, fast, slow = nvlink_counts(machine), nvlink_mbps(machine), pcie_mbps(machine)
    shared = machine.nvlink.kind is LinkKind.NVSWITCH
    for at, one in enumerate(gpus):
        for other in gpus[at + 1 :]:
            i, j = one.index, other.index
            graph.add_edge(i, j, key=PCIE, level=machine.pcie.levels[i][j], mbps=int(slow[i, j]))
            if counts[i, j]:
                graph.add_edge(i, j, key=NVLINK, links=int(counts[i, j]), mbps=int(fast[i, j]), shared=shared)
    return graph


def nvlink_islands(graph: nx.MultiGraph[int]) -> tuple[tuple[int, ...], ...]:
    """GPUs joined, directly or over others, by NVLink: sorted groups, lone GPUs included, by lowest index."""
    wired: nx.Graph[int] = nx.Graph()
    wired.add_nodes_from(graph.nodes)
    wired.add_edges_from((i, j) for i, j, key in graph.edges(keys=True) if key == NVLINK)
    return tuple(sorted(tuple(sorted(group)) for group in nx.connected_components(wired)))


def link_matrix(graph: nx.MultiGraph[int], gpu_count: int) -> NDArray[np.int64]:
    """[gpu_count, gpu_count] best rate of each pair in MB/s (NVLink, else PCIe); 0 for GPUs that left the graph."""
    matrix = np.zeros((gpu_count, gpu_count), dtype=np.int64)
    for i, j, edge in graph.edges(data=True):
        matrix[i, j] = matrix[j, i] = max(int(matrix[i, j]), edge["mbps"])
    return matrix


def numa_groups(machine: Machine) -> dict[int, tuple[int, ...]]:
    """GPU indices by NUMA node (-1: unknown), nodes in ascending order."""
    nodes = sorted({device.numa_node for device in machine.devices})
    return {node: tuple(d.index for d in machine.devices if d.numa_node == node) for node in nodes}
