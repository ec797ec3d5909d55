"""Runs random cases through a real kube-scheduler and holds what it allocated against what we had predicted.

Each node is one case at a time: what is in use there was left by the cases before it, by claims of "another scheduler"
and by pods that went away. All nodes are asked at once; pods are pinned to theirs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dovetail import sandbox_cmd_gpus as gpus
from dra_driver.publish import DRIVER_NAME
from kube.cluster import Cluster, ClusterSettings
from kube.objects import Pod
from kube.quantity import parse_quantity
from kube.refusal import Refusal
from kube.snapshot import read_snapshot
from packing.dra.model import Given
from sandbox import objects
from sandbox.objects import Manifest
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from tests.kube.builders import decoded
from tests.manifests.fixtures import allocated
from tests.scheduler.randomcases import Cases, classes

READ = (
    ("v1", "Node"),
    ("v1", "Namespace"),
    (objects.RESOURCE_API, "ResourceSlice"),
    (objects.RESOURCE_API, "DeviceClass"),
    (objects.RESOURCE_API, "ResourceClaim"),
)
WRITERS = 8
LEAVES, PRESET = 0.35, 0.6
"""Shares of pods that end after a round, and of nodes where another scheduler has given devices away."""


@dataclass(slots=True)
class Tally:
    """What came of the cases. `differing` are whole: prediction, allocation, claims."""

    same: int = 0
    none_both: int = 0
    differing: list[Manifest] = field(default_factory=list)
    unheard: Counter[str] = field(default_factory=Counter)
    """Cases that say nothing: reasons."""

    @property
    def allocated(self) -> int:
        """Cases in which kube-scheduler allocated."""
        return self.same + sum(case["allocated"] is not None for case in self.differing)

    def __str__(self) -> str:
        return (
            f"{self.allocated} allocated, {self.same} as predicted; {self.none_both} impossible to both; "
            f"{len(self.differing)} differ; not heard of: {dict(self.unheard)}"
        )


class Agreement:
    """Nodes with random devices on a control plane, and rounds of random pods."""

    def __init__(self, testbed: Testbed, nodes: int, seed: int) -> None:
        self.testbed = testbed
        self.api = testbed.api
        self.cases = Cases(seed)
        self.tally = Tally()
        self.names = [f"case-{number:03}" for number in range(nodes)]
        self.alive: list[tuple[str, list[str]]] = []
        """Pods that hold devices, with their claims."""
        self._before: list[Manifest] = []
        """All that a prediction was made from."""

    def prepare(self) -> None:
        """Create nodes, slices, classes, and claims of another scheduler."""
        label = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
        self.api.patch(objects.namespace(self.testbed.namespace), label)
        self.testbed.add_nodes(*(objects.node(name) for name in self.names))
        uids = {node["metadata"]["name"]: node["metadata"]["uid"] for node in self.api.list("v1", "Node")}
        slices = [each for name in self.names for each in self.cases.slices(name, uids[name])]
        self._create(slices)
        self.testbed.create(*gpus.class_manifests(), *classes())
        for name in self.names:
            if self.cases.draw.random() < PRESET:
                self._preset(name, slices)

    def round(self, number: int) -> None:
        """Predict and schedule one pod per node, compare, and let some go."""
        pods = [self._pod(node, number) for node in self.names]
        claims = [
            self.cases.claim(self.testbed.namespace, each["resourceClaimName"], node_of(pod))
            for pod in pods
            for each in pod["spec"]["resourceClaims"]
        ]
        self._create(claims)
        predicted = dict(self._predict(pods))
        self._create(pods)
        scheduled = self._wait(pods)
        stored = {each["metadata"]["name"]: each for each in self._claims()}
        for pod in pods:
            if pod["metadata"]["name"] not in scheduled:
                self.tally.unheard["evicted for the taint of a device before it was seen"] += 1
                continue
            self._compare(pod, predicted[pod["metadata"]["name"]], scheduled[pod["metadata"]["name"]], stored)
        self._let_go(pods, scheduled)

    def _create(self, manifests: list[Manifest]) -> None:
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(self.api.create, manifests))

    def _claims(self) -> list[Manifest]:
        return self.api.list(objects.RESOURCE_API, "ResourceClaim", self.testbed.namespace)

    def _preset(self, node: str, slices: list[Manifest]) -> None:
        """Give some whole GPUs or partitions away, as a scheduler that knows nothing of first fit."""
        draw = self.cases.draw
        specs = [each["spec"] for each in slices if each["spec"]["driver"] == DRIVER_NAME]
        names = [
            (spec["pool"]["name"], device["name"])
            for spec in specs
            if spec.get("nodeName") == node
            for device in spec.get("devices", [])
            if not device.get("allowMultipleAllocations")
        ]
        given = draw.sample(names, min(len(names), draw.randint(1, 3)))
        claim = objects.claim(self.testbed.namespace, f"preset-{node}", DRIVER_NAME)
        self.api.create(claim)
        self.api.patch(claim, allocated(DRIVER_NAME, given[0][0], *(name for _, name in given)), subresource="status")

    def _pod(self, node: str, number: int) -> Manifest:
        name = f"{node}-{number}"
        used = [f"{name}-{letter}" for letter in "ab"[: 1 + (self.cases.draw.random() < 0.2)]]
        pod = objects.pod(self.testbed.namespace, name, claim=used[0], nodeSelector={"kubernetes.io/hostname": node})
        pod["spec"]["resourceClaims"] = [{"name": each[-1], "resourceClaimName": each} for each in used]
        pod["spec"]["containers"][0]["resources"] = {"claims": [{"name": each[-1]} for each in used]}
        return pod

    def _predict(self, pods: list[Manifest]) -> Iterator[tuple[str, list[list[Manifest]] | str | None]]:
        """Yield per pod what each of its claims would get on its node, None where that is nothing; or why not."""
        stored = [{"kind": f"{kind}List", "items": self.api.list(version, kind)} for version, kind in READ]
        self._before = stored
        found = [each for one in stored for each in read_snapshot(one).objects]
        cluster = Cluster.from_snapshot(found, ClusterSettings(every_driver=True))
        for pod in pods:
            name = pod["metadata"]["name"]
            try:
                resolved = cluster.resolve(decoded(pod | {"status": {}}, Pod))
            except Refusal as refusal:
                yield name, f"refused: {refusal.text}"
                continue
            predictions = cluster.predict(resolved, (node_of(pod),))
            if not predictions:
                yield name, None
                continue
            yield (
                name,
                [[_plain(given) for given in claim] for claim in predictions[0][0].claims],
            )

    def _wait(self, pods: list[Manifest]) -> dict[str, bool]:
        """Return per pod that is still there whether it was scheduled."""
        wanted = {pod["metadata"]["name"] for pod in pods}

        def all_told() -> dict[str, bool] | NotYet:
            told = {}
            stored = self.api.list("v1", "Pod", self.testbed.namespace)
            left = wanted & {pod["metadata"]["name"] for pod in stored}
            for pod in stored:
                conditions = pod.get("status", {}).get("conditions", [])
                said = next((each for each in conditions if each["type"] == "PodScheduled"), None)
                if pod["metadata"]["name"] in wanted and said is not None:
                    told[pod["metadata"]["name"]] = said["status"] == "True"
            return told if len(told) == len(left) else NotYet(f"{len(told)} of {len(left)}")

        return wait_for("kube-scheduler to tell of all pods", all_told, timeout_s=240, every_s=0.3)

    def _compare(
        self,
        pod: Manifest,
        predicted: list[list[Manifest]] | str | None,
        scheduled: bool,
        stored: dict[str, Manifest],
    ) -> None:
        claims = [stored[each["resourceClaimName"]] for each in pod["spec"]["resourceClaims"]]
        got = [_results(claim) for claim in claims] if scheduled else None
        if got == predicted:
            self.tally.same += got is not None
            self.tally.none_both += got is None
            return
        if isinstance(predicted, str) and got is None:
            self.tally.unheard[predicted.split(":")[0]] += 1
            return
        case = {
            "pod": pod["metadata"]["name"],
            "predicted": predicted,
            "allocated": got,
            "claims": [claim["spec"] for claim in claims],
            "event": "" if scheduled else self.api.events(pod),
            "before": self._before,
        }
        self.tally.differing.append(case)

    def _let_go(self, pods: list[Manifest], scheduled: dict[str, bool]) -> None:
        """End pods that wait for nothing, and some that run; wait until their claims are free."""
        for pod in pods:
            names = [each["resourceClaimName"] for each in pod["spec"]["resourceClaims"]]
            self.alive.append((pod["metadata"]["name"], names))
        over = [each for each in self.alive if not scheduled.get(each[0], True) or self.cases.draw.random() < LEAVES]
        self.alive = [each for each in self.alive if each not in over]
        gone = {claim for _, claims in over for claim in claims}
        namespace = self.testbed.namespace
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(lambda each: self.api.delete(objects.pod(namespace, each[0]), grace_s=0), over))
            list(writers.map(lambda name: self.api.delete(objects.claim(namespace, name, "")), sorted(gone)))

        def all_gone() -> bool | NotYet:
            left = {each["metadata"]["name"] for each in self._claims()} & gone
            return not left or NotYet(f"{len(left)} left")

        wait_for("claims to go", all_gone, timeout_s=60, every_s=0.3)


def _results(claim: Manifest) -> list[Manifest]:
    results = claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
    return [
        {
            "request": each["request"],
            "device": [each["driver"], each["pool"], each["device"]],
            "admin": each.get("adminAccess", False),
            "consumed": _amounts(each.get("consumedCapacity") or {}),
        }
        for each in results
    ]


def _plain(given: Given) -> Manifest:
    consumed = {name: int(amount) for name, amount in (given.consumed or {}).items()}
    return {"request": given.request, "device": list(given.device), "admin": given.admin, "consumed": consumed}


def _amounts(quantities: Manifest) -> dict[str, int]:
    return {name: int(parse_quantity(text)) for name, text in quantities.items()}


def node_of(pod: Manifest) -> str:
    """Return the node that a pod is pinned to."""
    return str(pod["spec"]["nodeSelector"]["kubernetes.io/hostname"])


def run(testbed: Testbed, *, nodes: int, rounds: int, seed: int) -> Tally:
    """Return what came of `nodes` x `rounds` cases."""
    agreement = Agreement(testbed, nodes, seed)
    agreement.prepare()
    for number in range(rounds):
        agreement.round(number)
        print(f"seed {seed}, round {number}: {agreement.tally}")  # noqa: T201 - takes minutes
    return agreement.tally


def write(tally: Tally, path: Path) -> None:
    """Write the cases that differ, one per line."""
    path.write_text("".join(json.dumps(case) + "\n" for case in tally.differing))
