"""Many runs: pod lists x policies x seeds, in this process, on a pool of them or on a Dask cluster.

Runs are independent and their results are put in order at the end, so where they ran never shows in a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import ClusterError, RunFailedError
from simulator.fillrun import FillSpec, run_fill
from simulator.result import RunResult
from simulator.workers import as_finished, process_pool
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from simulator.daskpool import DaskPool, SentFile

QUEUED_PER_WORKER = 2

Progress = Callable[[FillSpec], None]
"""Called after each finished run, in the order they finish."""


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What was finished, in the order of the plan; `complete` is False if it was interrupted.

    `failure` says why where the interruption was not asked for: the cluster was lost.
    """

    runs: tuple[RunResult, ...]
    complete: bool
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every combination of the pod lists, policies and seeds; details are kept for the first seed only."""

    nodes: Path
    pods: tuple[Path, ...]
    arrivals: Path | None
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    skip_bad: bool = False
    placements: bool = False

    def specs(self) -> tuple[FillSpec, ...]:
        """Return the runs in order: by pod list, so that a worker reads each about once, then policy and seed."""
        return tuple(
            FillSpec(
                nodes=self.nodes,
                pods=pods,
                arrivals=self.arrivals,
                policy=policy,
                seed=seed,
                skip_bad=self.skip_bad,
                detail=seed == self.seeds[0],
                placements=self.placements,
            )
            for pods in self.pods
            for policy in self.policies
            for seed in self.seeds
        )


def run_sweep(
    specs: Sequence[FillSpec],
    *,
    jobs: int = 1,
    cluster: DaskPool | None = None,
    progress: Progress = lambda _spec: None,
) -> Sweep:
    """Run `specs` on `cluster`, or else on `jobs` processes of this machine.

    Ctrl-C and the loss of the cluster end the sweep early and keep what is finished.
    Raises InvalidInputError for unusable input, RunFailedError if a run breaks down.
    """
    finished: dict[int, RunResult] = {}
    try:
        for index, run in _runs(specs, jobs, cluster):
            finished[index] = run
            progress(specs[index])
    except KeyboardInterrupt:
        return Sweep(_in_order(finished), complete=False)
    except ClusterError as error:
        return Sweep(_in_order(finished), complete=False, failure=str(error))
    return Sweep(_in_order(finished), complete=True)


def run_on(executor: Executor, specs: Sequence[FillSpec], *, window: int) -> Iterator[tuple[int, RunResult]]:
    """Yield (index of the spec, its result) as runs finish on `executor`, with at most `window` of them under way."""

    def submit(spec: FillSpec) -> Future[RunResult]:
        return executor.submit(_attempt, spec)

    return as_finished(submit, specs, window=window, label=_label)


def _runs(specs: Sequence[FillSpec], jobs: int, cluster: DaskPool | None) -> Iterator[tuple[int, RunResult]]:
    if cluster is not None:
        yield from _run_on_cluster(cluster, specs)
    elif jobs <= 1 or len(specs) <= 1:
        yield from ((index, _attempt(spec)) for index, spec in enumerate(specs))
    else:
        with process_pool(min(jobs, len(specs))) as executor:
            yield from run_on(executor, specs, window=jobs * QUEUED_PER_WORKER)


def _run_on_cluster(cluster: DaskPool, specs: Sequence[FillSpec]) -> Iterator[tuple[int, RunResult]]:
    """Run `specs` on workers that see none of our files: each is sent once."""
    sent = {path: cluster.send(path) for path in dict.fromkeys(path for spec in specs for path in spec.files)}

    def submit(spec: FillSpec) -> Future[RunResult]:
        return cluster.submit(_attempt_elsewhere, spec, *(sent[path] for path in spec.files))

    return as_finished(submit, specs, window=cluster.window, label=_label, check=cluster.check)


def _attempt(spec: FillSpec) -> RunResult:
    try:
        return run_fill(spec)
    except InvalidInputError:
        raise
    except Exception as error:
        raise RunFailedError(f"{spec.label}: {type(error).__name__}: {error}") from error


def _attempt_elsewhere(spec: FillSpec, *files: SentFile) -> RunResult:
    """Run `spec` on a machine where its files are known by their content alone; errors name them as the user did."""
    from simulator.daskpool import saved_files

    with saved_files(spec.files, files) as there:
        arrivals = there[spec.arrivals] if spec.arrivals is not None else None
        return _attempt(replace(spec, nodes=there[spec.nodes], pods=there[spec.pods], arrivals=arrivals))


def _label(spec: FillSpec) -> str:
    return spec.label


def _in_order(finished: dict[int, RunResult]) -> tuple[RunResult, ...]:
    return tuple(finished[index] for index in sorted(finished))
