"""Claims are written only while our kube-scheduler is sure to hold the Lease."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.errors import UnavailableError
from kube.objects import Lease, LeaseSpec, Metadata
from scheduler.leadership import DRAINED, Fence, Leadership, LeaseSettings

SETTINGS = LeaseSettings(identity="replica-a")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def lease(holder: str, renewal: int, transitions: int = 0, drained: int | None = None) -> Lease:
    renewed = EPOCH + timedelta(seconds=renewal)
    spec = LeaseSpec(holder_identity=holder, renew_time=renewed, lease_transitions=transitions)
    annotations = {} if drained is None else {DRAINED: str(drained)}
    return Lease(metadata=Metadata(name="dovetail", annotations=annotations), spec=spec)


def alone_at(fence: Fence, now: float) -> float:
    """When decisions may begin, in whole seconds."""
    return next(now + later for later in range(100) if fence.alone(now + later))


def test_two_replicas_never_may_write_at_once_when_kube_scheduler_ends_alone() -> None:
    """Its preStop over, it gives the Lease back; the extender beside it reads that late, or not at all."""
    first, second = Fence(SETTINGS), Fence(LeaseSettings(identity="replica-b"))
    first.read(lease("replica-a_1", 1), 99.0, 99.0)
    second.read(lease("replica-a_1", 1), 99.5, 99.5)
    first.read(lease("replica-a_1", 2), 100.0, 100.0)
    second.read(lease("replica-b_1", 3, 1), 100.2, 100.3)
    closes = 100.0 + first.left(100.0)
    assert closes == 109.0
    assert second.left(100.3) > 0
    assert alone_at(second, 100.3) >= closes


@pytest.mark.parametrize("drained", [None, 4, 6, 7])
def test_a_new_leader_waits_unless_the_tenure_before_it_has_ended_after_its_last_write(drained: int | None) -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-b_1", 1, 5), 100.0, 100.0)
    fence.read(lease("replica-a_1", 2, 6, drained), 101.0, 101.5)
    assert alone_at(fence, 101.5) == (101.5 if drained == 6 else 111.5)
    other = Fence(SETTINGS)
    other.read(lease("replica-a_1", 2, 7, drained), 101.0, 101.5)
    assert alone_at(other, 101.5) == (101.5 if drained in {6, 7} else 111.5)


def test_the_very_first_leader_does_not_wait() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a_1", 1), 100.0, 100.0)
    assert alone_at(fence, 100.0) == 100.0


def test_a_lease_made_anew_under_running_replicas_is_not_taken_for_the_first() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-b_1", 1, 5), 100.0, 100.0)
    fence.read(lease("replica-a_1", 2), 101.0, 101.0)
    assert alone_at(fence, 101.0) == 111.0


def test_a_leader_in_between_that_nobody_read_of_is_a_new_term_and_a_wait() -> None:
    """Reads fail while replica-a_1, replica-b_1 and replica-a_2 lead in turn: the prefix alone tells nothing."""
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a_1", 1), 100.0, 100.0)
    fence.read(lease("replica-a_1", 2), 101.0, 101.0)
    assert fence.term == 1
    fence.read(lease("replica-a_2", 9, 2), 106.0, 106.0)
    assert fence.term == 2
    assert alone_at(fence, 106.0) == 116.0


def test_a_replica_that_has_just_started_waits_for_a_renewal() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a_1", 1), 100.0, 100.0)
    assert fence.left(100.0) <= 0
    fence.read(lease("replica-a_1", 2), 101.0, 101.0)
    assert fence.left(101.0) == 9.0  # renewed after the read at 100


def test_a_lease_that_was_anothers_before_is_ours_at_once() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-b_1", 1), 100.0, 100.0)
    fence.read(lease("replica-a_1", 2), 101.0, 101.0)
    assert fence.left(101.0) == 9.0


def test_another_replica_whose_name_begins_alike_is_another() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a", 1), 100.0, 100.0)
    fence.read(lease("replica-a2_1", 2), 101.0, 101.0)
    assert fence.left(101.0) <= 0


def test_reads_that_show_no_renewal_do_not_prolong() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a_1", 1), 100.0, 100.0)
    for at in range(101, 130):
        fence.read(lease("replica-a_1", 2), float(at), float(at))
    assert fence.left(110.0) == 0.0


def test_a_lease_lost_and_won_again_is_a_new_term() -> None:
    fence = Fence(SETTINGS)
    terms = []
    for at, holder in enumerate(["replica-a_1", "replica-a_1", "replica-b_1", "replica-a_1", "replica-a_1"]):
        fence.read(lease(holder, at), 100.0 + at, 100.0 + at)
        terms.append(fence.term)
    assert terms == [1, 1, 1, 2, 2]


def test_a_process_stopped_past_its_lease_takes_over_anew() -> None:
    """SIGSTOP: another leader may have come and gone unseen."""
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a_1", 1), 100.0, 100.0)
    fence.read(lease("replica-a_1", 2), 101.0, 101.0)
    assert fence.left(160.0) < 0
    fence.read(lease("replica-a_1", 9), 160.0, 160.0)
    assert fence.term == 2


@given(
    skew_s=st.floats(-7200, 7200),
    steps=st.lists(st.tuples(st.floats(0.1, 4.0), st.booleans()), min_size=2, max_size=30),
    delay_s=st.floats(0, 3.0),
)
def test_never_longer_than_the_renewal_allows_whatever_the_clocks(
    skew_s: float, steps: list[tuple[float, bool]], delay_s: float
) -> None:
    """Law: `left` ends no later than renewDeadline after the last renewal, whatever time the Lease claims."""
    fence, now, renewed = Fence(SETTINGS), 1000.0, 1000.0
    count = 0
    for seconds, renew in steps:
        now += seconds
        if renew:
            renewed, count = now, count + 1
        fence.read(lease("replica-a_1", int(skew_s) + count), now, now)
        assert now + delay_s + fence.left(now + delay_s) <= renewed + SETTINGS.renew_deadline_s + 1e-6


class Reader:
    def __init__(self) -> None:
        self.renewal = 0
        self.broken = False
        self.drained: str | None = None

    async def mark_lease(self, lease: Lease, key: str, value: str | None, *, timeout_s: float) -> None:
        assert key == DRAINED
        self.drained = value

    async def read_lease(self, *, timeout_s: float) -> Lease:
        if self.broken:
            raise UnavailableError("no answer")
        self.renewal += 1
        return lease("replica-a_1", self.renewal, drained=None if self.drained is None else int(self.drained))


def test_nothing_is_decided_before_the_take_over_and_nothing_after_the_loss() -> None:
    now, calls, works = [100.0], [], [False]

    async def take_over() -> None:
        calls.append("take over")
        if not works[0]:
            raise UnavailableError("no answer")

    async def story() -> list[bool]:
        reader = Reader()
        leadership = Leadership(SETTINGS, reader, lambda: now[0], take_over, lambda: calls.append("lost"))
        led = []
        for _ in range(3):  # no renewal seen yet; a take-over that fails; one that works
            await leadership.step()
            led.append(leadership.leads())
            now[0] += 1
            works[0] = len(calls) > 0
        reader.broken = True
        now[0] += 20
        await leadership.step()
        led.append(leadership.leads())
        reader.broken = False
        for _ in range(2):  # the renewal that is seen first may be as old as the last read
            await leadership.step()
            led.append(leadership.leads())
        await leadership.close()
        led.append(leadership.leads())
        return led

    assert asyncio.run(story()) == [False, False, True, False, False, True, False]
    assert calls == ["take over", "take over", "lost", "take over"]


def test_the_mark_is_left_by_a_leader_alone_and_taken_off_by_the_extender_that_follows_it() -> None:
    """A new extender beside the same kube-scheduler writes again: the mark of the former one must not speak for it."""
    now = [100.0]

    async def nothing() -> None:
        return

    async def story() -> None:
        reader = Reader()
        idle, first, second = (Leadership(SETTINGS, reader, lambda: now[0], nothing, list) for _ in range(3))
        await idle.close()
        assert reader.drained is None
        for each in (first, second):
            for _ in range(2):
                await each.step()
                now[0] += 1
            assert each.leads()
            assert reader.drained is None
            await each.close()
            assert not each.leads()
            assert reader.drained == "0"

    asyncio.run(story())


def test_the_lease_is_read_on_while_a_long_take_over_goes_on() -> None:
    """Before, the fence ran out in the middle of every take-over that lasted longer than it."""
    reader, now = Reader(), [100.0]

    async def story() -> None:
        done = asyncio.Event()

        async def take_over() -> None:
            while reader.renewal < 30:
                await asyncio.sleep(0)
            done.set()

        def clock() -> float:
            now[0] += 0.5
            return now[0]

        settings = LeaseSettings(identity="replica-a", read_every_s=0.0)
        leadership = Leadership(settings, reader, clock, take_over, list)
        following = asyncio.create_task(leadership.follow())
        await asyncio.wait_for(done.wait(), 30)
        while not leadership.leads():
            await asyncio.sleep(0)
        following.cancel()

    asyncio.run(story())
