"""D3: 64 calls at once, to two instances of the driver, are as if made one after another: what one holds no other gets.

The order is the one in which calls had their locks: each asks its caller then whether it still waits, which is within
the call's own time. Replayed in that order, a plain model of exclusive devices must give every answer that was given.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from threading import Barrier

import pytest

from dra_driver.errors import HeldError
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.resolve import claim_ref
from dra_driver.prepare.state import DeviceState
from kube.objects import ResourceClaim
from tests.dra_driver.prepare.kills import disagreements
from tests.dra_driver.prepare.sites import Site, claim

CALLS = 64
SEED = 20

_ORDER = count()


@dataclass
class Witness:
    """A caller who notes when it was last asked."""

    at: int = -1

    def is_gone(self) -> bool:
        self.at = next(_ORDER)
        return False


@dataclass
class Call:
    """A call, and what came of it."""

    verb: str
    asked: ResourceClaim
    caller: Witness = field(default_factory=Witness)
    answer: str = ""

    def perform(self, state: DeviceState) -> None:
        try:
            if self.verb == "prepare":
                state.prepare(self.asked, self.caller)
            else:
                state.unprepare(claim_ref(self.asked), self.caller)
        except HeldError:
            self.answer = "held"
        else:
            self.answer = "done"


def slots(each: ResourceClaim) -> set[tuple[str, int]]:
    """What a claim takes, in the plainest terms: the memory slices of A100s, by GPU."""
    allocation = each.status.allocation
    assert allocation is not None
    taken = set()
    for result in allocation.devices.results:
        gpu, _, part = result.device.partition("-mig-")
        sizes = {"1g5gb": 1, "2g10gb": 2, "3g20gb": 4, "7g40gb": 8}
        start, size = (int(part.rsplit("-", 1)[1]), sizes[part.split("-")[0]]) if part else (0, 8)
        taken |= {(gpu, at) for at in range(start, start + size)}
    return taken


def contenders(rng: random.Random) -> list[ResourceClaim]:
    """Sixteen claims for parts of one to three of the GPUs, with much overlap."""
    parts = ("1g5gb-19-{}", "2g10gb-14-{}", "3g20gb-9-{}", "7g40gb-0-{}")
    starts = (range(7), (0, 2, 4), (0, 4), (0,))
    made = []
    for number in range(16):
        devices = []
        for gpu in rng.sample(range(8), rng.choice((1, 1, 1, 2, 3))):
            kind = rng.choice((0, 0, 1, 2, 3))
            devices.append(f"gpu-{gpu}-mig-" + parts[kind].format(rng.choice(starts[kind])))
        made.append(claim(f"c{number}", *devices))
    return made


def violations(calls: list[Call], held: dict[str, ResourceClaim]) -> list[str]:
    """Replay calls in the order of their locks on the model, which is changed; where it answers otherwise."""
    wrong = []
    for call in sorted(calls, key=lambda each: each.caller.at):
        mine = call.asked.metadata.uid
        if call.verb == "unprepare":
            held.pop(mine, None)
            expected = "done"
        else:
            others = [slots(each) for each in held.values() if each.metadata.uid != mine]
            expected = "held" if any(slots(call.asked) & each for each in others) else "done"
            if expected == "done":
                held[mine] = call.asked
        if call.answer != expected:
            wrong.append(f"{call.verb} {call.asked.metadata.name}: {call.answer}, in order {expected}")
    return wrong


def run_histories(host: Site, seed: int, histories: int) -> int:
    """Run histories one after another, each from where the last ended; how many calls were refused."""
    rng = random.Random(seed)
    drivers, refused = (host.start(), host.start()), 0
    held: dict[str, ResourceClaim] = {}
    barrier = Barrier(CALLS)

    def perform(call: Call, state: DeviceState) -> None:
        barrier.wait()
        call.perform(state)

    with ThreadPoolExecutor(CALLS) as pool:
        for history in range(histories):
            if history % 25 == 0:
                for each in held.values():
                    drivers[0].unprepare(claim_ref(each), Patient())
                held, claims = {}, contenders(rng)
            calls = [Call(rng.choice(("prepare", "unprepare")), rng.choice(claims)) for _ in range(CALLS)]
            for done in [pool.submit(perform, call, drivers[at % 2]) for at, call in enumerate(calls)]:
                done.result()
            assert violations(calls, held) == [], f"seed {seed}, history {history}"
            refused += sum(call.answer == "held" for call in calls)
            assert set(drivers[0].effects.journal.entries().records) == set(held)
    assert disagreements(host, drivers[0]) == []
    return refused


@pytest.mark.parametrize("seed", range(SEED, SEED + 5))
def test_d3_calls_at_once_are_as_if_one_after_another(divided: Site, seed: int) -> None:
    assert run_histories(divided, seed, 100) > 100


@pytest.mark.soak
def test_d3_ten_thousand_histories(divided: Site) -> None:
    assert run_histories(divided, SEED + 5, 10_000) > 10_000
