"""Policies by name: what a decision optimises, with the constants of the default one and what it knows of the mix."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from packing.classes import allowed_gpus, satisfying_profiles
from packing.fabric import Fabric
from packing.kernels import arrays as codes
from packing.kernels.arrays import GIGA, KIND_PARTITION, KIND_SHARE, KIND_WHOLE, MILLI, PolicyArrays
from packing.mix import DemandMix, Spec
from packing.model import ANY_GPU, PartitionRequest, ShareRequest, WholeRequest
from topology.errors import InvalidInputError

DEFAULT_POLICY = "dovetail"

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
    DEFAULT_POLICY: codes.DOVETAIL,
}
POLICIES = tuple(CODES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Weights of the default policy, all in whole GPUs of future demand. docs/decisions/0003 says how they were chosen."""

    size_exponent: float = field(default=2.0, metadata={"help": "a spec of g GPUs weighs g^-exponent in the mix"})
    value: float = field(default=10.0, metadata={"help": "weight of the value of a GPU's remainder"})
    rank: float = field(default=6.0, metadata={"help": "GPUs between the first and the last node in fill order"})
    cpu_price: float = field(default=0.015, metadata={"help": "GPUs per core that idle GPUs will lack"})
    memory_price: float = field(default=0.006, metadata={"help": "GPUs per GiB that idle GPUs will lack"})
    keep_whole: float = field(default=0.9, metadata={"help": "of the mean cores of a GPU kept for an idle GPU"})
    keep_share: float = field(default=1.35, metadata={"help": "the same for a remainder of full value"})
    link: float = field(default=4.0, metadata={"help": "GPUs per GPU of a set at its ideal link quality"})
    slices: float = field(default=1.0, metadata={"help": "GPUs per GPU of MIG slices that no profile could use"})

    def __post_init__(self) -> None:
        for item in fields(self):
            if not np.isfinite(getattr(self, item.name)):
                raise InvalidInputError("policy constants", item.name, "must be a finite number")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Policy:
    """A policy bound to a fabric and a mix. Compared by identity: what was computed for one is never used for another."""

    name: str
    arrays: PolicyArrays


def make_policy(
    name: str, mix: DemandMix, fabric: Fabric, *, seed: int = 0, constants: Constants | None = None
) -> Policy:
    """Return policy `name` for `fabric`, knowing `mix`. `seed` matters to `random` only; `constants` to the default."""
    if name not in CODES:
        raise InvalidInputError("policy", "name", f"{name!r} is unknown; known: {', '.join(POLICIES)}")
    arrays = PolicyArrays(
        code=CODES[name],
        seed=seed,
        **_fgd_arrays(mix, fabric),
        **_spec_arrays(mix, fabric, constants or Constants()),
        **_prices(mix, constants or Constants(), needed=name == DEFAULT_POLICY),
    )
    for array in arrays:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return Policy(name, arrays)


def _fgd_arrays(mix: DemandMix, fabric: Fabric) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
    """Return FGD's typical pods as arrays."""
    pods = mix.typical_pods()
    allowed = [
        [int(pod.selector == ANY_GPU or mask != 0) for mask in allowed_gpus(fabric, pod.selector)] for pod in pods
    ]
    return {
        "fgd_weight": np.array([pod.weight for pod in pods], dtype=np.float64),
        "fgd_cpu": np.array([pod.cpu_milli for pod in pods], dtype=np.int64),
        "fgd_count": np.array([pod.count for pod in pods], dtype=np.int64),
        "fgd_milli": np.array([pod.milli for pod in pods], dtype=np.int64),
        "fgd_allowed": np.array(allowed, dtype=np.int64).reshape(len(pods), len(fabric.shapes)),
    }


def _spec_size(spec: Spec, fabric: Fabric) -> float:
    """Return the GPUs a spec takes: a share its larger dimension, a partition the slices of its smallest profile."""
    request = spec.request
    if isinstance(request, WholeRequest):
        return float(request.count)
    if isinstance(request, ShareRequest):
        memories = [gpu.memory_mib for shape in fabric.shapes for gpu in shape.gpus if gpu.memory_mib]
        of_memory = request.memory_mib / max(memories) if memories else 0.0
        return max(request.compute_milli / MILLI, of_memory)
    sizes = [
        profile.size / geometry.memory_slices
        for geometry in fabric.geometries
        for p, profile in enumerate(geometry.profiles)
        if satisfying_profiles(geometry, request) >> p & 1
    ]
    return min(sizes, default=1.0)


def _spec_arrays(mix: DemandMix, fabric: Fabric, constants: Constants) -> dict[str, NDArray[np.int64]]:
    """Return the default policy's specs as arrays, weights in millionths."""
    specs = mix.specs()
    raw = np.array([_spec_size(spec, fabric) ** -constants.size_exponent for spec in specs])
    weights = np.rint(raw / raw.sum() * 1e6).astype(np.int64) if specs else np.zeros(0, dtype=np.int64)
    shares = [spec.request if isinstance(spec.request, ShareRequest) else None for spec in specs]
    wholes = [spec.request if isinstance(spec.request, WholeRequest) else None for spec in specs]
    profiles = np.zeros((len(specs), max(1, len(fabric.geometries))), dtype=np.int64)
    kinds = np.full(len(specs), KIND_SHARE, dtype=np.int64)
    for m, spec in enumerate(specs):
        if isinstance(spec.request, PartitionRequest):
            kinds[m] = KIND_PARTITION
            for z, geometry in enumerate(fabric.geometries):
                profiles[m, z] = satisfying_profiles(geometry, spec.request)
        elif isinstance(spec.request, WholeRequest):
            kinds[m] = KIND_WHOLE
    allowed = np.array([allowed_gpus(fabric, spec.request.selector) for spec in specs], dtype=np.int64)
    return {
        "spec_weight": weights,
        "spec_kind": kinds,
        "spec_count": np.array([whole.count if whole else 1 for whole in wholes], dtype=np.int64),
        "spec_cpu": np.array([spec.cpu_milli for spec in specs], dtype=np.int64),
        "spec_memory": np.array([spec.memory_mib for spec in specs], dtype=np.int64),
        "spec_milli": np.array([share.compute_milli if share else 0 for share in shares], dtype=np.int64),
        "spec_share_memory": np.array([share.memory_mib if share else 0 for share in shares], dtype=np.int64),
        "spec_allowed": allowed.reshape(len(specs), len(fabric.shapes)),
        "spec_profiles": profiles,
    }


def _prices(mix: DemandMix, constants: Constants, *, needed: bool) -> dict[str, NDArray[np.int64] | int]:
    """Return values and prices in thousand-millionths of a GPU; `needed` spares other policies the linear program."""
    value = mix.remainder_values() if needed else np.zeros(MILLI + 1)
    cpu, memory = mix.cores_and_memory_per_gpu()
    keep = constants.keep_share * value / value[MILLI] if value[MILLI] > 0 else np.zeros(MILLI + 1)
    keep[MILLI] = constants.keep_whole
    return {
        "remainder_value": np.rint(constants.value * value * GIGA).astype(np.int64),
        "keep_cpu": np.rint(keep * cpu).astype(np.int64),
        "keep_memory": np.rint(keep * memory).astype(np.int64),
        "cpu_price": round(constants.cpu_price * GIGA / 1000),
        "memory_price": round(constants.memory_price * GIGA / 1024),
        "rank_weight": round(constants.rank * GIGA),
        "link_weight": round(constants.link * GIGA),
        "slice_weight": round(constants.slices * GIGA),
    }
