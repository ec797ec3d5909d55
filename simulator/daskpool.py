"""Runs on a Dask cluster: connects, makes sure that workers run the same software, and carries input files to them.

Workers need no shared file system. A file travels once per worker, as the value of a task of its own: the scheduler
keeps what the task is made of, so a file survives the death of the worker that held it.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from simulator.errors import ClusterError
from simulator.software import differences, software
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as DaskFuture

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_S = 10.0
ANSWER_S = 5.0
"""How long a peer that is connected may take to say who it is."""
WORKERLESS_S = 300.0
"""How long a cluster may be without any worker: an autoscaler may need minutes to start a machine."""
WINDOW = 1000
"""Least tasks under way at once; twice the threads of the cluster where that is more."""

ADDRESS_REMEDY = "give the address that the scheduler prints, as in tcp://HOST:8786; tls:// needs Dask's TLS settings"


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file on its way to a worker."""

    name: str
    sha256: str
    content: bytes

    def saved(self) -> Path:
        """Return the path of this file in the worker's own folder, which ends with the worker. Raises ClusterError."""
        from distributed import get_worker

        worker = get_worker()
        folder = Path(worker.local_directory) / "dovetail-inputs" / self.sha256
        path = folder / self.name
        try:
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(dir=folder, delete=False) as part:
                    part.write(self.content)
                Path(part.name).replace(path)
        except OSError as error:
            problem = f"cannot keep the input file {self.name}: {error}; make room there and repeat"
            raise ClusterError(f"worker {worker.address} {problem}") from error
        return path


@contextmanager
def saved_files(names: Sequence[Path], files: Sequence[SentFile]) -> Iterator[dict[Path, Path]]:
    """Yield, on a worker, where each of the files `names` of the sender is; bad input bears the sender's names."""
    there = dict(zip(names, (file.saved() for file in files), strict=True))
    try:
        yield there
    except InvalidInputError as error:
        obj, problem = error.obj, error.problem
        for name, path in there.items():
            obj, problem = obj.replace(str(path), str(name)), problem.replace(str(path), str(name))
        raise InvalidInputError(obj, error.field, problem) from error


class DaskPool:
    """Workers of a Dask cluster. Made by `dask_pool`."""

    def __init__(self, client: Client, address: str, workerless_s: float) -> None:
        self.address = address
        self._client = client
        self._executor = client.get_executor(pure=False)
        self._workerless_s = workerless_s
        self._seen_s = time.monotonic()

    @property
    def threads(self) -> int:
        """Tasks the cluster can run at once now; 0 where no worker is connected."""
        return sum(self._client.nthreads().values())

    @property
    def window(self) -> int:
        """How many tasks should be under way: enough for workers that join later, and still flat in memory."""
        return max(WINDOW, 2 * self.threads)

    def send(self, path: Path) -> DaskFuture[SentFile]:
        """Return the file at `path` as an argument for `submit`; the function gets a `SentFile`."""
        import dask

        content = path.read_bytes()
        sent = SentFile(path.name, hashlib.sha256(content).hexdigest(), content)
        # Dask warns of large arguments: here it is meant so.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):
            return self._client.submit(_itself, sent, key=f"dovetail-input-{sent.sha256}-{sent.name}")

    def submit(self, function: Callable[P, R], *args: object) -> Future[R]:
        """Run `function` on a worker that has the software of this process. Raises, in the future, ClusterError."""
        outcome: Future[R] = Future()
        inner = self._executor.submit(_checked, dict(software()), function, *args)
        inner.add_done_callback(lambda done: self._pass_on(done, outcome))
        return outcome

    def check(self) -> None:
        """Raise ClusterError if the scheduler is gone, or has had no worker for too long."""
        try:
            threads = self.threads
        except (OSError, RuntimeError, ValueError) as error:
            raise self._lost() from error
        now = time.monotonic()
        if threads:
            self._seen_s = now
        elif now - self._seen_s >= self._workerless_s:
            problem = f"has had no worker for {self._workerless_s:.0f} s; start one with: dask worker {self.address}"
            raise ClusterError(f"{self.address}: {problem}")

    def refuse_other_software(self) -> None:
        """Raise ClusterError if a worker that is connected now runs other software than this process."""
        answers = self._client.run(software, on_error="return")
        for worker, found in sorted(answers.items()):
            if isinstance(found, Mapping):
                if differing := differences(software(), found):
                    raise ClusterError(_other_software(worker, differing))
            elif not isinstance(found, OSError):  # that one has just died
                raise self._cannot_load(found, worker) from found

    def _pass_on(self, done: Future[R], outcome: Future[R]) -> None:
        from distributed.scheduler import KilledWorker

        try:
            outcome.set_result(done.result())
        except CancelledError:
            outcome.set_exception(self._lost())
        except KilledWorker as error:
            deaths = error.allowed_failures + 1
            problem = f"{deaths} workers died during the same run, perhaps for lack of memory; see their logs"
            outcome.set_exception(ClusterError(f"{self.address}: {problem}"))
        except (ImportError, AttributeError) as error:
            outcome.set_exception(self._cannot_load(error, "a worker"))
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits for the outcome
            outcome.set_exception(error)

    def _lost(self) -> ClusterError:
        return ClusterError(f"{self.address}: the scheduler is gone, or the way to it; start it again and repeat")

    def _cannot_load(self, error: Exception, worker: str) -> ClusterError:
        remedy = "install the dovetail[planner,dask] of this machine there"
        return ClusterError(f"{self.address}: {worker} cannot load dovetail: {error}; {remedy}")


