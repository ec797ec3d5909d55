"""Sweeps on a Dask cluster of real processes: the same bytes as here, whatever dies; other software is refused."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from distributed import Client
from typer.testing import CliRunner

from dovetail.cli import app
from simulator import workers
from simulator.choices import trace_files
from simulator.daskpool import dask_pool
from simulator.errors import ClusterError
from simulator.fillrun import FillSpec
from simulator.quality.cases import plan
from simulator.quality.pool import run_cases
from simulator.quality.registry import chosen
from simulator.result import RunResult
from simulator.sweep import Plan, Sweep, run_sweep
from topology.errors import InvalidInputError

ROOT = Path(__file__).parents[2]
TRACE = ROOT / "examples" / "openb"
FILES = trace_files(TRACE, ["default"])
SPECS = Plan(
    nodes=FILES.nodes,
    pods=FILES.pods,
    arrivals=FILES.arrivals,
    policies=("fgd", "best-fit"),
    seeds=tuple(range(42, 47)),
).specs()
PATIENCE_S = 120.0
"""How long a process may take to do what is waited for, on a machine that does much else."""
HOLD = """
from pathlib import Path
from threading import Event

from simulator import sweep

attempt, begun = sweep._attempt, []


def held(spec):
    begun.append(spec)
    if len(begun) > {runs}:
        Path({sign!r}).touch()
        Event().wait({patience_s})
        raise TimeoutError("nobody killed this worker")
    return attempt(spec)


def dask_setup(worker):
    sweep._attempt = held
