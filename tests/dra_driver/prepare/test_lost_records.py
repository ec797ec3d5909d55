"""Whose record was lost keeps what it may use; and a record that tells nothing any more blocks nobody for ever."""

from __future__ import annotations

import pytest

from dra_driver.config.model import Strategy
from dra_driver.errors import RetryableError
from dra_driver.prepare.effects import GpuWide, Patient
from dra_driver.prepare.recover import Claims, recover
from dra_driver.prepare.resolve import claim_ref
from dra_driver.prepare.state import DeviceState
from kube.objects import ResourceClaim
from tests.dra_driver.prepare.sites import Site, claim, share

PATIENT = Patient()
SLICED = GpuWide(Strategy.TIME_SLICING)


def lose_record(host: Site, state: DeviceState, lost: ResourceClaim) -> None:
    (host.state / f"claims/{lost.metadata.uid}.json").write_bytes(b"x")
    state.effects.cdi.remove(lost.metadata.uid)


def test_what_is_set_on_a_gpu_stays_while_a_claim_that_may_use_it_is_not_known(host: Site) -> None:
    """Recovery took it for a leftover: an MPS daemon was ended under its clients."""
    state, tenant = host.start(), claim("tenant", "gpu-1", strategy="exclusive")
    state.prepare(tenant, PATIENT)
    host.twin.process(1, 4242)
    uuid, wide = host.gpus.gpus[1].uuid, GpuWide(Strategy.EXCLUSIVE)
    lose_record(host, state, tenant)
    answers: tuple[Claims | None, ...] = (None, {})
    for claims in answers:
        report = recover(host.start(), claims)
        assert list(report.unknown) == [tenant.metadata.uid]
        assert report.released == []
        assert state.effects.sharing.is_applied(uuid, wide)
    state.unprepare(claim_ref(tenant), PATIENT)
    assert state.effects.sharing.leftovers() == []
    assert host.files() == []


def test_the_last_known_user_of_a_gpu_leaves_it_as_it_is_for_one_that_is_not_known(host: Site) -> None:
    state = host.start()
    known, lost = (claim(name, share("gpu-0-time-slicing", at)) for at, name in enumerate(("known", "lost")))
    for each in (known, lost):
        state.prepare(each, PATIENT)
    lose_record(host, state, lost)
    recover(state, None)
    state.unprepare(claim_ref(known), PATIENT)
    assert state.effects.sharing.is_applied(host.gpus.gpus[0].uuid, SLICED)
    state.unprepare(claim_ref(lost), PATIENT)
    assert host.files() == []


def test_what_is_set_stays_while_a_record_cannot_be_read(host: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    state, tenant = host.start(), claim("tenant", share("gpu-0-time-slicing", 1))
    state.prepare(tenant, PATIENT)
    lose_record(host, state, tenant)

    def full(_uid: str) -> None:
        raise RetryableError("the disk is full")

    monkeypatch.setattr(state.effects.journal, "quarantine", full)
    assert recover(state, None).released == []
    assert state.effects.sharing.is_applied(host.gpus.gpus[0].uuid, SLICED)


@pytest.mark.parametrize("now", ["gpu-99", "another node", "nothing"])
def test_a_lost_record_of_a_claim_that_moved_on_does_not_block_the_node(host: Site, now: str) -> None:
    """Each check failed on it: nothing was prepared or unprepared on the node any more, that claim least of all."""
    state, moved = host.start(), claim("moved", "gpu-0")
    state.prepare(moved, PATIENT)
    other = claim("other", "gpu-1")
    state.prepare(other, PATIENT)
    lose_record(host, state, moved)
    result = {"device": "gpu-0", "pool": "node-b/gpu.dovetail.dev"} if now == "another node" else "gpu-99"
    in_api = claim("moved", *([] if now == "nothing" else [result]))
    report = recover(state, {moved.metadata.uid: in_api})
    assert report.faults == {}
    if now == "gpu-99":
        # For all that is known it is in use, on any GPU of no other claim.
        assert list(report.unknown) == [moved.metadata.uid]
        state.unprepare(claim_ref(moved), PATIENT)
    state.prepare(claim("comer", "gpu-0"), PATIENT)
    state.unprepare(claim_ref(other), PATIENT)


def test_a_record_whose_file_cannot_be_read_at_all_is_rebuilt_and_blocks_no_other(host: Site) -> None:
    """A bad sector, or here a link in its place: every call of the node was refused as long as it was there."""
    state, tenant = host.start(), claim("tenant", "gpu-0")
    before = state.prepare(tenant, PATIENT)
    path = host.state / f"claims/{tenant.metadata.uid}.json"
    path.rename(host.state / "elsewhere")
    path.symlink_to(host.state / "elsewhere")
    with pytest.raises(RetryableError, match="cannot be read"):
        state.prepare(claim("other", "gpu-1"), PATIENT)
    assert list(recover(state, None).rebuilt) == [tenant.metadata.uid]
    assert state.prepare(tenant, PATIENT) == before
    assert state.prepare(claim("other", "gpu-1"), PATIENT)
