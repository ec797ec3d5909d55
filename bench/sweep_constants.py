"""Varies each constant of the default policy alone and prints what it does to the GPUs left unallocated.

Run from the repository root: `python bench/sweep_constants.py [--seeds 1000-1004] [--variants default,cpu250,...]`.
Arrivals are drawn here, from seeds of our own: the published seeds 42..51 are for reporting and never for choosing.
docs/decisions/0003-default-policy.md quotes a run.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from packing.mix import DemandMix
from packing.model import Snapshot
from packing.pack import pack
from packing.policy import Constants, make_policy
from packing.sequence import place_sequence
from simulator.inputs.arrivals import draw_arrivals, with_ranks
from simulator.inputs.openb import PodList, read_nodes, read_pods

TRACE = Path(__file__).parent.parent / "examples" / "openb"
VARIANTS = "default,cpu250,gpuspec33,gpushare100,multigpu50"
FACTORS = (0.25, 0.5, 2.0, 4.0)


@dataclass(frozen=True)
class Run:
    variant: str
    seed: int
    constants: Constants


@lru_cache(maxsize=16)
def _pods(variant: str) -> PodList:
    return read_pods(TRACE / f"openb_pod_list_{variant}.csv.gz")


def unallocated(run: Run) -> float:
    """Percent of GPUs not allocated when the arrived demand equals the capacity."""
    pods = _pods(run.variant)
    nodes = read_nodes(TRACE / "openb_node_list_gpu_node.csv.gz")
    capacity = 1000 * sum(len(node.shape.gpus) for node in nodes)
    drawn = draw_arrivals(pods, capacity, run.seed, nodes=len(nodes), until=1.01)
    fabric, usage = pack(Snapshot(nodes=tuple(with_ranks(nodes, drawn.node_rank))))
    policy = make_policy("dovetail", DemandMix.from_demands(pods.counts()), fabric, constants=run.constants)
    trace = place_sequence(fabric, usage, pods.demands, pods.classes[drawn.pods], policy)
    arrived = np.cumsum(pods.gpu_milli[drawn.pods]) * 100 / capacity
    at_100 = np.rint(arrived) == 100
    return float(100 - trace.used_milli[at_100].mean() * 100 / capacity)


def settings() -> dict[str, Constants]:
    """The constants as they are, and each one alone times the factors; one that is 0, at the factors themselves."""
    base = Constants()
    named = {"as shipped": base}
    for item in fields(Constants):
        for factor in FACTORS:
            value = (getattr(base, item.name) or 1.0) * factor
            named[f"{item.name} = {value:g}"] = replace(base, **{item.name: value})
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1000-1004")
    parser.add_argument("--variants", default=VARIANTS)
    parser.add_argument("--only", default="", help="only settings whose name contains this")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    variants = asked.variants.split(",")
    chosen = {name: c for name, c in settings().items() if asked.only in name or name == "as shipped"}
    print(f"seeds {asked.seeds}; mean unallocated GPU % at 100 % arrived")
    print(f"{'':24}" + "".join(f"{variant:>13}" for variant in variants) + f"{'mean':>13}")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for name, constants in chosen.items():
            runs = [Run(variant, seed, constants) for variant in variants for seed in seeds]
            results = np.array(list(pool.map(unallocated, runs, chunksize=len(seeds)))).reshape(len(variants), -1)
            means = results.mean(axis=1)
            print(f"{name:24}" + "".join(f"{mean:13.3f}" for mean in means) + f"{means.mean():13.3f}", flush=True)


if __name__ == "__main__":
    main()
