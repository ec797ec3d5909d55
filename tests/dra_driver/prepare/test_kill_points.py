"""D1: wherever the driver is killed, one restart makes hardware, journal and CDI files agree, and nothing is lost."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from dra_driver.inventory import NodeGpus
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.recover import recover
from dra_driver.prepare.resolve import claim_ref
from dra_driver.prepare.state import DeviceState
from kube.objects import ResourceClaim
from tests.dra_driver.prepare.kills import NEVER, dies, disagreements, reaping
from tests.dra_driver.prepare.sites import again, claim, share, site

Say = Callable[[str], None]
Empty = tuple[Path, NodeGpus]
"""The folder of a node on which nothing was prepared yet, and its GPUs."""
PATIENT = Patient()
SEED = 7

CLAIMS = (
    claim("two-parts", "gpu-0-mig-1g10gb-19-0", "gpu-0-mig-3g40gb-9-4"),
    claim("part-and-share", "gpu-0-mig-1g10gb-19-1", share("gpu-1-time-slicing", 1)),
    claim("exclusive", "gpu-2", "gpu-3", strategy="exclusive"),
)
ALL = {each.metadata.uid: each for each in CLAIMS}
Story = tuple[tuple[str, int], ...]
STORY: Story = (("prepare", 0), ("prepare", 1), ("unprepare", 0), ("prepare", 2), ("unprepare", 1), ("unprepare", 2))


def perform(state: DeviceState, verb: str, each: ResourceClaim) -> None:
    if verb == "prepare":
        state.prepare(each, PATIENT)
    else:
        state.unprepare(claim_ref(each), PATIENT)


def tell(state: DeviceState, say: Say, story: Story = STORY) -> None:
    for at, (verb, number) in enumerate(story):
        perform(state, verb, CLAIMS[number])
        say(str(at))


@pytest.fixture(scope="module")
def empty(quick_root: Path) -> Empty:
    folder = Path(tempfile.mkdtemp(dir=quick_root))
    with site(folder) as made:
        made.start()
        return folder, made.gpus


def effects_of(folder: Path, gpus: NodeGpus) -> int:
    """How many effects the story has; it ends where it began."""
    with again(folder, gpus) as node:
        state = node.start()
        with reaping(NEVER) as reaper:
            tell(state, lambda _: None)
        return reaper.count


def prepared_after(story: Story) -> set[str]:
    now: set[str] = set()
    for verb, number in story:
        (now.add if verb == "prepare" else now.discard)(CLAIMS[number].metadata.uid)
    return now


def check_kill(folder: Path, gpus: NodeGpus, victim: int, again_victim: int = NEVER, story: Story = STORY) -> bool:
    """Kill a story that ends where it began, then perhaps recovery as well; whether recovery was killed."""
    with again(folder, gpus) as host:
        before = host.hardware()
        _, said = dies(lambda say: tell(host.start(), say, story), victim)
        twice = again_victim < NEVER and dies(lambda _: recover(host.start(), ALL) and None, again_victim)[0]
        state = host.start()
        assert not recover(state, ALL).faults
        assert disagreements(host, state) == []
        held, done = set(state.effects.journal.entries().records), len(said)
        current = {CLAIMS[number].metadata.uid for _, number in story[done : done + 1]}
        assert held - current == prepared_after(story[:done]) - current, "what was answered must stand"
        tell(state, lambda _: None, story[done:])
        assert disagreements(host, state) == []
        assert (host.hardware(), host.files()) == (before, [])
        return twice


def test_d1_one_restart_suffices_wherever_the_driver_is_killed(empty: Empty, quick: Path) -> None:
    folder, gpus = empty
    total = effects_of(shutil.copytree(folder, quick / "counted"), gpus)
    assert total > 130
    for victim in range(1, total + 2):
        check_kill(shutil.copytree(folder, quick / str(victim)), gpus, victim)


def every_kill_of_recovery(empty: Empty, quick: Path, victims: Iterable[int]) -> int:
    """Kill recovery at its every effect, after kills of the story at each of `victims`; how many there were."""
    folder, gpus = empty
    points = 0
    for victim in victims:
        second = 1
        while check_kill(shutil.copytree(folder, quick / f"{victim}-{second}"), gpus, victim, second):
            second += 1
            points += 1
    return points


def test_d1_recovery_may_be_killed_as_well(empty: Empty, quick: Path) -> None:
    points = every_kill_of_recovery(empty, quick, range(8, effects_of(empty[0], empty[1]), 30))
    assert points > 45


def test_d1_with_a_hosts_files_as_well(quick: Path) -> None:
    with site(quick / "host") as made:
        made.whole_host()
        for victim in range(2, 160, 12):
            _, said = dies(lambda say: tell(made.start(), say), victim)
            state = made.start()
            assert not recover(state, ALL).faults
            assert disagreements(made, state) == []
            for verb, number in STORY[len(said) :]:
                perform(state, verb, CLAIMS[number])
            assert made.files() == []


@pytest.mark.soak
def test_d1_every_kill_of_recovery_after_every_kill(empty: Empty, quick: Path) -> None:
    points = every_kill_of_recovery(empty, quick, range(1, effects_of(empty[0], empty[1]) + 1))
    assert points > 2000


@pytest.mark.soak
def test_d1_random_stories_killed_anywhere(empty: Empty, quick: Path) -> None:
    rng = random.Random(SEED)
    for number in range(2000):
        story = tuple((rng.choice(("prepare", "prepare", "unprepare")), rng.randrange(3)) for _ in range(8))
        story += tuple(("unprepare", number) for number in range(3))
        victims = (rng.randrange(1, 200), rng.choice((NEVER, rng.randrange(1, 40))))
        folder = shutil.copytree(empty[0], quick / str(number))
        check_kill(folder, empty[1], *victims, story)
        shutil.rmtree(folder)
