"""The demand mix: what a policy may know of the demand to come, learned from history that is given to it.

Two views of one history: FGD's typical pods (weights by popularity, exactly as published) and the specs of the default
policy (weights by size, `docs/decisions/0003-default-policy.md`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from packing.model import WHOLE_MILLI, Demand, PartitionRequest, Request, Selector, ShareRequest, WholeRequest
from packing.prices import remainder_values

FGD_COVERAGE = 95.0
"""Percent of pods that FGD's typical pods cover."""
SPEC_COVERAGE = 0.99
MAX_SPECS = 512
"""Most specs the default policy looks at: its tables have a cell per distinct cores x memory x size of them."""
PRICE_LOADS = {1.0: 0.75, 1.3: 0.25}
"""Remainder values are priced at these loads (demand / capacity), with these weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalPod:
    """One of FGD's typical pods: `milli` per GPU, `count` GPUs (0 = CPU only), share `weight` of the mix."""

    cpu_milli: int
    milli: int
    count: int
    selector: Selector
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One request of the mix with the CPU (millicores) and memory (MiB) its pod needs beside it."""

    cpu_milli: int
    memory_mib: int
    request: Request


@dataclass(frozen=True, slots=True, eq=False)
class DemandMix:
    """A history: distinct demands and how often each was asked for."""

    counts: tuple[tuple[Demand, int], ...]

    @classmethod
    def from_demands(cls, counts: Iterable[tuple[Demand, int]]) -> DemandMix:
        """Gather a history; the order of the demands does not matter."""
        merged: Counter[Demand] = Counter()
        for demand, count in counts:
            merged[demand] += count
        return cls(tuple(sorted(((d, n) for d, n in merged.items() if n > 0), key=lambda dn: _demand_key(dn[0]))))

    def typical_pods(self) -> tuple[TypicalPod, ...]:
        """Return the most frequent (cpu, GPU) specs that cover 95 % of pods, most frequent first, as FGD has them.

        Ties fall to the larger spec. Partitions are unknown to FGD and left out.
        """
        counts: Counter[tuple[int, int, int, str, Selector]] = Counter()
        for demand, number in self.counts:
            for milli, gpus, selector in _fgd_parts(demand):
                counts[demand.cpu_milli, milli, gpus, "|".join(selector.products), selector] += number
        ranked = sorted(
            counts.items(), key=lambda item: (item[1], *item[0][:4], _selector_key(item[0][4])), reverse=True
        )
        total = float(sum(counts.values()))
        chosen: list[tuple[tuple[int, int, int, str, Selector], float]] = []
        covered = 0.0
        for spec, number in ranked:
            if covered >= FGD_COVERAGE * total / 100.0:
                break
            covered += number
            chosen.append((spec, number / total))
        # The published code renormalises by a second division, and its last bit matters.
        scale = covered / total if len(chosen) < len(ranked) else 1.0
        return tuple(
            TypicalPod(cpu_milli=cpu, milli=milli, count=gpus, selector=selector, weight=share / scale)
            for (cpu, milli, gpus, _, selector), share in chosen
        )

    def specs(self) -> tuple[Spec, ...]:
        """Return the most frequent device requests that cover 99 % of pods, with the CPU and memory beside them."""
        counts: Counter[Spec] = Counter()
        for demand, number in self.counts:
            for request in demand.requests:
                plain = replace(request, selector=_canonical(request.selector))
                counts[Spec(cpu_milli=demand.cpu_milli, memory_mib=demand.memory_mib, request=plain)] += number
        # A pod counts once per request, so that a pod of several makes all of them known.
        total = sum(number * max(1, len(demand.requests)) for demand, number in self.counts)
        covered = sum(number for demand, number in self.counts if not demand.requests)
        chosen = []
        for spec, number in sorted(counts.items(), key=lambda item: (-item[1], _spec_key(item[0]))):
            if covered >= SPEC_COVERAGE * total:
                break
            covered += number
            chosen.append(spec)
            if len(chosen) == MAX_SPECS:
                break
        return tuple(chosen)

    def remainder_values(self) -> NDArray[np.float64]:
        """[1001] value in GPUs of a GPU with r thousandths left (`packing.prices`)."""
        fractions: Counter[int] = Counter()
        whole = 0.0
        for demand, number in self.counts:
            for request in demand.requests:
                if isinstance(request, ShareRequest) and 0 < request.compute_milli < WHOLE_MILLI:
                    fractions[request.compute_milli] += number
                elif isinstance(request, WholeRequest):
                    whole += request.count * number
        return remainder_values(fractions, whole, PRICE_LOADS)

    def cores_and_memory_per_gpu(self) -> tuple[float, float]:
        """Return the mean millicores and MiB of pods that ask for one whole GPU, else per GPU of all GPU pods."""
        ones = [(d, n) for d, n in self.counts if [_gpus(r) for r in d.requests] == [1.0]]
        pods = ones or [(d, n) for d, n in self.counts if d.requests]
        gpus = sum(n * sum(_gpus(r) for r in d.requests) for d, n in pods)
        if gpus == 0:
            return 0.0, 0.0
        return sum(n * d.cpu_milli for d, n in pods) / gpus, sum(n * d.memory_mib for d, n in pods) / gpus


def _canonical(selector: Selector) -> Selector:
    """Return one spelling for selectors that admit the same GPUs."""
    products = tuple(sorted(set(selector.products)))
    return replace(selector, products=products, architectures=tuple(sorted(set(selector.architectures))))


def _gpus(request: Request) -> float:
    """Return how many GPUs a request takes; a partition is counted apart."""
    match request:
        case WholeRequest():
            return float(request.count)
        case ShareRequest():
            return request.compute_milli / WHOLE_MILLI
    return 0.0


def _fgd_parts(demand: Demand) -> list[tuple[int, int, Selector]]:
    """Return (thousandths per GPU, GPUs, selector) of each request, (0, 0) for a CPU-only pod."""
    if not demand.requests:
        return [(0, 0, Selector())]
    parts = []
    for request in demand.requests:
        if isinstance(request, WholeRequest):
            parts.append((WHOLE_MILLI, request.count, request.selector))
        elif isinstance(request, ShareRequest):
            parts.append((request.compute_milli, 1, request.selector))
    return parts


def _selector_key(selector: Selector) -> str:
    """Order selectors by all they ask for."""
    names = ("|".join(selector.products), "|".join(selector.architectures))
    return "/".join((*names, f"{selector.min_memory_mib:012}"))


def _request_key(request: Request) -> tuple[str, ...]:
    """Order requests of different kinds without comparing enums or sets."""
    products = _selector_key(request.selector)
    match request:
        case WholeRequest():
            return ("whole", f"{request.count:04}", request.link.value, f"{request.min_gbps:012.3f}", products)
        case ShareRequest():
            sizes = (f"{request.compute_milli:06}", f"{request.memory_mib:012}")
            return ("share", *sizes, request.sharing.value, products)
        case PartitionRequest():
            sizes = (f"{request.min_memory_mib:012}", f"{request.min_sms:06}")
            return ("partition", request.profile, *sizes, products)


def _spec_key(spec: Spec) -> tuple[int, int, tuple[str, ...]]:
    return spec.cpu_milli, spec.memory_mib, _request_key(spec.request)


def _demand_key(demand: Demand) -> tuple[int, int, tuple[tuple[str, ...], ...]]:
    return demand.cpu_milli, demand.memory_mib, tuple(_request_key(request) for request in demand.requests)
