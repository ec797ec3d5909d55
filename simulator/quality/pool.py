"""Runs cases in this process or on a pool of them; the number of workers never shows in a result."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from simulator.quality.cases import run_case
from simulator.quality.runs import Case, Run

CASES_PER_TASK = 4
"""Cases sent to a worker at once: most take a tenth of a second."""


def run_cases(cases: Sequence[Case], *, jobs: int = 1, progress: Callable[[], None] = lambda: None) -> list[Run]:
    """Run `cases` on `jobs` processes; `progress` is called after each.

    Ctrl-C ends early and returns what is finished, in the order of `cases`.
    """
    finished: dict[int, Run] = {}
    try:
        if jobs <= 1:
            for at, case in enumerate(cases):
                finished[at] = run_case(case)
                progress()
        else:
            _on_pool(cases, jobs, finished, progress)
    except KeyboardInterrupt:
        pass
    return [finished[at] for at in sorted(finished)]


def _on_pool(cases: Sequence[Case], jobs: int, finished: dict[int, Run], progress: Callable[[], None]) -> None:
    # Spawned workers: forking a process that runs threads may hang.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_interrupts_to_parent)
    try:
        tasks = {
            executor.submit(_run_some, cases[at : at + CASES_PER_TASK]): at
            for at in range(0, len(cases), CASES_PER_TASK)
        }
        for task in as_completed(tasks):
            runs = task.result()
            finished.update(enumerate(runs, tasks[task]))
            for _ in runs:
                progress()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _run_some(cases: Sequence[Case]) -> list[Run]:
    return [run_case(case) for case in cases]


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
