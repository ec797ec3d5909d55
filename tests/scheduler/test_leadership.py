"""Claims are written only while our kube-scheduler is sure to hold the Lease."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kube.errors import UnavailableError
from kube.objects import Lease, LeaseSpec, Metadata
from scheduler.leadership import Fence, Leadership, LeaseSettings

SETTINGS = LeaseSettings(identity="replica-a")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def lease(holder: str, renewal: int) -> Lease:
    spec = LeaseSpec(holder_identity=holder, renew_time=EPOCH + timedelta(seconds=renewal))
    return Lease(metadata=Metadata(name="dovetail"), spec=spec)


def test_a_replica_that_has_just_started_waits_for_a_renewal() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a_1", 1), 100.0)
    assert fence.left(100.0) <= 0
    fence.read(lease("replica-a_1", 2), 101.0)
    assert fence.left(101.0) == 9.0  # renewed after the read at 100


def test_a_lease_that_was_anothers_before_is_ours_at_once() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-b_1", 1), 100.0)
    fence.read(lease("replica-a_1", 2), 101.0)
    assert fence.left(101.0) == 9.0


def test_another_replica_whose_name_begins_alike_is_another() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a", 1), 100.0)
    fence.read(lease("replica-a2_1", 2), 101.0)
    assert fence.left(101.0) <= 0


def test_reads_that_show_no_renewal_do_not_prolong() -> None:
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a_1", 1), 100.0)
    for at in range(101, 130):
        fence.read(lease("replica-a_1", 2), float(at))
    assert fence.left(110.0) == 0.0


def test_a_lease_lost_and_won_again_is_a_new_term() -> None:
    fence = Fence(SETTINGS)
    terms = []
    for at, holder in enumerate(["replica-a_1", "replica-a_1", "replica-b_1", "replica-a_1", "replica-a_1"]):
        fence.read(lease(holder, at), 100.0 + at)
        terms.append(fence.term)
    assert terms == [1, 1, 1, 2, 2]


def test_a_process_stopped_past_its_lease_takes_over_anew() -> None:
    """SIGSTOP: another leader may have come and gone unseen."""
    fence = Fence(SETTINGS)
    fence.read(lease("replica-a_1", 1), 100.0)
    fence.read(lease("replica-a_1", 2), 101.0)
    assert fence.left(160.0) < 0
    fence.read(lease("replica-a_1", 9), 160.0)
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
        fence.read(lease("replica-a_1", int(skew_s) + count), now)
        assert now + delay_s + fence.left(now + delay_s) <= renewed + SETTINGS.renew_deadline_s + 1e-6


class Reader:
    def __init__(self) -> None:
        self.renewal = 0
        self.broken = False

    async def read_lease(self, *, timeout_s: float) -> Lease:
        if self.broken:
            raise UnavailableError("no answer")
        self.renewal += 1
        return lease("replica-a_1", self.renewal)


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
        leadership.close()
        led.append(leadership.leads())
        return led

    assert asyncio.run(story()) == [False, False, True, False, False, True, False]
    assert calls == ["take over", "take over", "lost", "take over"]
