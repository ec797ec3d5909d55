"""The arrays that kernels read and write, and the integer codes in them.

Nodes are indexed in tie order (rank, then name), so the first of several best nodes is the one that wins. N nodes, G
GPUs (all nodes' GPUs in one row, node n owning `gpu_start[n]:gpu_start[n + 1]`), S node shapes, Z MIG geometries, P
profiles of the longest geometry, C demand classes, U units (device requests) of the longest demand.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Sets = np.ndarray[Any, np.dtype[np.uint16]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

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

# Columns of a GPU's state (`UsageArrays.gpus`, `Local`).
USE: Final = 0
LEFT: Final = 1
"""Compute left to whole and share demands, thousandths; 0 on a GPU fixed in MIG mode."""
MEMORY_LEFT: Final = 2
"""MiB left to share demands."""
SLICES: Final = 3
"""Occupied memory slices, bit mask."""
EXCLUSIVE: Final = 4
"""Exclusive MIG bits taken."""
HELD: Final = 5
"""Units that hold the GPU or a part of it."""
GPU_COLUMNS: Final = 6

# Columns of a node's state (`UsageArrays.nodes`).
CPU: Final = 0
MEMORY: Final = 1
IDLE: Final = 2
"""GPUs that nobody uses and that may run pods, bit mask."""

# Columns of `UsageArrays.recent`.
NEWER: Final = 0
OLDER: Final = 1

# Columns of a unit (`DemandArrays.units`).
KIND: Final = 0
COUNT: Final = 1
WISH: Final = 2
MIN_QUALITY: Final = 3
ASKED: Final = 4
"""Compute of a share, thousandths."""
ASKED_MEMORY: Final = 5
"""GPU memory of a share, MiB."""
SHARING: Final = 6
UNIT_COLUMNS: Final = 7

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
    node_size: Ints  # [N, 2] millicores and MiB of the empty node (columns CPU, MEMORY)
    gpu_start: Ints  # [N + 1]
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
    product_ideal: Ints  # [S, 17] the same over all node shapes of the same GPU products
    island: Ints  # [S, 17] 1 where some k-set of the empty node is joined by NVLink alone
    best_sets: Sets  # [3, sum (n + 1) 2^n] by wish (WISH_REQUIRE: the highest quality)
    slice_count: Ints  # [Z] memory slices
    profile_size: Ints  # [Z, P] memory slices of a placement
    profile_excl: Ints  # [2, Z, P] exclusive bits a placement sets; bits that must be clear before
    legal_starts: Ints  # [Z, P, 256] bit mask of starts
    best_start: Ints  # [Z, P, 256] NONE where nothing fits
    slice_loss: Ints  # [Z, 256] expected free slices that no profile could use, in millionths of a slice


class UsageArrays(NamedTuple):
    """What is in use. The only arrays that kernels change."""

    nodes: Ints  # [N, 3] columns CPU (millicores left), MEMORY (MiB left), IDLE
    gpus: Ints  # [G, 6] columns USE, LEFT, MEMORY_LEFT, SLICES, EXCLUSIVE, HELD
    hosted: Ints  # [N, 18] units by HOSTED_*
    version: Ints  # [N] the event that changed the node last; 0 = none
    recent: Ints  # [N + 1, 2] ring of all nodes, columns NEWER, OLDER: row N, then by last change, the latest first
    events: Ints  # [1] changes so far, cluster-wide


class DemandArrays(NamedTuple):
    """Demand classes. Row c is one distinct `packing.model.Demand`."""

    pods: Ints  # [C, 3] columns CPU, MEMORY, then the number of units
    units: Ints  # [C, U, 7] columns KIND ... SHARING
    allowed: Ints  # [C, U, S] GPUs the selector admits, bit mask
    profiles: Ints  # [C, U, Z] profiles that satisfy a partition unit, bit mask


UNITS: Final = 2
"""Column of `DemandArrays.pods` that holds the number of units."""


class PolicyArrays(NamedTuple):
    """A policy: its code, its constants, and what it knows of the demand mix.

    What the default policy knows is folded into tables by the steps at which spare cores (T steps) and memory (Q steps)
    let one more spec of the mix run: row tq = t * (Q + 1) + q is for nodes with at least t and q steps of each.
    """

    code: int
    seed: int
    # FGD's typical pods, in its order.
    fgd_weight: Floats  # [F] popularity
    fgd_cpu: Ints  # [F]
    fgd_count: Ints  # [F] GPUs; 0 = CPU only
    fgd_sizes: Ints  # [L] distinct thousandths per GPU
    fgd_level: Ints  # [F] index into fgd_sizes
    fgd_allowed: Ints  # [F, S] 1 where the node shape is allowed
    # The default policy.
    cpu_steps: Ints  # [T] millicores, rising
    memory_steps: Ints  # [Q] MiB, rising
    gpu_class: Ints  # [G] GPUs of one class are wanted by the same specs at the same size
    remainder_value: Ints  # [1001] nano-GPU that a remainder of r thousandths is worth at the prices of the mix
    size_rank: Ints  # [1001] distinct sizes of shares up to r thousandths
    share_weight: Ints  # [A, TQ, J + 1] weight (millionths) of the specs that a remainder of that rank can serve
    slice_worth: Ints  # [A, TQ, 256] nano-GPU that a partitioned GPU of class a is worth by occupied slices
    set_masks: Ints  # [S, B] GPUs that count for the B groups of specs asking for whole GPUs
    set_table: Ints  # [S, B] which table a group uses
    set_worth: Ints  # [K, TQ, 17] nano-GPU that f free GPUs are worth to specs of whole GPUs
    keep: Ints  # [2, 1001] millicores and MiB that a remainder of r thousandths will need
    cpu_price: int  # nano-GPU per millicore short
    memory_price: int  # nano-GPU per MiB short
    rank_weight: int  # nano-GPU from one node to the next
    link_weight: int  # nano-GPU per GPU of a set at the ideal quality of its product
    link_room: int  # thousandths by which the worth of linked sets that stay possible counts (`link_excess`)


class Cache(NamedTuple):
    """What was computed at which event: a row per demand class remembered, and what is true of the node itself."""

    scores: Ints  # [R, T] scores by node, then the maxima above them (`packing.kernels.maxima`)
    levels: Ints  # [L] where each level of a row of `scores` starts
    seen: Ints  # [R] events when the row was computed; NONE = never
    changed: Ints  # [N] work space: nodes to score anew
    worth: Ints  # [N] default policy
    frag: Floats  # [N] FGD
    node_seen: Ints  # [N] version of the node when `worth` or `frag` was computed
    frag_scratch: Ints  # [2, L] work space of FGD
    among: Flags  # [N] nodes that this decision may take; [0] = all


class Choice(NamedTuple):
    """Which devices each unit gets."""

    gpus: Ints  # [U] bit mask
    profile: Ints  # [U] MIG profile or NONE
    start: Ints  # [U] first memory slice or NONE


def new_local(levels: int) -> Ints:
    """[levels, 16, 6] scratch for one node's GPUs while several units are tried on it, a level per unit."""
    return np.zeros((levels, MAX_GPUS, GPU_COLUMNS), dtype=np.int64)


def new_choice(units: int) -> Choice:
    """Return an empty choice for demands of up to `units` units."""
    return Choice(*(np.full(max(1, units), NONE, dtype=np.int64) for _ in range(3)))
