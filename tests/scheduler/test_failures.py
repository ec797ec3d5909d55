"""Whatever goes wrong at whichever write, no device ends in two claims, none with nobody, and the pod gets its own.

Each test lets everything go wrong at once, a pod for each case: what the proxy holds or refuses is exactly one call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sandbox import objects
from sandbox.api import Manifest
from sandbox.chaos.faults import Action, Answer, Armed, Delay, Fault, Gate, Match, Reset
from sandbox.controlplane import ControlPlane
from sandbox.schedulers import SchedulerOptions, SecondScheduler
from tests.scheduler.harness import allocate_configuration
from tests.scheduler.invariants import check
from tests.scheduler.lab import EXTENDED_WRITES, WRITES, Lab, gpu_slice

pytestmark = pytest.mark.cluster

NODES = 8


@pytest.fixture(scope="module")
def shared_lab(control_plane: ControlPlane) -> Iterator[Lab]:
    with Lab.on(control_plane, nodes=NODES) as lab:
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    yield shared_lab
    shared_lab.clear()


def cases() -> list[tuple[str, Match, bool]]:
    """Name of a pod, a write of it, and whether it asks by an extended resource."""
    named = [(write, match, False) for write, match in WRITES.items()]
    return named + [(f"extended-{write}", match, True) for write, match in EXTENDED_WRITES.items()]


def create(lab: Lab, name: str, *, extended: bool) -> None:
    if extended:
        lab.extended_pod(name)
    else:
        lab.pod(name)


def test_an_extender_killed_before_and_after_every_write(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    """One kill, with a pod standing before and a pod standing behind each of its writes."""
    pods: list[str] = []
    with ExitStack() as stack:
        armed: list[Armed] = []
        for name, write, _ in cases():
            for moment in ("before", "after"):
                pods.append(f"{name}-{moment}")
                after = moment == "after"
                skip = int(after and "creation" in name)  # which cannot be told from the other one by its name
                armed.append(stack.enter_context(lab.fault(write, pods[-1], Gate(), forwarded=after, skip=skip)))
        for name, _, extended in cases():
            for moment in ("before", "after"):
                create(lab, f"{name}-{moment}", extended=extended)
        lab.wait_acted(armed)
        assert lab.waiting(armed)
        lab.extender.kill()
    check(lab.api)
    beside = lab.testbed.run(objects.pod(lab.namespace, "of-another-scheduler"))
    assert beside["spec"]["schedulerName"] == "default-scheduler"
    pods.append("meanwhile")
    lab.api.wait(lab.pod("meanwhile"), lab.says("connection refused"))
    lab.extender.restart()
    ready_s = time.monotonic()
    lab.wait_bound(pods)
    record_property("bound_after_recovery_s", round(time.monotonic() - ready_s, 1))
    check(lab.api)


FAULTS: dict[str, tuple[Action, bool]] = {
    "conflict": (Answer(409), False),
    "busy": (Answer(429, retry_after_s=1), False),
    "error": (Answer(500), False),
    "error-after": (Answer(500), True),
    "cut": (Reset(), False),
    "cut-after": (Reset(), True),
    "slow": (Delay(6.5), False),
    "slow-after": (Delay(6.5), True),
}
"""What happens to a write, and whether after it is done. The slow ones take longer than a write of ours may."""


def test_every_write_refused_lost_and_late(lab: Lab) -> None:
    pods: list[str] = []
    with ExitStack() as stack:
        armed: list[Armed] = []
        for name, write, _ in cases():
            for fault, (action, forwarded) in FAULTS.items():
                pods.append(f"{name}-{fault}")
                armed.append(stack.enter_context(lab.fault(write, pods[-1], action, forwarded=forwarded)))
        for name, _, extended in cases():
            for fault in FAULTS:
                create(lab, f"{name}-{fault}", extended=extended)
        lab.wait_bound(pods)
        assert [each.fault for each in armed if each.acted != 1] == []


@pytest.fixture
def impatient(lab: Lab) -> Iterator[str]:
    """Another kube-scheduler of the same extender, which waits for answers for a second; returns its name for pods."""
    name = "impatient"
    content = allocate_configuration(lab.ours.extender.port)
    (profile,), (extender,) = content["profiles"], content["extenders"]
    profile["schedulerName"], extender["httpTimeout"] = name, "1s"
    options = SchedulerOptions(configuration=content)
    scheduler = SecondScheduler.start(lab.testbed.control_plane, f"{name}-kube-scheduler", options)
    yield name
    scheduler.stop()


def test_a_bind_that_is_answered_too_late(lab: Lab, impatient: str) -> None:
    """kube-scheduler has given the pod up, and asks where it could go, while it is being bound."""
    pods: list[str] = []
    with ExitStack() as stack:
        armed: list[Armed] = []
        for write, match in WRITES.items():
            for moment in ("before", "after"):
                pods.append(f"{write}-{moment}")
                armed.append(stack.enter_context(lab.fault(match, pods[-1], Delay(3), forwarded=moment == "after")))
                lab.pod(pods[-1], scheduler=impatient)
        lab.wait_bound(pods)
        assert [each.fault for each in armed if each.acted != 1] == []
    late = [each for pod in pods if "deadline exceeded" in (each := lab.api.events(pod_named(lab, pod)))]
    assert late, "no bind was answered too late"


def test_an_api_server_that_takes_a_second_for_everything(lab: Lab) -> None:
    calls = Match(verbs=["get", "list", "create", "patch", "delete"])
    with lab.proxy.fault(Fault(match=calls, action=Delay(1))):
        pods = [f"slow-{number}" for number in range(4)]
        for pod in pods:
            lab.pod(pod)
        lab.wait_bound(pods)


def pod_named(lab: Lab, name: str) -> Manifest:
    return objects.pod(lab.namespace, name)


CLAIM_GONE = "was deleted|does not exist"
"""`bind` says the one; where kube-scheduler no longer waits for its answer, the next `filter` says the other."""
GOES: dict[str, tuple[str, str]] = {
    "pod-allocation": ("allocation", ""),
    "pod-binding": ("binding", ""),
    "claim-finalizer": ("finalizer", CLAIM_GONE),
    "claim-allocation": ("allocation", CLAIM_GONE),
    "claim-binding": ("binding", "Successfully assigned"),
    "new-claim-allocation": ("allocation", "Successfully assigned"),
    "node-binding": ("binding", "Successfully assigned"),
    "node-allocation": ("allocation", "node leaving was deleted"),
}
"""What goes and at which write, and what the events of the pod say in the end."""


def test_what_goes_away_while_it_is_being_written(lab: Lab) -> None:
    """The call is on its way when its pod, its claim or its node is deleted; then it arrives."""
    gate = Gate()
    lab.testbed.add_nodes(objects.node("leaving"))
    (leaving,) = lab.testbed.create(gpu_slice("leaving"))
    with ExitStack() as stack:
        for name, (write, _) in GOES.items():
            armed = stack.enter_context(lab.fault(WRITES[write], name, gate))
            only: dict[str, Any] = (
                {"nodeSelector": {"kubernetes.io/hostname": "leaving"}} if name.startswith("node") else {}
            )
            pod = lab.pod(name, **only)
            lab.wait_acted([armed])
            if name.startswith("pod"):
                lab.api.delete(pod, grace_s=0)
            if "claim" in name:
                lab.api.delete(lab.claim(name))
            if name.startswith("new"):
                lab.api.wait_gone(lab.claim(name))
                lab.api.create(lab.claim(name))
        lab.api.delete(objects.node("leaving"))
        lab.api.delete(leaving)
        gate.open()
        for name, (_, text) in GOES.items():
            if text:
                lab.api.wait(pod_named(lab, name), lab.says(*text.split("|")))
    nodes = {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in lab.api.list("v1", "Pod", lab.namespace)}
    assert {name for name, node in nodes.items() if node} == {
        name for name, (_, text) in GOES.items() if text.startswith("Successfully")
    }
    lab.api.delete(pod_named(lab, "node-binding"), grace_s=0)  # as the garbage collector of pods does a minute later
