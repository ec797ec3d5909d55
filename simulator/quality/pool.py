"""Runs cases in this process, on a pool of them or on a Dask cluster; where never shows in a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import RunFailedError
from simulator.quality.cases import run_case
from simulator.quality.registry import SUITES
from simulator.quality.runs import Case, Run, cell_text
from simulator.workers import as_finished, process_pool
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from simulator.daskpool import DaskPool, SentFile

Failure = RunFailedError | InvalidInputError
QUEUED_PER_WORKER = 2


def _raise(error: Failure) -> None:
    raise error


def run_cases(
    cases: Sequence[Case],
    *,
    jobs: int = 1,
    cluster: DaskPool | None = None,
    progress: Callable[[], None] = lambda: None,
    failed: Callable[[Failure], None] = _raise,
) -> list[Run]:
    """Run `cases` on `cluster`, or else on `jobs` processes of this machine; `progress` is called after each.

    Ctrl-C, a case that breaks down and the loss of the cluster end early; what is finished is returned, in the order of
    `cases`. `failed` is told why; without it RunFailedError or InvalidInputError is raised and nothing returned.
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
    except (RunFailedError, InvalidInputError) as error:
        failed(error)
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
        yield from _run_on_cluster(cluster, tasks)
    elif jobs <= 1:
        yield from ((at, _run_some(task)) for at, task in enumerate(tasks))
    else:
        with process_pool(jobs) as executor:

            def submit_here(task: Sequence[Case]) -> Future[list[Run]]:
                return executor.submit(_run_some, task)

            yield from as_finished(submit_here, tasks, window=jobs * QUEUED_PER_WORKER, label=_label)


def _run_on_cluster(cluster: DaskPool, tasks: Sequence[Sequence[Case]]) -> Iterator[tuple[int, list[Run]]]:
    """Run `tasks` on workers that see none of our files: each is sent once."""
    files = {case: tuple(SUITES[case.suite].files(case)) for case in chain.from_iterable(tasks)}
    sent = {path: cluster.send(path) for path in dict.fromkeys(chain.from_iterable(files.values()))}

    def submit(task: Sequence[Case]) -> Future[list[Run]]:
        jobs = [(case, files[case]) for case in task]
        read = tuple(dict.fromkeys(path for _, paths in jobs for path in paths))
        return cluster.submit(_run_elsewhere, jobs, read, *(sent[path] for path in read))

    return as_finished(submit, tasks, window=cluster.window, label=_label, check=cluster.check)


def _run_elsewhere(jobs: Sequence[tuple[Case, Sequence[Path]]], read: Sequence[Path], *sent: SentFile) -> list[Run]:
    """Run cases on a machine that got the files `read` of ours as `sent`; each case with those of its own."""
    from simulator.daskpool import saved_files

    with saved_files(read, sent) as there:
        return [_run(case, *(there[path] for path in paths)) for case, paths in jobs]


def _run_some(cases: Sequence[Case]) -> list[Run]:
    return [_run(case) for case in cases]


def _run(case: Case, *files: Path) -> Run:
    try:
        return run_case(case, *files)
    except InvalidInputError:
        raise
    except Exception as error:
        raise RunFailedError(f"{_words(case)}: {type(error).__name__}: {error}") from error


def _label(cases: Sequence[Case]) -> str:
    return "; ".join(_words(case) for case in cases)


def _words(case: Case) -> str:
    return f"{cell_text(case.cell)}, policy {case.policy}, seed {case.seed}"
