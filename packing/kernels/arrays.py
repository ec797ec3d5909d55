"""The arrays that kernels read and write, and the integer codes in them.

Nodes are indexed in tie order (rank, then name), so the first of several best nodes is the one that wins. N nodes, G GPUs
(all nodes' GPUs in one row, node n owning `gpu_start[n]:gpu_start[n + 1]`), S node shapes, Z MIG geometries, P profiles
of the longest geometry, C demand classes, U units (device requests) of the longest demand, M specs of the demand mix.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Sets = np.ndarray[Any, np.dtype[np.uint16]]

NONE: Final = -1
INFEASIBLE: Final = -(1 << 62)
"""The score of a node that cannot serve the demand; every real score is larger."""

UNDECIDED: Final = INFEASIBLE + 1
"""The score of a node on which the bounded search for several requests ended without an answer."""

GIGA: Final = 1_000_000_000
"""Scores of the default policy are in thousand-millionths of a whole GPU."""
MILLI: Final = 1000
"""Compute of one GPU."""
MAX_GPUS: Final = 16
SLICE_STATES: Final = 256
"""Occupied-slice masks per MIG geometry (at most 8 memory slices)."""

# What a GPU is used for: one of these at a time.
FREE: Final = 0
WHOLE: Final = 1
PARTITIONED: Final = 2
TIME_SLICED: Final = 3
MPS: Final = 4
OUT: Final = 5

# What a GPU may be used for (bits of `gpu_modes`).
MAY_RUN_PODS: Final = 1
MAY_BE_PARTITIONED: Final = 2

# Kinds of unit.
KIND_WHOLE: Final = 0
KIND_PARTITION: Final = 1
KIND_SHARE: Final = 2

# Link wishes.
WISH_NONE: Final = 0
WISH_PREFER: Final = 1
WISH_REQUIRE: Final = 2

# What a node hosts, for policies that look at it: shares, k whole GPUs at index k, partitions.
HOSTED_SHARE: Final = 0
HOSTED_PARTITION: Final = 17
HOSTED_KINDS: Final = 18

# Policies.
RANDOM: Final = 0
FIRST_FIT: Final = 1
BEST_FIT: Final = 2
WORST_FIT: Final = 3
DOT_PRODUCT: Final = 4
GPU_PACKING: Final = 5
GPU_CLUSTERING: Final = 6
FGD: Final = 7
UPSTREAM: Final = 8
SPREAD: Final = 9
DOVETAIL: Final = 10


class FabricArrays(NamedTuple):
    """Static tables. Read-only; rebuilt only when nodes or devices change."""

    node_shape: Ints  # [N]
    gpu_start: Ints  # [N + 1]
    node_cpu: Ints  # [N] millicores of the empty node
    node_memory: Ints  # [N] MiB of the empty node
    gpu_memory: Ints  # [G] MiB, 0 = unknown
    gpu_geometry: Ints  # [G] MIG geometry or NONE
    gpu_modes: Ints  # [G] MAY_* bits; 0 = unhealthy
    shape_gpus: Ints  # [S]
    mask_start: Ints  # [S] where the shape's 2^n block starts in the arrays over masks
    set_start: Ints  # [S] where its (n + 1) x 2^n block starts in the arrays over (k, mask)
    quality: Ints  # [sum 2^n] set quality, MB/s
    nvlink: Ints  # [sum 2^n] 1 where the set is joined by NVLink alone
    link_excess: Ints  # [sum 2^n] nano-GPU: what the links of the free set are worth beyond its mere size, <= 0
    ideal: Ints  # [S, 17] best quality of k GPUs on the empty node, MB/s
    island: Ints  # [S, 17] 1 where some k-set of the empty node is joined by NVLink alone
    best_prefer: Sets  # [sum (n + 1) 2^n]
    best_none: Sets
    best_quality: Sets
    slice_count: Ints  # [Z] memory slices
    profile_size: Ints  # [Z, P] memory slices of a placement
    legal_starts: Ints  # [Z, P, 256] bit mask of starts
    best_start: Ints  # [Z, P, 256] NONE where nothing fits
    slice_loss: Ints  # [Z, 256] expected free slices that no profile could use, in millionths of a slice
    excl_take: Ints  # [Z, P] exclusive bits a placement sets
    excl_block: Ints  # [Z, P] exclusive bits that must be clear


class UsageArrays(NamedTuple):
    """What is in use. The only arrays that kernels change."""

    cpu_left: Ints  # [N] millicores
    memory_left: Ints  # [N] MiB
    free: Ints  # [N] bit mask of GPUs that nobody uses and that may run pods
    gpu_use: Ints  # [G] FREE ... OUT
    gpu_milli: Ints  # [G] compute left to whole and share demands
    gpu_memory: Ints  # [G] MiB left to share demands
    gpu_slices: Ints  # [G] occupied memory slices, bit mask
    gpu_excl: Ints  # [G] exclusive MIG bits taken
    hosted: Ints  # [N, 18] units by HOSTED_*
    version: Ints  # [N] grows with every change of the node, never returns to a former value
    events: Ints  # [1] changes so far, cluster-wide


class DemandArrays(NamedTuple):
    """Demand classes. Row c is one distinct `packing.model.Demand`."""

    cpu: Ints  # [C] millicores
    memory: Ints  # [C] MiB
    units: Ints  # [C] device requests
    kind: Ints  # [C, U]
    count: Ints  # [C, U] GPUs of a whole unit, else 1
    wish: Ints  # [C, U]
    min_quality: Ints  # [C, U] MB/s
    milli: Ints  # [C, U] compute of a share
    share_memory: Ints  # [C, U] MiB of a share
    sharing: Ints  # [C, U] TIME_SLICED or MPS
    allowed: Ints  # [C, U, S] GPUs the selector admits, bit mask
    profiles: Ints  # [C, U, Z] profiles that satisfy a partition unit, bit mask


class PolicyArrays(NamedTuple):
    """A policy: its code, its constants, and what it knows of the demand mix."""

    code: int
    seed: int
    # FGD's typical pods (popularity weights), in its order.
    fgd_weight: Floats  # [F]
    fgd_cpu: Ints  # [F]
    fgd_count: Ints  # [F] GPUs; 0 = CPU only
    fgd_milli: Ints  # [F] per GPU
    fgd_allowed: Ints  # [F, S] 1 where the node shape is allowed
    # The default policy's specs.
    spec_weight: Ints  # [M] millionths, adding up to about 1e6
    spec_kind: Ints  # [M]
    spec_count: Ints  # [M]
    spec_cpu: Ints  # [M]
    spec_memory: Ints  # [M] node memory, MiB
    spec_milli: Ints  # [M]
    spec_share_memory: Ints  # [M] MiB of GPU memory
    spec_allowed: Ints  # [M, S] GPUs the selector admits, bit mask
    spec_profiles: Ints  # [M, Z]
    remainder_value: Ints  # [1001] nano-GPU lost with a remainder of r milli
    keep_cpu: Ints  # [1001] millicores that a remainder of r milli will need
    keep_memory: Ints  # [1001] MiB likewise
    cpu_price: int  # nano-GPU per millicore short
    memory_price: int  # nano-GPU per MiB short
    rank_weight: int  # nano-GPU between the first and the last node
    link_weight: int  # nano-GPU per GPU of a set at its ideal quality
    slice_weight: int  # nano-GPU per GPU of slices stranded


class Local(NamedTuple):
    """One node's devices while a demand is being tried on it, a row per level of the search."""

    use: Ints  # [L, 16]
    milli: Ints
    memory: Ints
    slices: Ints
    excl: Ints
    free: Ints  # [L]