"""
"""What a worker imports before it starts so that it stays in the run after the first `runs`."""


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for: {what}"
        threading.Event().wait(0.02)


@dataclass
class Cluster:
    """A scheduler and workers, each a process of its own on loopback, without dashboards and nannies."""

    folder: Path
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def scheduler(self) -> subprocess.Popen[bytes]:
        file = self.folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show", "--scheduler-file", str(file)]
        # Scheduler and workers end by themselves even if the tests are killed.
        process = self.start(["scheduler", *options, "--idle-timeout", "10 minutes"])
        until(lambda: process.poll() is not None or _is_json(file), "the scheduler's address")
        self.address = json.loads(file.read_text())["address"]
        return process

    def worker(self, *, threads: int = 1, shadow: Path | None = None, first: str = "") -> subprocess.Popen[bytes]:
        """Start a worker; what `shadow` holds is imported instead of ours, and the code `first` is run first."""
        options = ["--host", "127.0.0.1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder)]
        options += ["--nthreads", str(threads), "--name", f"worker-{len(self.processes)}"]
        if first:
            preload = self.folder / f"first_{len(self.processes)}.py"
            preload.write_text(first)
            options += ["--preload", str(preload)]
        return self.start(
            ["worker", self.address, *options, "--death-timeout", "60"],
            PYTHONPATH=os.pathsep.join(str(path) for path in (shadow, ROOT) if path),
        )

    def holding_worker(self, runs: int) -> subprocess.Popen[bytes]:
        """Start a worker that makes `runs` runs and stays in the next: it has work until it is killed."""
        return self.worker(first=HOLD.format(runs=runs, sign=str(self.sign), patience_s=PATIENCE_S))

    @property
    def sign(self) -> Path:
        """What is there once a worker stays in a run."""
        return self.folder / "held"


def _is_json(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text()))
    except (OSError, ValueError):
        return False


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        cluster.scheduler()
        for _ in range(workers):
            cluster.worker()
        yield cluster
    finally:
        for process in cluster.processes:
            process.kill()
        for process in cluster.processes:
            process.wait()


@pytest.fixture(autouse=True)
def dropped_connections() -> Iterator[None]:
    """Collect here what Dask leaves open when a connection fails, lest its warnings end up in some other test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    with running(tmp_path, 0) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that no test harms."""
    with running(tmp_path_factory.mktemp("pair"), 2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def local() -> Sweep:
    return run_sweep(SPECS)


def sweep_on(
    cluster: Cluster, specs: Sequence[FillSpec] = SPECS, at_run: dict[int, Callable[[], object]] | None = None
) -> Sweep:
    """Run `specs` on `cluster` and call what `at_run` has for the number of runs that are finished."""
    finished: list[FillSpec] = []

    def progress(spec: FillSpec) -> None:
        finished.append(spec)
        (at_run or {}).get(len(finished), lambda: None)()

    with dask_pool(cluster.address, connect_s=5, workerless_s=PATIENCE_S) as pool:
        return run_sweep(specs, cluster=pool, progress=progress)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def interrupt() -> None:
    raise KeyboardInterrupt


def written(runs: Sequence[RunResult]) -> list[bytes]:
    """The runs as they are written to result.json."""
    return [msgspec.json.encode(run) for run in runs]


def test_where_runs_are_made_never_shows_in_the_result(pair: Cluster, local: Sweep) -> None:
    swept = sweep_on(pair)
    assert swept.complete
    assert written(swept.runs) == written(local.runs)


def test_a_killed_worker_loses_nothing(empty: Cluster, local: Sweep) -> None:
    victim = empty.holding_worker(runs=2)

    def kill_while_busy() -> None:
        until(empty.sign.exists, "the third run to begin")
        empty.worker()
        wait_for_workers(empty, 2)
        kill(victim)

    swept = sweep_on(empty, at_run={2: kill_while_busy})
    assert swept.complete
    assert written(swept.runs) == written(local.runs)


def test_files_survive_the_last_worker_that_held_them(empty: Cluster, local: Sweep) -> None:
    victim = empty.holding_worker(runs=3)

    def replace_it() -> None:
        kill(victim)
        empty.worker(threads=2)

    swept = sweep_on(empty, at_run={3: replace_it})
    assert swept.complete
    assert written(swept.runs) == written(local.runs)


def test_an_interrupt_keeps_what_is_finished_and_takes_back_the_rest(pair: Cluster, local: Sweep) -> None:
    swept = sweep_on(pair, at_run={3: interrupt})
    assert not swept.complete
    assert not swept.failure
    assert len(swept.runs) == 3
    assert set(written(swept.runs)) < set(written(local.runs))
    with Client(pair.address, set_as_default=False) as client:
        until(lambda: not any(client.processing().values()), "the workers to be idle")
        assert not any(client.has_what().values())


def test_a_lost_scheduler_ends_the_sweep_and_keeps_what_is_finished(tmp_path: Path, local: Sweep) -> None:
    with running(tmp_path, 0) as cluster:
        cluster.holding_worker(runs=3)
        swept = sweep_on(cluster, at_run={3: lambda: kill(cluster.processes[0])})
    assert not swept.complete
    assert f"{cluster.address}: the scheduler is gone" in swept.failure
    assert len(swept.runs) == 3
    assert set(written(swept.runs)) < set(written(local.runs))


def test_without_any_worker_a_sweep_gives_up_and_says_what_to_start(
    empty: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHECK_EVERY_S", 0.05)
    with dask_pool(empty.address, workerless_s=0.1) as pool:
        assert pool.threads == 0
        swept = run_sweep(SPECS, cluster=pool)
    assert swept.runs == ()
    assert f"start one with: dask worker {empty.address}" in swept.failure


def other_version(folder: Path, distribution: str) -> Path:
    """Return a folder in which `distribution` bears the version 0.0.1."""
    metadata = folder / f"{distribution}-0.0.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.0.1\n")
    return folder


@pytest.mark.parametrize("distribution", ["dovetail", "numba"])
def test_a_worker_with_another_version_is_refused_before_the_first_run(empty: Cluster, distribution: str) -> None:
    process = empty.worker(shadow=other_version(empty.folder, distribution))
    wait_for_workers(empty, 1, process)
    with (
        pytest.raises(ClusterError, match=rf"tcp://.*: {distribution} 0\.0\.1 \(here .*install the same versions"),
        dask_pool(empty.address),
    ):
        pass


def test_a_worker_with_another_version_that_joins_late_is_refused_too(empty: Cluster) -> None:
    with dask_pool(empty.address) as pool:
        empty.worker(shadow=other_version(empty.folder, "numba"))
        swept = run_sweep(SPECS, cluster=pool)
    assert not swept.complete
    assert "numba 0.0.1 (here" in swept.failure


def test_a_worker_without_dovetail_is_refused(empty: Cluster) -> None:
    """A package of our name that is not ours hides the real one."""
    (empty.folder / "hiding" / "simulator").mkdir(parents=True)
    (empty.folder / "hiding" / "simulator" / "__init__.py").touch()
    process = empty.worker(shadow=empty.folder / "hiding")
    wait_for_workers(empty, 1, process)
    with (
        pytest.raises(ClusterError, match=r"cannot load dovetail: .*No module named.*install"),
        dask_pool(empty.address),
    ):
        pass


def wait_for_workers(cluster: Cluster, count: int, *processes: subprocess.Popen[bytes]) -> None:
    with Client(cluster.address, set_as_default=False) as client:
        until(lambda: any(p.poll() is not None for p in processes) or len(client.nthreads()) >= count, "workers")


def test_bad_input_on_a_worker_names_the_file_as_the_user_did(pair: Cluster, tmp_path: Path) -> None:
    pods = tmp_path / "pods.csv"
    pods.write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,x,0\n")
    spec = FillSpec(nodes=FILES.nodes, pods=pods, arrivals=None, policy="fgd", seed=1)
    with pytest.raises(InvalidInputError, match="num_gpu") as raised:
        sweep_on(pair, [spec])
    assert str(pods) in str(raised.value)
    assert "dovetail-inputs" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tcp://127.0.0.1", "missing port"),
        ("127.0.0.1:8786x", "invalid literal"),
        ("foo://127.0.0.1:1", "unknown address scheme"),
        ("tls://127.0.0.1:1", "TLS"),
        # "refused", or nothing in time where the machine is busy.
        ("tcp://127.0.0.1:1", "answers there"),
    ],
)
def test_a_wrong_address_is_named_with_the_remedy(address: str, words: str) -> None:
    with pytest.raises(ClusterError, match=f"(?s){address}: no Dask scheduler.*{words}.*give the address"):
        dask_pool(address, connect_s=1).__enter__()


def test_the_address_of_a_worker_is_no_scheduler(pair: Cluster) -> None:
    wait_for_workers(pair, 2)
    with Client(pair.address, set_as_default=False) as client:
        worker = next(iter(client.nthreads()))
    with pytest.raises(ClusterError, match="a Worker answers there, no scheduler"):
        dask_pool(worker).__enter__()


def test_without_the_extra_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install 'dovetail\[dask\]'"):
        dask_pool("tcp://127.0.0.1:1").__enter__()


def test_the_flag_writes_the_bytes_of_one_local_process(pair: Cluster, tmp_path: Path) -> None:
    words = ["simulate", "--openb", str(TRACE), "--policy", "fgd", "--seeds", "42-44", "--placements"]
    for name, more in {"here": [], "there": ["--dask", pair.address]}.items():
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / name), *more])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "there" / "result.json").read_bytes() == (tmp_path / "here" / "result.json").read_bytes()


def test_the_quality_benchmark_gives_the_same_figures_there(pair: Cluster) -> None:
    cases = plan(chosen("M3"), seeds=1, arrivals=40)
    with dask_pool(pair.address) as pool:
        assert run_cases(cases, cluster=pool) == run_cases(cases)


def test_the_quality_benchmark_brings_its_trace_along(empty: Cluster) -> None:
    """A worker read the trace of its own source tree: another one there gave other figures."""
    nowhere = "from pathlib import Path; from simulator.quality import openbdata; openbdata.FOLDER = Path('nowhere')"
    empty.worker(first=nowhere)
    here = {"P": ("multigpu20", "multigpu30"), "R1": ("openb",)}
    cases = [
        case
        for case in (*plan(("P",), seeds=1), *plan(("P", "R1"), seeds=1, first_seed=7, arrivals=300))
        if case.scenario in here[case.suite] and case.policy in ("fgd", "dovetail")
    ]
    with dask_pool(empty.address, workerless_s=PATIENCE_S) as pool:
        assert run_cases(cases, cluster=pool) == run_cases(cases)


@pytest.mark.parametrize("more", [["--jobs", "2"], ["--protocol", "replay", "--cluster", "c", "--workload", "w"]])
def test_the_flag_goes_with_sweeps_and_without_jobs(more: list[str]) -> None:
    done = CliRunner().invoke(app, ["simulate", "--openb", str(TRACE), "--dask", "tcp://127.0.0.1:1", *more])
    assert done.exit_code == 2
    assert "--dask" in done.output
