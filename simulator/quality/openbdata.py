"""The openb trace as suites R and P read it: from `examples/openb` of the source tree, once per process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from packing.model import Node
from simulator.inputs.openb import PodList, read_nodes, read_pods
from topology.errors import InvalidInputError

FOLDER = Path("examples") / "openb"
NODE_LIST = "openb_node_list_gpu_node.csv.gz"
POD_LIST = "openb_pod_list_{variant}.csv.gz"
ARRIVALS = "openb_arrivals_seeds42-51.npz"


def folder() -> Path:
    """Return the folder of the trace. Raises InvalidInputError where there is none."""
    beside = Path(__file__).parents[2] / FOLDER
    for found in (beside, FOLDER):
        if (found / NODE_LIST).is_file():
            return found
    problem = f"is not here: the wheel comes without the trace; run suites R and P in a checkout, which has {FOLDER}"
    raise InvalidInputError("openb trace", NODE_LIST, problem)


def check() -> None:
    """Raise InvalidInputError where the trace is missing, before any run has started."""
    folder()


def pod_path(variant: str) -> Path:
    """Return the file of a pod list."""
    return folder() / POD_LIST.format(variant=variant)


@cache
def nodes() -> tuple[Node, ...]:
    """Return the 1,213 nodes with GPUs, in the order of their names."""
    return tuple(sorted(read_nodes(folder() / NODE_LIST), key=lambda node: node.name))


@cache
def pods(variant: str) -> PodList:
    """Return a pod list, in the order of the file."""
    return read_pods(pod_path(variant))