class Work(NamedTuple):
    """Scratch for evaluating a node."""

    specs: Ints  # [M] specs that the node's spare cores and memory allow
    spare: Ints  # [2] millicores, MiB free once the pod is there
    keep: Ints  # [2] millicores, MiB that its idle GPUs need


class Cache(NamedTuple):
    """What was computed of a node at which version; a row per demand class, and one for the node itself."""

    scores: Ints  # [C, N]
    seen: Ints  # [C, N] version of the node when `scores` was computed; NONE = never
    worth: Ints  # [N] default policy
    frag: Floats  # [N] FGD
    node_seen: Ints  # [N]


class Choice(NamedTuple):
    """Which devices each unit gets."""

    gpus: Ints  # [U] bit mask
    profile: Ints  # [U] MIG profile or NONE
    start: Ints  # [U] first memory slice or NONE


def new_local(levels: int) -> Local:
    """Return scratch space for demands of up to `levels - 1` units."""
    rows = [np.zeros((levels, MAX_GPUS), dtype=np.int64) for _ in range(5)]
    return Local(*rows, free=np.zeros(levels, dtype=np.int64))


def new_choice(units: int) -> Choice:
    """Return an empty choice for demands of up to `units` units."""
    return Choice(*(np.full(max(1, units), NONE, dtype=np.int64) for _ in range(3)))


def new_work(specs: int) -> Work:
    """Return scratch space for a mix of `specs` specs."""
    return Work(*(np.zeros(max(2, size), dtype=np.int64) for size in (specs, 2, 2)))


def new_cache(classes: int, nodes: int) -> Cache:
    """Return an empty cache."""
    return Cache(
        scores=np.full((classes, nodes), INFEASIBLE, dtype=np.int64),
        seen=np.full((classes, nodes), NONE, dtype=np.int64),
        worth=np.zeros(nodes, dtype=np.int64),
        frag=np.zeros(nodes, dtype=np.float64),
        node_seen=np.full(nodes, NONE, dtype=np.int64),
    )
