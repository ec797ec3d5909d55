"""S1, S1b: pods a second from release to all bound, by turns, and what each pod cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median

from bench.scheduler import meters
from bench.scheduler.rig import DEFAULT, OURS, SCHEDULERS, Rig, running
from sandbox.load.result import LoadResult, median_rate
from sandbox.load.run import burst
from sandbox.load.workload import Workload

DRIVER = "gpu.dovetail.dev"
MACHINE = "hgx-h100-8"
WARM_UP = 40


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst and its costs."""

    result: LoadResult
    cpu_s: dict[str, float]
    """By program, from the release of the first pod to the last binding."""
    requests: dict[tuple[str, ...], float]
    """(verb, resource, subresource, code) at the API server, creation and deletion of the pods included."""
    seconds: dict[tuple[str, ...], float]
    """(verb, resource, subresource): the time of these requests together."""
    verbs: dict[str, tuple[float, float]]
    """Verb of the extender -> answers, seconds together."""


def measured(nodes: int, pods: int, rounds: int, machine: str = MACHINE) -> dict[str, list[Burst]]:
    """Return the bursts by scheduler."""
    found: defaultdict[str, list[Burst]] = defaultdict(list)
    with running(machine, nodes) as rig:
        load = Workload(namespace="default", name="burst", pods=pods, device_class=DRIVER)
        for name in SCHEDULERS:
            burst(rig.plane.kubeconfig, replace(load, scheduler=name, pods=min(pods, WARM_UP)))
        for _ in range(rounds):
            for name in SCHEDULERS:
                each = _one(rig, replace(load, scheduler=name))
                assert not each.result.doubled
                assert each.result.pods == pods
                print(f"{nodes} nodes, {name}: {each.result.as_dict()}", flush=True)
                found[name].append(each)
    return dict(found)


def _one(rig: Rig, load: Workload) -> Burst:
    before, ours_before = meters.api_metrics(rig.plane), meters.plain_metrics(rig.extender())
    with meters.CpuMeter(rig.pids()) as cpu:
        result = burst(rig.plane.kubeconfig, load)
    after, ours_after = meters.api_metrics(rig.plane), meters.plain_metrics(rig.extender())
    counts, sums = (
        meters.grown(meters.series(before, *of), meters.series(after, *of)) for of in (meters.REQUESTS, meters.TIME)
    )
    answers, seconds = (
        meters.grown(*(meters.series(text, f"dovetail_extender_duration_seconds_{part}", "verb") for text in both))
        for part, both in (("count", (ours_before, ours_after)), ("sum", (ours_before, ours_after)))
    )
    return Burst(
        result,
        cpu.between(min(result.free_s), max(result.bound_s)),
        counts,
        sums,
        {key[0]: (count, seconds.get(key, 0.0)) for key, count in answers.items()},
    )


def report(nodes: int, bursts: dict[str, list[Burst]]) -> None:
    """Print the medians and what a pod cost in the median burst of each scheduler."""
    rates = {name: median_rate([each.result for each in found]) for name, found in bursts.items()}
    by_round = [
        ours.result.pods_per_s / default.result.pods_per_s
        for ours, default in zip(bursts[OURS], bursts[DEFAULT], strict=True)
    ]
    print(f"\n{nodes} nodes: {', '.join(f'{name} {rate:.1f} pods/s' for name, rate in rates.items())}; ", end="")
    print(f"ratio of medians {rates[OURS] / rates[DEFAULT]:.2f}, by round {[round(each, 2) for each in by_round]}")
    for name, found in bursts.items():
        middle = sorted(found, key=lambda each: each.result.pods_per_s)[len(found) // 2]
        costs(name, middle)


def costs(name: str, each: Burst) -> None:
    """Print what a pod of a burst cost, by program and by request."""
    pods = each.result.pods
    total = sum(each.cpu_s.values())
    print(
        f"\n{name}: {each.result.pods_per_s:.1f} pods/s; CPU of the burst per pod, ms (all {total / pods * 1e3:.1f}):"
    )
    for program, used_s in sorted(each.cpu_s.items(), key=lambda item: -item[1]):
        if used_s > 0:
            print(f"  {program:28}{used_s / pods * 1e3:8.2f}")
    print("  requests per pod, mean ms:")
    for key, count in sorted(each.requests.items(), key=lambda item: -item[1]):
        if count >= pods / 20 and key[0] not in {"LIST", "WATCH"}:
            whole = sum(other for of, other in each.requests.items() if of[:3] == key[:3])
            print(f"  {' '.join(key):60}{count / pods:8.2f}{each.seconds.get(key[:3], 0) / whole * 1e3:10.1f}")
    for verb, (count, seconds) in each.verbs.items():
        print(f"  extender {verb:51}{count / pods:8.2f}{seconds / count * 1e3:10.2f}")


def waits(results: list[LoadResult]) -> float:
    """Return the median of the p99 waits, seconds."""
    return median(each.wait_s(0.99) for each in results)
