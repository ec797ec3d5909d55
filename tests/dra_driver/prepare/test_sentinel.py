"""The check of every 30 seconds: it tells what two claims use, what none uses, and puts right what it may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dra_driver.errors import CancelledError, HeldError, RetryableError
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.locks import PATIENCE_S, Locks
from dra_driver.prepare.resolve import claim_ref
from dra_driver.prepare.sentinel import Finding, Found, Sentinel
from dra_driver.prepare.state import DeviceState
from tests.dra_driver.prepare.kills import disagreements
from tests.dra_driver.prepare.sites import Gone, Site, claim, share, uid
from twin.codes import Code

PATIENT = Patient()
PART = "gpu-0-mig-3g40gb-9-0"


def checked(state: DeviceState) -> tuple[Found, ...]:
    """A check in which nobody can say what the API and the kubelet have."""
    return Sentinel(state, lambda: None, lambda: None).check()


def test_a_node_in_order_has_no_findings(host: Site) -> None:
    state = host.start()
    state.prepare(claim("parts", PART, "gpu-1"), PATIENT)
    state.prepare(claim("share", share("gpu-2-time-slicing", 1)), PATIENT)
    host.twin.process(1, 4242)
    assert checked(state) == ()


def test_a_device_of_two_claims_is_told(host: Site) -> None:
    state = host.start()
    state.prepare(claim("one", "gpu-0"), PATIENT)
    record = state.effects.journal.get(claim("one").metadata.uid)
    assert record is not None
    twin = replace(record, claim=replace(record.claim, name="two", uid=uid("two")))
    state.effects.journal.put(twin)
    (found,) = checked(state)
    assert found.kind is Finding.USED_TWICE
    assert {"team/one", "team/two"} <= set(found.text.split())


def test_shares_that_exceed_their_gpu_are_told(host: Site) -> None:
    state = host.start()
    state.prepare(claim("one", share("gpu-0-time-slicing", 1, memory="50Gi")), PATIENT)
    record = state.effects.journal.get(claim("one").metadata.uid)
    assert record is not None
    state.effects.journal.put(replace(record, claim=replace(record.claim, name="two", uid=uid("two"))))
    assert [each.kind for each in checked(state)] == [Finding.USED_TWICE]


def test_a_process_on_a_gpu_of_no_claim_is_told(host: Site) -> None:
    host.twin.process(5, 4242)
    (found,) = checked(host.start())
    assert (found.kind, found.subject) == (Finding.UNOWNED_PROCESS, host.gpus.gpus[5].uuid)
    assert "4242" in found.text


def test_a_mig_device_that_vanished_under_its_claim_is_told(host: Site) -> None:
    state = host.start()
    state.prepare(claim("one", PART), PATIENT)
    with host.twin.change() as machine:
        machine.gpus[0].instances.clear()
    assert [each.kind for each in checked(state)] == [Finding.MISSING]


def test_what_disappeared_around_a_claim_is_put_back(host: Site) -> None:
    state = host.start()
    one = claim("one", "gpu-0", strategy="exclusive")
    state.prepare(one, PATIENT)
    state.effects.cdi.remove(one.metadata.uid)
    state.effects.sharing.release(host.gpus.gpus[0].uuid)
    assert checked(state) == ()
    assert disagreements(host, state) == []


def test_what_could_not_be_undone_is_told_and_undone_when_it_can(host: Site) -> None:
    state = host.start()
    one = claim("one", PART)
    state.prepare(one, PATIENT)
    host.twin.fault("nvmlGpuInstanceDestroy", code=Code.IN_USE, times=2)
    with pytest.raises(RetryableError):
        state.unprepare(claim_ref(one), PATIENT)
    assert Finding.NOT_UNDONE in {each.kind for each in checked(state)}
    assert checked(state) == ()
    assert host.files() == []


def test_a_gpu_that_cannot_be_read_does_not_hide_the_others(host: Site) -> None:
    host.twin.lose(3)
    host.twin.process(5, 4242)
    assert {each.kind for each in checked(host.start())} == {Finding.UNREADABLE, Finding.UNOWNED_PROCESS}


def test_a_damaged_record_is_rebuilt_while_the_driver_runs(host: Site) -> None:
    state = host.start()
    one = claim("one", PART)
    state.prepare(one, PATIENT)
    (host.state / f"claims/{one.metadata.uid}.json").write_bytes(b"spoilt")
    with pytest.raises(RetryableError, match="the next check rebuilds it"):
        state.prepare(one, PATIENT)
    with pytest.raises(RetryableError, match="not known until the next check"):
        state.prepare(claim("other", "gpu-1"), PATIENT)
    assert checked(state) == ()
    state.prepare(one, PATIENT)
    with pytest.raises(HeldError):
        state.prepare(claim("comer", "gpu-0"), PATIENT)


def test_another_instance_of_the_driver_is_waited_for(quick: Path) -> None:
    ours, theirs = Locks(quick, patience_s=0.05), Locks(quick)
    with theirs.claim(uid("x"), PATIENT):
        with (
            pytest.raises(RetryableError, match="busy with another call or another instance"),
            ours.claim(uid("x"), PATIENT),
        ):
            raise AssertionError("both have it")
        with pytest.raises(CancelledError, match="nothing was done"), ours.claim(uid("x"), Gone()):
            raise AssertionError("both have it")
    with ours.claim(uid("x"), PATIENT), ours.gpus(["GPU-b", "GPU-a", "GPU-b"], PATIENT):
        pass


def test_a_lock_that_was_not_had_is_free_for_the_next(quick: Path) -> None:
    ours, theirs = Locks(quick, patience_s=0.05), Locks(quick)
    with theirs.gpus(["GPU-b"], PATIENT), pytest.raises(RetryableError), ours.gpus(["GPU-a", "GPU-b"], PATIENT):
        raise AssertionError("both have it")
    with ours.gpus(["GPU-a", "GPU-b"], PATIENT):
        pass


def test_all_gpus_of_a_claim_are_waited_for_no_longer_than_one(quick: Path) -> None:
    """Each had its own 30 s, and the claim before them: the kubelet, which waits 45 s, was never told why."""
    asked: list[None] = []

    def clock() -> float:
        asked.append(None)
        return 0.0 if len(asked) == 1 else 11.0 + (len(asked) > 5) * 1000

    ours, theirs = Locks(quick, patience_s=10.0, clock=clock), Locks(quick)
    with theirs.gpus(["GPU-b"], PATIENT), pytest.raises(RetryableError), ours.gpus(["GPU-a", "GPU-b"], PATIENT):
        raise AssertionError("both have it")
    assert len(asked) == 2
    assert 2 * PATIENCE_S < 45
