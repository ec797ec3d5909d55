"""What a burst cost: processor time of every program while it lasted, requests and their time at the API server."""

from __future__ import annotations

import os
import re
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.controlplane import ControlPlane

TICKS = os.sysconf("SC_CLK_TCK")
EVERY_S = 0.05
_SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Series = Mapping[tuple[str, ...], float]


class CpuMeter:
    """Samples the processor time of processes, so that any interval can be asked for afterwards."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def between(self, begin_s: float, end_s: float) -> dict[str, float]:
        """Return seconds of processor time by process between two times of the Unix clock."""
        before = max((each for each in self._samples if each[0] <= begin_s), default=self._samples[0])[1]
        after = min((each for each in self._samples if each[0] >= end_s), default=self._samples[-1])[1]
        return {name: after[name] - before[name] for name in self._pids if name in after and name in before}

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            alive = {name: pid for name, pid in self._pids.items() if Path(f"/proc/{pid}").exists()}
            self._samples.append((time.time(), {name: used_s(pid) for name, pid in alive.items()}))


def used_s(pid: int) -> float:
    """Return the processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    """Return the memory of a process that is its own or shared, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mib(pid: int) -> float:
    """Return the most memory that a process had so far, MiB."""
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM:")]
    return int(line.split()[1]) / 2**10


def series(text: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric in Prometheus' text format, summed over all other labels."""
    found: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match and match[1] == name:
            given = dict(_LABEL.findall(match[2]))
            found[tuple(given.get(label, "") for label in labels)] += float(match[3])
    return dict(found)


def grown(before: Series, after: Series) -> dict[tuple[str, ...], float]:
    """Return by how much series grew, those that did."""
    growth = Counter(dict(after))
    growth.subtract(before)
    return {key: value for key, value in growth.items() if value > 0}


def api_metrics(plane: ControlPlane) -> str:
    """Return the API server's metrics."""
    client = plane.api._client  # noqa: SLF001
    answer = client.rest_client.pool_manager.request("GET", f"{plane.server}/metrics")
    return str(answer.data.decode())


def plain_metrics(url: str) -> str:
    """Return metrics that anybody may read."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


REQUESTS = ("apiserver_request_total", "verb", "resource", "subresource", "code")
TIME = ("apiserver_request_duration_seconds_sum", "verb", "resource", "subresource")
