"""Queues of a replay: who is tried next when something may fit. Strict FIFO, or FIFO with backfill.

Both rest on one fact: while nothing is released, a demand that did not fit does not fit. So a refused demand is not
tried again before the next release.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from packing.model import ANY_GPU, Demand, LinkWish, PartitionRequest, Request, ShareRequest, WholeRequest

Start = Callable[[int], bool]
"""Tries to start a job; says whether it runs now."""


class JobQueue(Protocol):
    """Jobs that wait. Jobs are numbered in order of submission."""

    def push(self, job: int, demand_class: int) -> None:
        """Add a job; its number is higher than those of all jobs added before."""

    def released(self) -> None:
        """Note that resources became free."""

    def drain(self, start: Start) -> None:
        """Start what may go now and take it out of the queue."""

    def waiting(self) -> list[int]:
        """Return the jobs that wait, oldest first."""

    def __len__(self) -> int: ...


class FifoQueue:
    """Strict order of submission: nobody overtakes, the oldest job blocks all others until it fits."""

    def __init__(self) -> None:
        self._jobs: deque[int] = deque()
        self._blocked = False

    def push(self, job: int, demand_class: int) -> None:  # noqa: ARG002 - the class matters only where jobs overtake
        """Add a job."""
        self._jobs.append(job)

    def released(self) -> None:
        """Note that resources became free."""
        self._blocked = False

    def drain(self, start: Start) -> None:
        """Start jobs in order up to the first that does not fit."""
        while self._jobs and not self._blocked:
            if start(self._jobs[0]):
                self._jobs.popleft()
            else:
                self._blocked = True

    def waiting(self) -> list[int]:
        """Return the jobs that wait, oldest first."""
        return list(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)


class BackfillQueue:
    """Oldest first, but a job that does not fit lets younger ones pass, as a kube-scheduler without quotas does.

    Jobs of one demand class never overtake each other. No place is reserved for a job that is passed, so a large job
    may wait as long as smaller ones keep coming.
    """

    def __init__(self, demands: Sequence[Demand]) -> None:
        self._demands = demands
        self._jobs: list[deque[int]] = [deque() for _ in demands]
        self._heads: list[tuple[int, int]] = []  # (oldest job, class) of every class that waits, oldest first
        self._refused = 0  # bit per class: known not to fit until something is released
        self._harder: dict[int, int] = {}
        self._may_fit = False
        self._size = 0

    def push(self, job: int, demand_class: int) -> None:
        """Add a job."""
        jobs = self._jobs[demand_class]
        jobs.append(job)
        self._size += 1
        if len(jobs) == 1:
            self._heads.append((job, demand_class))  # the youngest of all: stays sorted
        if not self._refused >> demand_class & 1:
            self._may_fit = True

    def released(self) -> None:
        """Note that resources became free."""
        self._refused = 0
        self._may_fit = True

    def drain(self, start: Start) -> None:
        """Try the oldest job of every class that is not refused, oldest first."""
        if not self._may_fit:
            return
        heads, at = self._heads, 0
        while at < len(heads):
            job, demand_class = heads[at]
            if self._refused >> demand_class & 1:
                at += 1
            elif start(job):
                self._take(at, demand_class)
            else:
                self._refused |= self._at_least_as_hard(demand_class)
                at += 1
        self._may_fit = False

    def waiting(self) -> list[int]:
        """Return the jobs that wait, oldest first."""
        return sorted(job for jobs in self._jobs for job in jobs)

    def __len__(self) -> int:
        return self._size

    def _take(self, at: int, demand_class: int) -> None:
        jobs = self._jobs[demand_class]
        jobs.popleft()
        self._size -= 1
        del self._heads[at]
        if jobs:
            insort(self._heads, (jobs[0], demand_class))

    def _at_least_as_hard(self, demand_class: int) -> int:
        # Found on first use: a trace may have thousands of classes, of which few ever wait.
        mask = self._harder.get(demand_class)
        if mask is None:
            easy = self._demands[demand_class]
            mask = sum(1 << other for other, demand in enumerate(self._demands) if asks_no_more(easy, demand))
            self._harder[demand_class] = mask
        return mask


def asks_no_more(one: Demand, other: Demand) -> bool:
    """Whether `one` surely fits wherever `other` does. False means "not known".

    Demands with several requests are compared only with their equals.
    """
    if one == other:
        return True
    if one.cpu_milli > other.cpu_milli or one.memory_mib > other.memory_mib:
        return False
    if not one.requests:
        return True
    return len(one.requests) == len(other.requests) == 1 and _request_no_more(one.requests[0], other.requests[0])


def _request_no_more(one: Request, other: Request) -> bool:
    if one == other:
        return True
    if one.selector not in (ANY_GPU, other.selector):
        return False
    if isinstance(one, WholeRequest):
        # Of the sets that satisfy a required link, not every smaller set satisfies it.
        return isinstance(other, WholeRequest) and one.link is not LinkWish.REQUIRE and one.count <= other.count
    if isinstance(one, ShareRequest):
        if isinstance(other, WholeRequest):
            return not one.memory_mib
        return (
            isinstance(other, ShareRequest)
            and one.sharing is other.sharing
            and one.compute_milli <= other.compute_milli
            and one.memory_mib <= other.memory_mib
        )
    return (
        isinstance(other, PartitionRequest)
        and one.profile == other.profile
        and one.min_memory_mib <= other.min_memory_mib
        and one.min_sms <= other.min_sms
    )