@contextmanager
def dask_pool(address: str, *, connect_s: float = CONNECT_S, workerless_s: float = WORKERLESS_S) -> Iterator[DaskPool]:
    """Yield the workers of the cluster whose scheduler listens at `address`, e.g. `tcp://10.0.0.5:8786`.

    On leaving, tasks not yet begun are taken back. Raises ClusterError if the cluster cannot be used.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        missing = f"a Dask cluster needs the package {error.name}"
        raise ClusterError(f"{missing}; install the extra: pip install 'dovetail[dask]'") from error
    _knock(address, connect_s)
    client = Client(address, timeout=connect_s, set_as_default=False)
    try:
        pool = DaskPool(client, address, workerless_s)
        pool.refuse_other_software()
        yield pool
    finally:
        client.close()


def _knock(address: str, timeout_s: float) -> None:
    """Raise ClusterError unless a scheduler answers at `address`.

    A Client would find out too, but at some wrong addresses it hangs for twenty seconds and prints tracebacks.
    """
    try:
        kind = asyncio.run(_identity(address, timeout_s))["type"]
    except (OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise ClusterError(f"{address}: no Dask scheduler answers there ({_why(error)}); {ADDRESS_REMEDY}") from error
    if kind != "Scheduler":
        raise ClusterError(f"{address}: a {kind} answers there, no scheduler; {ADDRESS_REMEDY}")


def _why(error: BaseException) -> str:
    """Return the cause of a failed connection; Dask's own words for it hold addresses in memory."""
    if isinstance(error, MemoryError) or not str(error):
        return "what answers speaks another language, or nothing answers in time"
    return f"{error}" if error.__cause__ is None else f"{_why(error.__cause__)}"


async def _identity(address: str, timeout_s: float) -> Mapping[str, Any]:
    from distributed import Security
    from distributed.core import rpc

    tls = Security().get_connection_args("client")
    async with rpc(address, timeout=timeout_s, connection_args=tls) as peer:
        answer: Mapping[str, Any] = await asyncio.wait_for(peer.identity(), timeout_s + ANSWER_S)
        return answer


def _checked(expected: Mapping[str, str], function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `function` here, on a worker: one that joined later was not asked for its software before."""
    if differing := differences(expected, software()):
        from distributed import get_worker

        raise ClusterError(_other_software(get_worker().address, differing))
    return function(*args, **kwargs)


def _itself(file: SentFile) -> SentFile:
    return file


def _other_software(worker: str, differing: str) -> str:
    return (
        f"worker {worker} runs other software, so its results could differ: {differing}; "
        "install the same versions on all machines"
    )
