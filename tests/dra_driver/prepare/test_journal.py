"""D5: a record that was cut anywhere, or in which any byte was flipped, is noticed, and rebuilt from what is left."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra_driver.errors import PermanentError, RetryableError
from dra_driver.prepare import codec
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.journal import Journal
from dra_driver.prepare.model import Record
from dra_driver.prepare.recover import recover
from dra_driver.prepare.resolve import claim_ref
from tests.dra_driver.prepare.kills import disagreements
from tests.dra_driver.prepare.sites import Site, claim, share, uid

PATIENT = Patient()
GOLDEN = sorted(Path(__file__).with_name("golden").iterdir())


def damaged(raw: bytes) -> list[bytes]:
    """Every way in which one cut or one flipped byte can spoil a file."""
    cut = [raw[:at] for at in range(len(raw))]
    flipped = [raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :] for at in range(len(raw)) for bit in (1, 0x20, 0xFF)]
    return [*cut, *flipped, raw + b"\0", raw + raw, b"\0" * len(raw)]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_d5_every_cut_and_every_flip_is_noticed(golden: Path) -> None:
    raw = golden.read_bytes()
    codec.decode(raw)
    for spoilt in damaged(raw):
        with pytest.raises(codec.CorruptError):
            codec.decode(spoilt)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader(raw: bytes) -> None:
    for data in (raw, codec._header(raw) + raw):
        with pytest.raises(codec.CorruptError):
            codec.decode(data)


def test_deep_nesting_is_noticed() -> None:
    body = b"[" * 100_000
    with pytest.raises(codec.CorruptError):
        codec.decode(codec._header(body) + body)


def test_d5_what_was_damaged_is_rebuilt_as_it_was(host: Site) -> None:
    state = host.start()
    claims = [
        claim("parts", "gpu-0-mig-3g40gb-9-0", "gpu-1-mig-1g10gb-19-3"),
        claim("share", share("gpu-2-time-slicing", 1)),
        claim("whole", "gpu-3", strategy="exclusive"),
    ]
    for each in claims:
        state.prepare(each, PATIENT)
    before = state.effects.journal.entries().records
    for each in claims:
        path = host.state / f"claims/{each.metadata.uid}.json"
        raw = path.read_bytes()
        for spoilt in damaged(raw)[:: len(raw) // 16]:
            path.write_bytes(spoilt)
            fresh = host.start()
            recover(fresh, None)
            assert fresh.effects.journal.entries().records == before
            assert disagreements(host, fresh) == []
            fresh.effects.journal.close()


@pytest.mark.parametrize("in_api", [True, False])
def test_d5_without_a_copy_the_claim_and_the_hardware_say_what_was(host: Site, in_api: bool) -> None:
    state = host.start()
    parts, beside = claim("parts", "gpu-0-mig-3g40gb-9-0", "gpu-1"), claim("beside", "gpu-0-mig-1g10gb-19-4")
    for each in (parts, beside):
        state.prepare(each, PATIENT)
    before = state.effects.journal.entries().records
    state.effects.cdi.remove(parts.metadata.uid)
    (host.state / f"claims/{parts.metadata.uid}.json").write_bytes(b"")
    fresh = host.start()
    report = recover(fresh, {parts.metadata.uid: parts} if in_api else None)
    if in_api:
        rebuilt = fresh.effects.journal.entries().records
        assert [each.devices for each in rebuilt.values()] == [each.devices for each in before.values()]
        assert disagreements(host, fresh) == []
    else:
        assert list(report.unknown) == [parts.metadata.uid]
        record = fresh.effects.journal.get(parts.metadata.uid)
        assert record is not None
        assert {each.device for each in record.devices} == {f"gpu-{at}" for at in range(8)}
        # What was complete stays, and may end.
        fresh.prepare(beside, PATIENT)
        recover(fresh, {parts.metadata.uid: parts, beside.metadata.uid: beside})
    for each in (parts, beside):
        fresh.unprepare(claim_ref(each), PATIENT)
    assert (host.instances(), host.mig_enabled()) == ([], False)


def test_a_claim_whose_record_was_lost_is_known_again_when_it_is_prepared(host: Site) -> None:
    state = host.start()
    for phase in ("complete", "half made"):
        one = claim(phase, "gpu-0-mig-3g40gb-9-0", "gpu-1")
        state.prepare(one, PATIENT)
        state.effects.cdi.remove(one.metadata.uid)
        (host.state / f"claims/{one.metadata.uid}.json").write_bytes(b"")
        if phase == "half made":
            with host.twin.change() as machine:
                machine.gpus[0].instances[0].compute.clear()
        assert list(recover(state, None).unknown) == [one.metadata.uid]
        state.prepare(one, PATIENT)
        assert disagreements(host, state) == []
        state.unprepare(claim_ref(one), PATIENT)
        assert (host.instances(), host.mig_enabled(), host.files()) == ([], False, [])


def test_a_lost_state_folder_is_rebuilt_from_the_cdi_files(host: Site) -> None:
    state = host.start()
    one = claim("one", "gpu-0-mig-3g40gb-9-0")
    state.prepare(one, PATIENT)
    before = state.effects.journal.entries().records
    (host.state / f"claims/{one.metadata.uid}.json").unlink()
    fresh = host.start()
    assert recover(fresh, None).rebuilt == {one.metadata.uid: "its CDI file"}
    assert fresh.effects.journal.entries().records == before


def test_threads_that_list_the_journal_at_once_see_all_of_it(quick: Path) -> None:
    journal, raw = Journal(quick), codec.decode(GOLDEN[0].read_bytes()).record
    for number in range(200):
        journal.put(replace(raw, claim=replace(raw.claim, uid=uid(str(number)))))
    with ThreadPoolExecutor(16) as pool:
        seen = [pool.submit(lambda: len(journal.entries().records)) for _ in range(200)]
        assert {each.result() for each in seen} == {200}


@pytest.mark.parametrize("name", ["..", "../../etc/passwd", "a", "", "0" * 36, "\0", f"{uid('x')}/", f"{uid('x')}\n"])
def test_only_uuids_name_records(quick: Path, name: str) -> None:
    with pytest.raises(PermanentError, match="is not a UUID"):
        Journal(quick).get(name)


def test_a_link_in_the_place_of_a_record_is_not_followed(quick: Path) -> None:
    journal = Journal(quick)
    (quick / "elsewhere").write_bytes(GOLDEN[0].read_bytes())
    (quick / f"claims/{uid('x')}.json").symlink_to(quick / "elsewhere")
    with pytest.raises(codec.CorruptError, match="cannot be read"):
        journal.get(uid("x"))


def test_a_record_under_another_claims_name_is_not_believed(quick: Path) -> None:
    journal = Journal(quick)
    (quick / f"claims/{uid('x')}.json").write_bytes(GOLDEN[0].read_bytes())
    with pytest.raises(codec.CorruptError, match="is of another claim"):
        journal.get(uid("x"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_disk_that_refuses_is_told_and_nothing_is_begun(
    host: Site, call: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, before = host.start(), host.hardware()
    state.prepare(claim("other", "gpu-1"), PATIENT)
    kept = host.files()
    real = getattr(os, call)

    def refusing(*args: object, **given: object) -> object:
        if call == "open" and not int(str(args[1])) & os.O_CREAT:
            return real(*args, **given)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refusing)
        with pytest.raises(RetryableError, match=errno.errorcode[code]):
            state.prepare(claim("one", "gpu-0-mig-3g40gb-9-0"), PATIENT)
        assert host.hardware() == before
    recover(state, None)
    assert host.files() == kept
    record: Record | None = state.effects.journal.get(claim("one").metadata.uid)
    assert record is None
