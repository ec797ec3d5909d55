"""The openb trace as suites R and P read it: `examples/openb` of the source tree."""

from __future__ import annotations

from pathlib import Path

from topology.errors import InvalidInputError

FOLDER = Path(__file__).parents[2] / "examples" / "openb"
NODE_LIST = "openb_node_list_gpu_node.csv.gz"
"""The 1,213 nodes with GPUs."""
POD_LIST = "openb_pod_list_{variant}.csv.gz"
ARRIVALS = "openb_arrivals_seeds42-51.npz"


def file(name: str) -> Path:
    """Return the path of a file of the trace. Raises InvalidInputError where it is not here."""
    path = FOLDER / name
    if not path.is_file():
        problem = f"is not in {FOLDER}: the wheel comes without the trace; run suites R and P from a checkout"
        raise InvalidInputError("openb trace", name, problem)
    return path


def pod_list(variant: str) -> Path:
    """Return the path of a pod list. Raises InvalidInputError where it is not here."""
    return file(POD_LIST.format(variant=variant))
