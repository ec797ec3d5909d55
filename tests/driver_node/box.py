"""A GPU box: a real kubelet and containerd with the driver on a simulated machine, and pods that tell what they see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

from dovetail import sandbox_cmd_driver as driver_program
from dovetail.sandbox_cmd_driver import SimulatedGpus
from sandbox import kustomize, objects
from sandbox.api import ApiFault
from sandbox.controlplane import ControlPlane
from sandbox.node import Node
from sandbox.objects import Manifest
from sandbox.testbed import INVENTORY, Testbed
from sandbox.waiting import NotYet, wait_for
from twin import Twin

DRIVER = "gpu.dovetail.dev"
CLAIM_CLASS = {
    "gpu": DRIVER,
    "mig": f"mig.{DRIVER}",
    "time-slicing": f"time-slicing.{DRIVER}",
    "mps": f"mps.{DRIVER}",
}
RUN_S = 60.0
RETRY_S = 180.0
"""The kubelet tries again after 60 to 90 s, where it has no reason to do so sooner (`resyncInterval`)."""
ANSWER_S = 5.0
PROBE = """\
exec 2>&1
env | grep -E '^(DOVETAIL_|NVIDIA_|CUDA_)' | sort
for node in $(find /dev -type c -path '*nvidia*' | sort); do stat -c 'NODE %n %t %T' $node; done
for library in /usr/lib/*/libcuda.so.1; do [ -e $library ] && echo "LIBRARY $library"; done
for number in $NUMBERS; do
  major=${number%%:*}; minor=${number##*:}
  mknod /tmp/probe c $major $minor || echo "MKNOD $number"
  if (: < /tmp/probe) 2> /tmp/said; then echo "OPEN $number opened"
  else case "$(cat /tmp/said)" in
    *'Operation not permitted'*) echo "OPEN $number EPERM" ;;
    *'No such device'*) echo "OPEN $number ENXIO" ;;
    *) echo "OPEN $number $(cat /tmp/said)" ;;
  esac; fi
  rm -f /tmp/probe
done
echo DONE
"""
"""ENXIO: the device cgroup let it pass, and no kernel module is behind the number. EPERM: the cgroup refused it."""


@dataclass(frozen=True, slots=True)
class View:
    """What a container says of itself."""

    environment: Mapping[str, str]
    nodes: Mapping[str, tuple[int, int]]
    """Path of a device node -> major, minor."""
    libraries: tuple[str, ...]
    opened: Mapping[tuple[int, int], str]
    """Number of a device -> EPERM, ENXIO or another answer to opening it."""

    @property
    def passed(self) -> set[tuple[int, int]]:
        """Numbers that the device cgroup lets pass."""
        return {number for number, answer in self.opened.items() if answer != "EPERM"}

    @property
    def gpus(self) -> set[int]:
        """Minors of the GPUs whose device nodes it has."""
        found = (re.fullmatch(r"/dev/nvidia(\d+)", path) for path in self.nodes)
        return {int(match[1]) for match in found if match}

    @property
    def capabilities(self) -> int:
        """How many device nodes of MIG capabilities it has."""
        return sum(path.startswith("/dev/nvidia-caps/") for path in self.nodes)

    @property
    def devices(self) -> dict[str, str]:
        """UUIDs of the devices that it was told of, by their names as variables have them."""
        prefix = "DOVETAIL_DEVICE_"
        return {name.removeprefix(prefix): value for name, value in self.environment.items() if name.startswith(prefix)}

    @classmethod
    def read(cls, said: str) -> View:
        """Read what PROBE prints."""
        assert said.rstrip().endswith("DONE"), said
        lines = said.splitlines()
        nodes = [line.split()[1:] for line in lines if line.startswith("NODE ")]
        answers = [line.split(maxsplit=2)[1:] for line in lines if line.startswith("OPEN ")]
        variables = [re.match(r"([A-Z0-9_]+)=(.*)", line) for line in lines]
        return cls(
            environment={found[1]: found[2] for found in variables if found},
            nodes={path: (int(major, 16), int(minor, 16)) for path, major, minor in nodes},
            libraries=tuple(line.split()[1] for line in lines if line.startswith("LIBRARY ")),
            opened={_number(number): answer for number, answer in answers},
        )


def _instance_minors(gpus: int) -> Iterator[int]:
    """Yield minors of MIG capabilities: of the last GPU, which is divided first, all instances; of the others some.

    The kernel numbers them by GPU, GPU instance (15) and compute instance (8), from 3 on.
    """
    for gpu in range(gpus):
        for instance in range(15 if gpu == gpus - 1 else 2):
            first = 3 + (gpu * 15 + instance) * 9
            yield from (first, first + 1)


def _number(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(":")
    return int(major), int(minor)


class Bed(Testbed):
    """One test's namespace; DeviceClasses and slices stay, as the driver lives longer than the test."""

    def get_claim(self, name: str) -> Manifest:
        """Return a ResourceClaim as it is stored."""
        return self.api.get(claim(self.namespace, name))

    def close(self, *, timeout_s: float = 30.0) -> None:
        """Remove what the test made."""
        try:
            self.remove_workload(timeout_s=timeout_s)
        finally:
            self.api.delete(objects.namespace(self.namespace))


@dataclass
class Box:
    """One node with its GPUs."""

    plane: ControlPlane
    node: Node
    gpus: SimulatedGpus
    options: tuple[str, ...] = ()

    @property
    def twin(self) -> Twin:
        """The simulated machine."""
        return Twin.open(self.gpus.state)

    def start_driver(self) -> None:
        """Run the driver as a process and wait until it is ready."""
        driver_program.start(self.plane, self.node, self.gpus, *self.options)

    def restart_driver(self) -> None:
        """Start the driver again as it was started, and wait until it is ready."""
        self.node.programs.restart(driver_program.NAME)
        self.node.wait_healthy(driver_program.NAME)

    def bed(self) -> Bed:
        """Return a namespace for one test."""
        bed = Bed(self.plane)
        bed.open()
        return bed

    def numbers(self) -> list[str]:
        """Return the numbers of all devices that a driver of this machine could have, `major:minor`."""
        majors = {}
        for line in (self.gpus.tree / "proc" / "devices").read_text().splitlines():
            words = line.split()
            if len(words) == 2 and words[1].startswith("nvidia"):
                majors.setdefault(words[1], int(words[0]))
        gpus = [f"{majors['nvidia']}:{minor}" for minor in [*range(9), 254, 255]]
        caps = [f"{majors['nvidia-caps']}:{minor}" for minor in (1, 2, *_instance_minors(len(self.twin.facts.gpus)))]
        uvm = [f"{majors['nvidia-uvm']}:{minor}" for minor in range(2)]
        return [*gpus, *uvm, *caps]

    def instances(self, minor: int) -> list[Any]:
        """Return the GPU instances of a GPU."""
        return list(self.twin.state.gpus[minor].instances)

    def records(self) -> list[dict[str, Any]]:
        """Return the journal's records."""
        folder = self.node.paths.kubelet_root / "plugins" / DRIVER / "claims"
        found = []
        for path in sorted(folder.glob("*.json")):
            with suppress(FileNotFoundError):  # a claim that was just unprepared
                found.append(json.loads(path.read_text().partition("\n")[2]))
        return found

    def calls(self, method: str) -> int:
        """Return how many claims the kubelet has asked for with a method, by the metrics of the driver's process."""
        url = self.node.programs.status()[driver_program.NAME].health
        assert isinstance(url, str)
        with urlopen(url.replace("/readyz", "/metrics"), timeout=ANSWER_S) as answer:
            lines = answer.read().decode().splitlines()
        counts = [line.rsplit(" ", 1) for line in lines if line.startswith("dovetail_driver_claims_total{")]
        return sum(int(float(count)) for name, count in counts if f'method="{method}"' in name)

    def waits_with(self, bed: Bed, pod: Manifest, text: str) -> None:
        """Wait until the kubelet says why a pod does not start; it must be Pending then."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]

        def look() -> bool | NotYet:
            said = [
                each["message"]
                for each in bed.api.list("v1", "Event", namespace)
                if each["involvedObject"]["name"] == name and each["reason"] == "FailedPrepareDynamicResources"
            ]
            return True if any(text in each for each in said) else NotYet(str(said))

        wait_for(f"an event of {name} with {text!r}", look, timeout_s=RETRY_S)
        assert bed.api.get(pod)["status"]["phase"] == "Pending"

    def workload(self) -> Manifest:
        """Return a reference to the DaemonSet."""
        return {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"namespace": "dovetail-driver", "name": "dovetail-driver"},
        }

    def slices(self) -> list[Manifest]:
        """Return the driver's slices of this node."""
        stored = self.plane.api.list(objects.RESOURCE_API, "ResourceSlice")
        return [
            each
            for each in stored
            if each["spec"].get("nodeName") == self.node.name and each["spec"]["driver"] == DRIVER
        ]

    def probing(self, namespace: str, name: str, claims: Mapping[str, str], *containers: Manifest) -> Manifest:
        """Return a pod whose containers print their views and stay; `claims`: name in the pod -> ResourceClaim."""
        variables = [{"name": "NUMBERS", "value": " ".join(self.numbers())}]
        pod = objects.pod(namespace, name, command=["sh", "-c", f"{PROBE}exec sleep 3600"])
        (main,) = pod["spec"]["containers"]
        pod["spec"]["resourceClaims"] = [{"name": each, "resourceClaimName": is_} for each, is_ in claims.items()]
        pod["spec"]["containers"] = [{**main, "env": variables, **each} for each in containers]
        return pod

    def run(self, bed: Bed, pod: Manifest) -> dict[str, View]:
        """Run a pod; return what each of its containers sees."""
        bed.run(pod, timeout_s=RUN_S)
        return {each["name"]: self.view(pod, each["name"]) for each in pod["spec"]["containers"]}

    def view(self, pod: Manifest, container: str) -> View:
        """Wait until a container has printed its view."""
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log?container={container}"

        def look() -> str | NotYet:
            try:
                said = self.plane.api.raw(path)
            except ApiFault as fault:  # it has not started
                return NotYet(str(fault.reason))
            return said if said.rstrip().endswith("DONE") else NotYet(said[-200:] or "nothing said")

        return View.read(wait_for(f"the view of {metadata['name']}/{container}", look, timeout_s=RUN_S))


@contextmanager
def box(
    plane: ControlPlane, machine: str, name: str, *options: str, prepare: Callable[[Twin], None] = lambda _: None
) -> Iterator[Box]:
    """Start a box and wait until its driver is ready; `prepare` changes the machine before that."""
    with bare_box(plane, machine, name, *options) as here:
        prepare(here.twin)
        here.start_driver()
        yield here


@contextmanager
def bare_box(plane: ControlPlane, machine: str, name: str, *options: str) -> Iterator[Box]:
    """Start a box without a driver; the rights of one are on the API server. No devices or classes stay behind."""
    kustomize.apply(plane.kubeconfig, kustomize.without_workloads(driver_program.manifests()))
    try:
        with Node.start(plane, name) as node:
            yield Box(plane, node, SimulatedGpus.create(node, machine), options)
    finally:
        for api_version, kind in INVENTORY:
            plane.api.delete_all(api_version, kind)


def claim(namespace: str, name: str, *requests: Manifest, **devices: Any) -> Manifest:
    """Return a ResourceClaim of these requests; `devices` adds constraints and config."""
    return {
        "apiVersion": objects.RESOURCE_API,
        "kind": "ResourceClaim",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"devices": {"requests": list(requests), **devices}},
    }


def request(
    name: str, kind: str, *selectors: str, count: int = 1, capacity: Mapping[str, str] | None = None
) -> Manifest:
    """Return a request for `count` devices of a kind of CLAIM_CLASS."""
    exactly: Manifest = {"deviceClassName": CLAIM_CLASS[kind], "allocationMode": "ExactCount", "count": count}
    if selectors:
        exactly["selectors"] = [{"cel": {"expression": each}} for each in selectors]
    if capacity:
        exactly["capacity"] = {"requests": dict(capacity)}
    return {"name": name, "exactly": exactly}


def uses(name: str, *requests: str, claim: str = "gpu") -> Manifest:
    """Return a container that uses these requests of the pod's claim, or all of it."""
    claims = [{"name": claim, "request": each} for each in requests] or [{"name": claim}]
    return {"name": name, "resources": {"claims": claims}}


def allocated(stored: Manifest) -> list[str]:
    """Return the names of the devices of a claim."""
    return [each["device"] for each in stored["status"]["allocation"]["devices"]["results"]]
