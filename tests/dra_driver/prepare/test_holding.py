"""What one claim holds no other is given: whole, part or share, by the journal alone, with the holder's name."""

from __future__ import annotations

import pytest

from dra_driver.config.model import Interval, Settings, Strategy
from dra_driver.errors import CancelledError, HeldError, PermanentError, RetryableError
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.model import Phase
from dra_driver.prepare.resolve import claim_ref
from tests.dra_driver.prepare.kills import disagreements
from tests.dra_driver.prepare.sites import Gone, Site, claim, share

PATIENT = Patient()
WHOLE, PART, TIME, MPS = "gpu-0", "gpu-0-mig-3g40gb-9-0", "gpu-0-time-slicing", "gpu-0-mps"

CLASHES = {
    "whole and whole": (WHOLE, WHOLE),
    "whole, then a part": (WHOLE, PART),
    "a part, then the whole": (PART, WHOLE),
    "whole, then a share": (WHOLE, share(TIME, 1)),
    "a share, then the whole": (share(TIME, 1), WHOLE),
    "a part, then a share": (PART, share(TIME, 1)),
    "a share, then a part": (share(TIME, 1), PART),
    "the same placement": (PART, PART),
    "overlapping placements": (PART, "gpu-0-mig-1g10gb-19-2"),
    "the one engine of +me": ("gpu-0-mig-1g10gb-me-20-0", "gpu-0-mig-1g10gb-me-20-4"),
    "two kinds of sharing": (share(TIME, 1), share(MPS, 2)),
    "more memory than there is": (share(TIME, 1, memory="50Gi"), share(TIME, 2, memory="50Gi")),
    "more compute than there is": (share(TIME, 1, milli=600), share(TIME, 2, milli=401)),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_what_is_held_is_refused_naming_the_holder(host: Site, clash: str) -> None:
    first, second = (claim(name, device) for name, device in zip(("holder", "comer"), CLASHES[clash], strict=True))
    state = host.start()
    state.prepare(first, PATIENT)
    before = (host.hardware(), host.files())
    with pytest.raises(HeldError, match="team/holder"):
        state.prepare(second, PATIENT)
    assert (host.hardware(), host.files()) == before
    state.unprepare(claim_ref(first), PATIENT)
    if "mps" not in str(CLASHES[clash][1]):
        state.prepare(second, PATIENT)
        assert disagreements(host, state) == []


BESIDE = {
    "parts apart": (PART, "gpu-0-mig-3g40gb-9-4"),
    "+me and a plain one": ("gpu-0-mig-1g10gb-me-20-0", "gpu-0-mig-1g10gb-19-1"),
    "shares within the budget": (share(TIME, 1, memory="40Gi", milli=500), share(TIME, 2, memory="39Gi", milli=500)),
    "another GPU": (WHOLE, "gpu-1"),
    "an administrator's look at a whole GPU": (WHOLE, {"device": WHOLE, "adminAccess": True}),
    "an administrator's look at a part": (PART, {"device": PART, "adminAccess": True}),
}


@pytest.mark.parametrize("pair", BESIDE)
def test_what_does_not_clash_is_prepared_side_by_side(host: Site, pair: str) -> None:
    state = host.start()
    for name, device in zip(("one", "other"), BESIDE[pair], strict=True):
        state.prepare(claim(name, device), PATIENT)
    assert disagreements(host, state) == []
    for name in ("one", "other"):
        state.unprepare(claim_ref(claim(name)), PATIENT)
    assert (host.files(), host.mig_enabled()) == ([], False)


def test_shares_of_a_gpu_have_one_time_slice(host: Site) -> None:
    state = host.start(settings=lambda _, name: Settings(strategy=Strategy.TIME_SLICING, interval=Interval(name)))
    one = claim("one", share(TIME, 1) | {"request": "Default"})
    other = claim("other", share(TIME, 2) | {"request": "Long"})
    state.prepare(one, PATIENT)
    with pytest.raises(HeldError, match=r"time slice Long .* like gpu-0-time-slicing, held by claim team/one"):
        state.prepare(other, PATIENT)


WRONG = {
    "a device that is not there": (claim("x", "gpu-77"), "does not exist on node node-a"),
    "a placement that no profile has": (claim("x", "gpu-0-mig-3g40gb-9-1"), "does not exist on node"),
    "a name that is none": (claim("x", "../../etc"), "does not exist on node"),
    "another node's pool": (claim("x", {"device": "gpu-0", "pool": "node-b/gpu.dovetail.dev"}), "not of this node's"),
    "one device twice": (claim("x", "gpu-0", "gpu-0"), "of the same claim"),
    "a part and its whole": (claim("x", "gpu-0", PART), "of the same claim"),
    "shares beyond the GPU": (
        claim("x", share(TIME, 1, memory="41Gi"), share(TIME, 2, memory="41Gi")),
        "exceed its memory",
    ),
    "one share beyond the GPU": (claim("x", share(TIME, 1, memory="81Gi")), "more than the GPU has"),
    "settings of another kind": (claim("x", share(TIME, 1), strategy="mps"), "the device is shared by time-slicing"),
    "settings for a MIG device": (claim("x", PART, strategy="exclusive"), "is set for a whole GPU"),
    "no device of ours": (claim("x", {"device": "gpu-0", "driver": "gpu.nvidia.com"}), "no device of driver"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_can_never_do_is_refused_and_leaves_nothing(host: Site, wrong: str) -> None:
    asked, text = WRONG[wrong]
    state, before = host.start(), host.hardware()
    with pytest.raises(PermanentError, match=text):
        state.prepare(asked, PATIENT)
    assert (host.hardware(), host.files()) == (before, [])


def test_admin_access_holds_and_changes_nothing(host: Site) -> None:
    state, before = host.start(), host.hardware()
    look = claim("look", {"device": "gpu-0", "adminAccess": True}, strategy="exclusive")
    state.prepare(look, PATIENT)
    assert (host.hardware(), state.effects.sharing.leftovers()) == (before, ())
    state.prepare(claim("work", "gpu-0"), PATIENT)


def test_prepare_and_unprepare_may_come_again_in_any_order(host: Site) -> None:
    state = host.start()
    one = claim("one", PART, "gpu-1")
    state.unprepare(claim_ref(one), PATIENT)
    first = state.prepare(one, PATIENT)
    there = host.instances()
    assert host.start().prepare(one, PATIENT) == first == state.prepare(one, PATIENT)
    assert host.instances() == there
    for _ in range(2):
        state.unprepare(claim_ref(one), PATIENT)
    assert (host.instances(), host.files(), host.mig_enabled()) == ([], [], False)
    assert state.prepare(one, PATIENT) == first


@pytest.mark.parametrize("asked", [0, 1])
def test_a_caller_who_is_gone_changes_nothing(host: Site, asked: int) -> None:
    state, before = host.start(), host.hardware()
    one = claim("one", PART)
    with pytest.raises(CancelledError):
        state.prepare(one, Gone())
    assert (host.hardware(), host.files()) == (before, [])
    state.prepare(one, PATIENT)
    before = host.hardware()
    with pytest.raises(CancelledError):
        state.unprepare(claim_ref(one), Gone())
    assert host.hardware() == before
    assert disagreements(host, state) == []


def test_a_busy_mig_device_is_kept_until_its_process_ends(host: Site) -> None:
    state = host.start()
    one = claim("one", PART)
    state.prepare(one, PATIENT)
    host.twin.process(0, 4242, mig_device=(0, 0))
    with pytest.raises(RetryableError, match=r"in use by 1 processes \(pid 4242\)"):
        state.unprepare(claim_ref(one), PATIENT)
    record = state.effects.journal.get(one.metadata.uid)
    assert record is not None
    assert record.phase is Phase.UNPREPARING
    assert host.instances() == [(0, 0, 1)]
    with pytest.raises(HeldError, match="team/one"):
        state.prepare(claim("other", WHOLE), PATIENT)
    host.twin.process_gone(4242)
    state.unprepare(claim_ref(one), PATIENT)
    assert (host.instances(), host.files(), host.mig_enabled()) == ([], [], False)


def test_a_claim_that_was_allocated_anew_waits_until_its_old_devices_are_free(host: Site) -> None:
    state = host.start()
    state.prepare(claim("one", "gpu-0"), PATIENT)
    with pytest.raises(HeldError, match="another allocation"):
        state.prepare(claim("one", "gpu-1"), PATIENT)
    state.unprepare(claim_ref(claim("one")), PATIENT)
    state.prepare(claim("one", "gpu-1"), PATIENT)


def test_a_mig_device_that_vanished_is_made_anew(host: Site) -> None:
    state = host.start()
    one = claim("one", PART)
    state.prepare(one, PATIENT)
    with host.twin.change() as machine:
        machine.gpus[0].instances.clear()
    state.prepare(one, PATIENT)
    assert disagreements(host, state) == []


def test_mig_goes_off_with_the_last_part_whoever_came_first(host: Site) -> None:
    state = host.start()
    parts = [claim(f"c{at}", f"gpu-0-mig-1g10gb-19-{at}") for at in range(3)]
    for each in parts:
        state.prepare(each, PATIENT)
    for each in parts:
        assert host.mig_enabled()
        state.unprepare(claim_ref(each), PATIENT)
    assert not host.mig_enabled()
