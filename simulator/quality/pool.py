"""Runs cases in this process, on a pool of them or on a Dask cluster; where never shows in a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import groupby
from typing import TYPE_CHECKING

from simulator.errors import ClusterError, RunFailedError
from simulator.quality.cases import run_case
from simulator.quality.registry import SUITES
from simulator.quality.runs import Case, Run, cell_text
from simulator.workers import as_finished, process_pool
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from simulator.daskpool import DaskPool

QUEUED_PER_WORKER = 2


def run_cases(
    cases: Sequence[Case],
    *,
    jobs: int = 1,
    cluster: DaskPool | None = None,
    progress: Callable[[], None] = lambda: None,
    lost: Callable[[ClusterError], None] = lambda _error: None,
) -> list[Run]:
    """Run `cases` on `cluster`, or else on `jobs` processes of this machine; `progress` is called after each.

    Ctrl-C and the loss of the cluster (told to `lost`) end early and return what is finished, in the order of `cases`.
    Raises RunFailedError if a case breaks down.
    """
    tasks = bundles(cases) if cluster or jobs > 1 else [[case] for case in cases]
    finished: dict[int, list[Run]] = {}
    try:
        for at, runs in _runs(tasks, jobs, cluster):
            finished[at] = runs
            for _ in runs:
                progress()
    except KeyboardInterrupt:
        pass
    except ClusterError as error:
        lost(error)
    return [run for at in sorted(finished) for run in finished[at]]


def bundles(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases in their order, of each suite as many together as a worker gets at once."""
    found = []
    for name, group in groupby(cases, key=lambda case: case.suite):
        here, size = list(group), SUITES[name].cases_per_task
        found += [here[at : at + size] for at in range(0, len(here), size)]
    return found


def _runs(tasks: Sequence[Sequence[Case]], jobs: int, cluster: DaskPool | None) -> Iterator[tuple[int, list[Run]]]:
    if cluster is not None:
        on_cluster = cluster

        def submit_there(task: Sequence[Case]) -> Future[list[Run]]:
            return on_cluster.submit(_run_some, task)

        yield from as_finished(submit_there, tasks, window=cluster.window, label=_label, check=cluster.check)
    elif jobs <= 1:
        yield from ((at, _run_some(task)) for at, task in enumerate(tasks))
    else:
        with process_pool(jobs) as executor:

            def submit_here(task: Sequence[Case]) -> Future[list[Run]]:
                return executor.submit(_run_some, task)

            yield from as_finished(submit_here, tasks, window=jobs * QUEUED_PER_WORKER, label=_label)


def _run_some(cases: Sequence[Case]) -> list[Run]:
    return [_run(case) for case in cases]


def _run(case: Case) -> Run:
    try:
        return run_case(case)
    except InvalidInputError:
        raise
    except Exception as error:
        raise RunFailedError(f"{_words(case)}: {type(error).__name__}: {error}") from error


def _label(cases: Sequence[Case]) -> str:
    return "; ".join(_words(case) for case in cases)


def _words(case: Case) -> str:
    return f"{cell_text(case.cell)}, policy {case.policy}, seed {case.seed}"
