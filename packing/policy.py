"""Policies by name: what a decision optimises, with the constants of the default one and what it knows of the mix."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from packing.classes import allowed_gpus, satisfying_profiles
from packing.fabric import Fabric
from packing.kernels import arrays as codes
from packing.kernels.arrays import GIGA, MILLI, PolicyArrays
from packing.mix import DemandMix, Spec
from packing.model import ANY_GPU, ShareRequest, WholeRequest
from packing.worthtables import Weighted, build_tables
from topology.errors import InvalidInputError

DEFAULT_POLICY = "dovetail"
WAIT_POLICY = "dovetail-wait"
"""The default policy set for short waits of large jobs where work comes and goes, at a price in how full it fills."""

CODES = {
    "random": codes.RANDOM,
    "first-fit": codes.FIRST_FIT,
    "best-fit": codes.BEST_FIT,
    "worst-fit": codes.WORST_FIT,
    "dot-product": codes.DOT_PRODUCT,
    "gpu-packing": codes.GPU_PACKING,
    "gpu-clustering": codes.GPU_CLUSTERING,
    "fgd": codes.FGD,
    "upstream": codes.UPSTREAM,
    "spread": codes.SPREAD,
    WAIT_POLICY: codes.DOVETAIL,
    DEFAULT_POLICY: codes.DOVETAIL,
}
POLICIES = tuple(CODES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Weights of the default policy, in whole GPUs of future demand. docs/decisions/0003 says how they were chosen."""

    part_exponent: float = field(default=2.0, metadata={"help": "a spec of g < 1 GPUs weighs g^-exponent in the mix"})
    whole_exponent: float = field(default=0.75, metadata={"help": "the same for a spec of g >= 1 GPUs"})
    value: float = field(default=10.0, metadata={"help": "weight of the value of a GPU's remainder"})
    whole_share: float = field(default=0.0, metadata={"help": "least weight of all specs of g >= 1 GPUs together"})
    rank: float = field(default=0.006, metadata={"help": "GPUs from one node to the next in fill order"})
    rank_span: float = field(default=7.5, metadata={"help": "most GPUs from the first node to the last"})
    cpu_price: float = field(default=0.015, metadata={"help": "GPUs per core that idle GPUs will lack"})
    memory_price: float = field(default=0.006, metadata={"help": "GPUs per GiB that idle GPUs will lack"})
    keep_whole: float = field(default=0.9, metadata={"help": "of the mean cores of a GPU kept for an idle GPU"})
    keep_share: float = field(default=1.35, metadata={"help": "the same for a remainder of full value"})
    link: float = field(
        default=4.0, metadata={"help": "GPUs per GPU of a set at its ideal link quality, between nodes"}
    )
    link_room: float = field(
        default=2.0, metadata={"help": "weight of the linked sets that stay possible, between nodes"}
    )
    slices: float = field(default=4.0, metadata={"help": "GPUs per GPU of MIG slices that no profile could use"})

    def __post_init__(self) -> None:
        for item in fields(self):
            if not np.isfinite(getattr(self, item.name)):
                raise InvalidInputError("policy constants", item.name, "must be a finite number")


