"""What runs on other processes has in common: spawned workers, and results as they finish.

Tasks are independent and results are put in order by who asks, so the number of workers never shows in a result.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from simulator.errors import RunFailedError

T = TypeVar("T")
R = TypeVar("R")

CHECK_EVERY_S = 5.0
"""How often `check` is asked while nothing finishes."""


@contextmanager
def process_pool(workers: int) -> Iterator[Executor]:
    """Yield a pool of spawned processes: forking a process that runs threads (numba, numpy) may hang."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_parent)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def as_finished(
    submit: Callable[[T], Future[R]],
    tasks: Sequence[T],
    *,
    window: int,
    label: Callable[[T], str],
    check: Callable[[], None] | None = None,
) -> Iterator[tuple[int, R]]:
    """Yield (index of the task, its result) as tasks finish, with at most `window` of them under way.

    Memory stays flat, and when a worker process dies it is known what it may have been doing.
    `check` raises when nothing can be expected any more. Raises RunFailedError, and whatever a task raises.
    """
    waiting = iter(enumerate(tasks))
    under_way: dict[Future[R], int] = {}
    while True:
        for index, task in islice(waiting, window - len(under_way)):
            under_way[submit(task)] = index
        if not under_way:
            return
        done, _ = wait(under_way, timeout=CHECK_EVERY_S if check else None, return_when=FIRST_COMPLETED)
        if check and not done:
            check()
        for future in sorted(done, key=under_way.__getitem__):
            try:
                result = future.result()
            except BrokenProcessPool as error:
                names = "; ".join(label(tasks[index]) for index in sorted(under_way.values()))
                raise RunFailedError(f"a worker process died, perhaps for lack of memory, during: {names}") from error
            yield under_way.pop(future), result


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
