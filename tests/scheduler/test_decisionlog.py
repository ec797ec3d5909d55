"""The decision log holds enough to make every decision again, whatever happened between, in each of its files."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from kube.cluster import ClusterSettings
from kube.kinds import CLAIMS, CLASSES, NAMESPACES, NODES, PODS, SLICES
from kube.objects import DeviceClass, Namespace, ResourceSlice
from packing.dra.model import Allocation
from packing.mix import DemandMix
from packing.model import Demand, WholeRequest
from scheduler.decisionlog import LoggedCluster
from scheduler.replay import replay
from tests.kube import builders
from topology.errors import InvalidInputError

SEED = 11
MACHINES = {"a-0": "a100-8-pcie-nvlink-pairs", "a-1": "a100-8-pcie-nvlink-pairs", "h-0": "hgx-h100-8"}
CLASS = {
    "metadata": {"name": builders.DRIVER},
    "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{builders.DRIVER}"'}}]},
}


class Story:
    """A cluster to which things happen at random."""

    def __init__(self, path: Path, *, max_mib: int = 1, mix: DemandMix | None = None) -> None:
        self.random = random.Random(SEED)
        self.cluster = LoggedCluster(ClusterSettings(mix=mix), path, max_mib=max_mib)
        self.decisions = 0
        self.version = 1
        self.held: dict[str, tuple[object, Allocation]] = {}
        self.allocated: dict[str, str] = {}
        self.cluster.replace(NAMESPACES, [builders.decoded({"metadata": {"name": "default"}}, Namespace)])
        self.cluster.replace(CLASSES, [builders.decoded(CLASS, DeviceClass)])
        self.cluster.replace(NODES, [builders.node(name) for name in MACHINES])
        self.cluster.replace(SLICES, [each for name in MACHINES for each in self.slices(name)])
        self.cluster.replace(PODS, [])

    def slices(self, node: str, generation: int = 1) -> list[ResourceSlice]:
        return builders.machine_slices(MACHINES[node], node, generation=generation)

    def pod(self, number: int, count: int) -> None:
        """A pod with a claim comes and is decided; what it gets is held."""
        name = f"p-{number}"
        request = {"name": "gpu", "exactly": {"deviceClassName": builders.DRIVER, "count": count}}
        self.cluster.put(builders.claim(name, requests=[request], uid=f"uid-{name}"))
        resolved = self.cluster.resolve(builders.pod(name, claims=[name]))
        among = None if self.random.random() < 0.5 else self.random.sample(list(MACHINES), 2)
        decided = self.cluster.decide(resolved, among, slack=self.random.choice((0.0, 2.0)))
        self.decisions += 1
        if decided.allocation is not None:
            self.cluster.hold((decided.allocation.node, name), resolved, decided.allocation)
            self.held[name] = ((decided.allocation.node, name), decided.allocation)

    def settle(self) -> None:
        """What was held is allocated and the pod bound, or it is dropped."""
        if not self.held:
            return
        name = self.random.choice(sorted(self.held))
        key, allocation = self.held.pop(name)
        if self.random.random() < 0.3:
            self.cluster.drop(key)
            return
        results = [
            {
                "request": each.request,
                "driver": each.device.driver,
                "pool": each.device.pool,
                "device": each.device.name,
            }
            for each in allocation.claims[0]
        ]
        self.cluster.put(
            builders.claim(name, results, on=allocation.node, uid=f"uid-{name}", reserved_for=[f"uid-{name}"])
        )
        self.cluster.drop(key)
        self.cluster.put(builders.pod(name, on=allocation.node, claims=[name], phase="Running"))
        self.allocated[name] = allocation.node

    def leave(self) -> None:
        if self.allocated:
            name = self.random.choice(sorted(self.allocated))
            node = self.allocated.pop(name)
            self.cluster.remove(builders.pod(name, on=node, claims=[name]))
            self.cluster.remove(builders.claim(name, uid=f"uid-{name}"))

    def renew(self) -> None:
        """A node's resource slices are published anew."""
        self.version += 1
        for each in self.slices(self.random.choice(list(MACHINES)), self.version):
            self.cluster.put(each)

    def tell(self, steps: int) -> None:
        for number in range(steps):
            self.pod(number, self.random.choice((1, 1, 2, 4)))
            self.settle()
            if self.random.random() < 0.6:
                self.leave()
            if number % 50 == 49:
                self.renew()
            if number % 70 == 69:
                self.cluster.put(builders.node("a-0", zone=f"z-{number}"))
        self.cluster.close()


def test_every_decision_of_every_file_comes_out_the_same(tmp_path: Path) -> None:
    story = Story(tmp_path / "log")
    story.tell(400)
    files = sorted(tmp_path.iterdir())
    replayed = [each for file in files for each in replay(file)]
    assert len(files) > 1, "the story is long enough for several files"
    assert [each for each in replayed if not each.same] == []
    assert len(replayed) == story.decisions
    assert {each.now["allocation"] is None for each in replayed} == {True, False}, "some fit, some do not"


def test_a_decision_that_was_changed_is_found(tmp_path: Path) -> None:
    Story(tmp_path / "log").tell(5)
    lines = (tmp_path / "log").read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if '"record":"decision"' in line)
    (tmp_path / "log").write_text("".join([*lines[:at], lines[at].replace('"gpu-', '"gpu-1'), *lines[at + 1 :]]))
    assert [each.line for each in replay(tmp_path / "log") if not each.same] == [at + 1]


def test_a_given_mix_is_asked_for_and_recognised(tmp_path: Path) -> None:
    mix = DemandMix.from_demands([(Demand(requests=(WholeRequest(count=4),)), 3)])
    Story(tmp_path / "log", mix=mix).tell(5)
    assert all(each.same for each in replay(tmp_path / "log", mix))
    other = DemandMix.from_demands([(replace(mix.counts[0][0], cpu_milli=1), 3)])
    for wrong in (None, other):
        with pytest.raises(InvalidInputError, match="--mix"):
            list(replay(tmp_path / "log", wrong))


def test_a_line_cut_off_by_the_end_of_the_process_ends_the_story(tmp_path: Path) -> None:
    Story(tmp_path / "log").tell(5)
    whole = (tmp_path / "log").read_text()
    (tmp_path / "log").write_text(whole[:-20])
    assert all(each.same for each in replay(tmp_path / "log"))
    (tmp_path / "log").write_text(whole[: len(whole) // 2] + "\n" + whole)
    with pytest.raises(InvalidInputError, match="is no record of a decision log"):
        list(replay(tmp_path / "log"))


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    story = Story(tmp_path / "log")
    story.cluster.put(builders.node("evil\x1b[2J\u202e"))
    story.cluster.close()
    text = (tmp_path / "log").read_text(encoding="ascii")
    assert all(character == "\n" or character.isprintable() for character in text)
    assert any("evil\x1b[2J\u202e" in str(json.loads(line)) or "evil" in line for line in text.splitlines())


def test_a_claim_relisted_and_a_pod_relisted_are_followed(tmp_path: Path) -> None:
    story = Story(tmp_path / "log")
    story.tell(20)
    story.cluster._log._begin()
    claims = [each for each in story.cluster.store.claims if each.metadata.name in story.allocated]
    story.cluster.replace(CLAIMS, claims)
    story.cluster.replace(PODS, [builders.pod(name, on=node) for name, node in story.allocated.items()][:1])
    story.pod(999, 2)
    story.cluster.close()
    assert [each.same for each in replay(tmp_path / "log")] == [True]