CONSTANTS = {DEFAULT_POLICY: Constants(), WAIT_POLICY: Constants(value=3.0, whole_share=1.0, rank_span=0.25)}
"""The settings of the default policy that have names."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Policy:
    """A policy bound to a fabric and a mix. Compared by identity: what was computed for one never serves another."""

    name: str
    fabric: Fabric
    arrays: PolicyArrays


def make_policy(
    name: str, mix: DemandMix, fabric: Fabric, *, seed: int = 0, constants: Constants | None = None
) -> Policy:
    """Return policy `name` for `fabric`, knowing `mix`.

    `seed` matters to `random` only; `constants` to the default policy, in place of those that its name stands for.
    """
    if name not in CODES:
        raise InvalidInputError("policy", "name", f"{name!r} is unknown; known: {', '.join(POLICIES)}")
    default = CODES[name] == codes.DOVETAIL
    constants = constants or CONSTANTS.get(name, Constants())
    specs = weighted_specs(mix, fabric, constants) if default else ()
    arrays = PolicyArrays(
        code=CODES[name],
        seed=seed,
        **_fgd_arrays(mix, fabric),
        **build_tables(specs, fabric, round(constants.slices * GIGA)),
        **_prices(mix if default else DemandMix(()), constants, len(fabric.nodes)),
    )
    for array in arrays:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return Policy(name, fabric, arrays)


def _fgd_arrays(mix: DemandMix, fabric: Fabric) -> dict[str, Any]:
    """Return FGD's typical pods as arrays."""
    pods = mix.typical_pods()
    sizes = sorted({pod.milli for pod in pods})
    allowed = [
        [int(pod.selector == ANY_GPU or mask != 0) for mask in allowed_gpus(fabric, pod.selector)] for pod in pods
    ]
    return {
        "fgd_weight": np.array([pod.weight for pod in pods], dtype=np.float64),
        "fgd_cpu": np.array([pod.cpu_milli for pod in pods], dtype=np.int64),
        "fgd_count": np.array([pod.count for pod in pods], dtype=np.int64),
        "fgd_sizes": np.array(sizes, dtype=np.int64),
        "fgd_level": np.array([sizes.index(pod.milli) for pod in pods], dtype=np.int64),
        "fgd_allowed": np.array(allowed, dtype=np.int64).reshape(len(pods), len(fabric.shapes)),
    }


def _spec_size(spec: Spec, fabric: Fabric) -> float:
    """Return the GPUs a spec takes, at least a thousandth of one.

    A share takes its larger dimension (by the largest GPU), a partition the slices of its smallest profile.
    """
    request = spec.request
    if isinstance(request, WholeRequest):
        return float(request.count)
    if isinstance(request, ShareRequest):
        memories = [gpu.memory_mib for shape in fabric.shapes for gpu in shape.gpus if gpu.memory_mib]
        of_memory = request.memory_mib / max(memories) if memories else 0.0
        return max(1 / MILLI, request.compute_milli / MILLI, of_memory)
    sizes = [
        profile.size / geometry.memory_slices
        for geometry in fabric.geometries
        for p, profile in enumerate(geometry.profiles)
        if satisfying_profiles(geometry, request) >> p & 1
    ]
    return min(sizes, default=1.0)


def weighted_specs(mix: DemandMix, fabric: Fabric, constants: Constants) -> tuple[Weighted, ...]:
    """Return the specs of the mix with their weights: g^-exponent for a spec of g GPUs, adding up to a million.

    Parts of a GPU and whole GPUs have exponents of their own: parts compete within a GPU, wholes within a node. Wholes
    that weigh less than `whole_share` together are raised to it, on top of the million.
    """
    specs = mix.specs()
    if not specs:
        return ()
    sizes = np.array([_spec_size(spec, fabric) for spec in specs])
    raw = sizes ** -np.where(sizes < 1, constants.part_exponent, constants.whole_exponent)
    shares = raw / raw.sum()
    of_wholes = shares[sizes >= 1].sum()
    if 0 < of_wholes < constants.whole_share:
        shares[sizes >= 1] *= constants.whole_share / of_wholes
    weights = np.rint(shares * 1e6).astype(np.int64)
    return tuple(Weighted(spec, int(weight)) for spec, weight in zip(specs, weights, strict=True))


def _prices(mix: DemandMix, constants: Constants, nodes: int) -> dict[str, Any]:
    """Return values and prices in thousand-millionths of a GPU."""
    value = mix.remainder_values()
    cpu, memory = mix.cores_and_memory_per_gpu()
    keep = constants.keep_share * value / value[MILLI] if value[MILLI] > 0 else np.zeros(MILLI + 1)
    keep[MILLI] = constants.keep_whole
    return {
        "remainder_value": np.rint(constants.value * value * GIGA).astype(np.int64),
        "keep": np.rint(np.stack([keep * cpu, keep * memory])).astype(np.int64),
        "cpu_price": round(constants.cpu_price * GIGA / 1000),
        "memory_price": round(constants.memory_price * GIGA / 1024),
        # Without a limit, the order of many thousands of nodes would outweigh all else.
        "rank_weight": round(min(constants.rank, constants.rank_span / max(1, nodes)) * GIGA),
        "link_weight": round(constants.link * GIGA),
        "link_room": round(constants.link_room * MILLI),
    }
