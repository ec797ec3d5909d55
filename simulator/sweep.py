"""Many runs: pod lists x policies x seeds, in this process or on a pool of them.

Runs are independent and their results are put in order at the end, so the number of workers never shows in a result.
At most a few runs per worker are queued: memory stays flat, and when a worker dies it is known what it was doing.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from simulator.fillrun import FillSpec, run_fill
from simulator.result import RunResult
from topology.errors import InvalidInputError

QUEUED_PER_WORKER = 2

Progress = Callable[[FillSpec], None]
"""Called after each finished run, in the order they finish."""


class RunFailedError(RuntimeError):
    """A run broke down (not bad input): the message names the run and what happened."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """An InvalidInputError on its way home: exceptions with several arguments do not survive pickling."""

    obj: str
    field: str
    problem: str


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What was finished, in the order of the plan; `complete` is False if it was interrupted."""

    runs: tuple[RunResult, ...]
    complete: bool


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


def run_sweep(specs: Sequence[FillSpec], *, jobs: int = 1, progress: Progress = lambda _spec: None) -> Sweep:
    """Run `specs` on `jobs` processes. Ctrl-C ends the sweep early and keeps what is finished.

    Raises InvalidInputError for unusable input, RunFailedError if a run breaks down.
    """
    finished: dict[int, RunResult] = {}
    try:
        if jobs <= 1 or len(specs) <= 1:
            for index, spec in enumerate(specs):
                finished[index] = _unwrapped(_attempt(spec))
                progress(spec)
        else:
            with _pool(min(jobs, len(specs))) as executor:
                for index, run in run_on(executor, specs, window=jobs * QUEUED_PER_WORKER):
                    finished[index] = run
                    progress(specs[index])
    except KeyboardInterrupt:
        return Sweep(_in_order(finished), complete=False)
    return Sweep(_in_order(finished), complete=True)


def run_on(executor: Executor, specs: Sequence[FillSpec], *, window: int) -> Iterator[tuple[int, RunResult]]:
    """Yield (index of the spec, its result) as runs finish on `executor`, with at most `window` of them under way."""
    waiting = iter(enumerate(specs))
    under_way: dict[Future[RunResult | _Refused], int] = {}
    while True:
        for index, spec in islice(waiting, window - len(under_way)):
            under_way[executor.submit(_attempt, spec)] = index
        if not under_way:
            return
        done, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=under_way.__getitem__):
            try:
                outcome = future.result()
            except BrokenProcessPool as error:
                names = "; ".join(specs[index].label for index in sorted(under_way.values()))
                raise RunFailedError(f"a worker process died, perhaps for lack of memory, during: {names}") from error
            yield under_way.pop(future), _unwrapped(outcome)


def _attempt(spec: FillSpec) -> RunResult | _Refused:
    try:
        return run_fill(spec)
    except InvalidInputError as error:
        return _Refused(error.obj, error.field, error.problem)
    except Exception as error:
        raise RunFailedError(f"{spec.label}: {type(error).__name__}: {error}") from error


def _unwrapped(outcome: RunResult | _Refused) -> RunResult:
    if isinstance(outcome, _Refused):
        raise InvalidInputError(outcome.obj, outcome.field, outcome.problem)
    return outcome


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Spawned workers: forking a process that runs threads (numba, numpy) may hang."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_parent)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_order(finished: dict[int, RunResult]) -> tuple[RunResult, ...]:
    return tuple(finished[index] for index in sorted(finished))
