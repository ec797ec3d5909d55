"""Arrival orders: recorded ones (`.npz`), or drawn from a seed.

A recorded file holds, per variant of the trace and seed, `<variant>/<seed>/pods` (rows of the pod list, 0-based, in
arrival order) and `<variant>/<seed>/node_rank` (for node i of the nodes sorted by name its rank among nodes of equal
score, smallest first).
"""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from packing.model import Node
from simulator.inputs.openb import PodList
from simulator.inputs.source import MAX_INPUT_BYTES, read_bytes
from topology.errors import InvalidInputError

DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    ArithmeticError,
    SyntaxError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
"""What zipfile and numpy raise on damaged files."""

MAX_ARRIVALS = 20_000_000
"""Most arrivals drawn for one run."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Who arrives when, and who wins ties.

    `pods[t]` is a row of the pod list; `node_rank[i]` belongs to node i of the nodes sorted by name.
    """

    pods: NDArray[np.int64]
    node_rank: NDArray[np.int64]


def available(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the variants recorded in `path`, each with its seeds in ascending order.

    Raises InvalidInputError if the file is not such a recording.
    """
    found: dict[str, list[int]] = {}
    with _opened(path) as archive:
        for name in archive.namelist():
            variant, _, rest = name.partition("/")
            seed, _, array = rest.partition("/")
            if array == "pods.npy" and seed.isascii() and seed.isdigit():
                found.setdefault(variant, []).append(int(seed))
    return {variant: tuple(sorted(seeds)) for variant, seeds in sorted(found.items())}


def read_arrivals(path: Path, variant: str, seed: int, *, pods: int, nodes: int) -> Arrivals:
    """Return the recorded arrivals of `variant` and `seed`, for a list of `pods` pods and a cluster of `nodes` nodes.

    Raises InvalidInputError if they are not recorded or do not belong to such a list and cluster.
    """
    with _opened(path) as archive:
        rows = _array(archive, path, f"{variant}/{seed}/pods")
        ranks = _array(archive, path, f"{variant}/{seed}/node_rank")
    if rows.size and not (rows.min() >= 0 and rows.max() < pods):
        problem = f"names row {rows.max()} of a pod list with {pods} rows; use the list it was recorded with"
        raise InvalidInputError(str(path), f"{variant}/{seed}/pods", problem)
    if not np.array_equal(np.sort(ranks), np.arange(nodes)):
        problem = f"is not an order of {nodes} nodes ({ranks.size} entries); use the node list it was recorded with"
        raise InvalidInputError(str(path), f"{variant}/{seed}/node_rank", problem)
    return Arrivals(rows, ranks)


def refuse_rejected(path: Path, pods: PodList) -> None:
    """Raise InvalidInputError if rows of `pods` were left out: the recorded orders in `path` number the whole list."""
    if pods.rejected.count:
        # Every row after the first one left out would silently stand for another pod.
        problem = (
            f"{pods.rejected.count} bad rows were left out, but the orders recorded in {path} name rows of the whole "
            "list; mend the rows, or leave out --arrivals (with --openb: name --nodes and --pods instead), orders of "
            "arrival are then drawn"
        )
        raise InvalidInputError(pods.source, "", problem)


def draw_arrivals(pods: PodList, gpu_capacity_milli: int, seed: int, *, nodes: int, until: float = 1.3) -> Arrivals:
    """Return arrivals drawn from `seed`: `pods` shuffled, then draws with replacement, and a random order of `nodes`.

    Ends with the first arrival after which the GPU demand that arrived is more than `until` times the capacity.
    Raises InvalidInputError where that never happens.
    """
    if not (math.isfinite(until) and until >= 0 and gpu_capacity_milli >= 0 and seed >= 0 and nodes >= 0):
        raise InvalidInputError("arrivals", "until, capacity, seed, nodes", "must be finite and not negative")
    target = until * gpu_capacity_milli
    mean = float(pods.gpu_milli.mean()) if len(pods) else 0.0
    if mean <= 0:
        raise InvalidInputError(pods.source, "", "holds no pod with GPU demand, so the demand never grows")
    if target / mean > MAX_ARRIVALS:
        raise InvalidInputError("arrivals", "until", f"needs more than {MAX_ARRIVALS} arrivals; choose less")
    rng = np.random.Generator(np.random.PCG64(seed))
    parts = [rng.permutation(len(pods))]
    arrived = int(pods.gpu_milli.sum())
    while arrived <= target:
        # Whole blocks, cut below: one draw at a time costs a call each.
        drawn = rng.integers(len(pods), size=int((target - arrived) / mean) + 64)
        parts.append(drawn)
        arrived += int(pods.gpu_milli[drawn].sum())
    rows = np.concatenate(parts)
    end = int(np.searchsorted(np.cumsum(pods.gpu_milli[rows]), target, side="right")) + 1
    return Arrivals(rows[:end], rng.permutation(nodes))


def with_ranks(nodes: Sequence[Node], node_rank: NDArray[np.int64]) -> list[Node]:
    """Return `nodes`, sorted by name, with the ranks of an `Arrivals`."""
    if len(nodes) != len(node_rank):
        raise InvalidInputError("arrivals", "node_rank", f"ranks {len(node_rank)} nodes; the cluster has {len(nodes)}")
    ordered = sorted(nodes, key=lambda node: node.name)
    return [replace(node, rank=int(rank)) for node, rank in zip(ordered, node_rank, strict=True)]


def _opened(path: Path) -> zipfile.ZipFile:
    content = BytesIO(read_bytes(path))
    try:
        archive = zipfile.ZipFile(content)
    except DAMAGE as error:
        raise InvalidInputError(str(path), "", f"cannot be read as .npz: {error}") from error
    if sum(member.file_size for member in archive.infolist()) > MAX_INPUT_BYTES:
        archive.close()
        raise InvalidInputError(str(path), "", f"holds more than {MAX_INPUT_BYTES} bytes")
    return archive


def _array(archive: zipfile.ZipFile, path: Path, key: str) -> NDArray[np.int64]:
    """Return one array of whole numbers; its size is checked against its header before memory is taken for it."""
    try:
        content = BytesIO(archive.read(f"{key}.npy"))
        version = npy.read_magic(content)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(content)
    except KeyError as error:
        raise InvalidInputError(str(path), key, "is not recorded here; `available` lists what is") from error
    except DAMAGE as error:
        raise InvalidInputError(str(path), key, f"is damaged: {error}") from error
    data = content.read()
    if len(shape) != 1 or dtype.kind not in "iu" or len(data) != shape[0] * dtype.itemsize:
        raise InvalidInputError(str(path), key, f"is not a list of whole numbers (shape {shape}, type {dtype})")
    # uint64 beyond int64 wraps to negative and is then refused by the range checks.
    return np.frombuffer(data, dtype=dtype).astype(np.int64)
