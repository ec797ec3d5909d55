"""FI-10: whatever NVML answers to whichever call, the error is ours, nothing leaks and nothing foreign is touched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dra_driver.errors import DeviceError
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.recover import recover
from dra_driver.prepare.resolve import claim_ref
from dra_driver.prepare.state import DeviceState
from tests.dra_driver.prepare.sites import Site, claim, site
from tests.dra_driver.prepare.test_peers_bugs import foreign
from twin.codes import Code

PATIENT = Patient()
ASKED = claim("asked", "gpu-1-mig-3g40gb-9-0", "gpu-0-mig-1g10gb-19-4", "gpu-2", strategy="default")
WHOLE = claim("whole", "gpu-1")
CODES = [code for code in Code if code is not Code.SUCCESS]


def prepare(state: DeviceState) -> None:
    state.prepare(ASKED, PATIENT)


def unprepare(state: DeviceState) -> None:
    state.unprepare(claim_ref(ASKED), PATIENT)


def start(state: DeviceState) -> None:
    report = recover(state, {ASKED.metadata.uid: ASKED})
    assert len(report.faults) <= 1


VERBS: dict[str, tuple[Callable[[DeviceState], None], bool]] = {
    "prepare": (prepare, False),
    "prepare again": (prepare, True),
    "unprepare": (unprepare, True),
    "start": (start, True),
}
"""What is called, and whether the claim was prepared before."""


def functions_of(folder: Path, verb: Callable[[DeviceState], None], prepared: bool) -> list[str]:
    """Functions of NVML that a verb calls."""
    with site(folder) as host:
        foreign(host, "gpu-0-mig-3g40gb-9-0")
        state = host.start()
        if prepared:
            prepare(state)
        with host.twin.install() as library:
            verb(host.start())
            # The first call opens the session, whose failures are the binding's to test.
            return sorted(name for name in library.calls if not name.startswith(("nvmlInit", "nvmlShutdown")))


@pytest.mark.parametrize("after", [False, True], ids=["refused", "done-but-refused"])
@pytest.mark.parametrize("name", VERBS)
def test_every_answer_of_nvml_to_every_call(quick: Path, name: str, after: bool) -> None:
    verb, prepared = VERBS[name]
    functions = functions_of(quick / "calls", verb, prepared)
    assert len(functions) > 5
    with site(quick / "host") as host:
        there = foreign(host, "gpu-0-mig-3g40gb-9-0")
        before = host.hardware()
        for function in functions:
            for code in CODES if not after else (Code.UNKNOWN, Code.TIMEOUT):
                _once(host, verb, prepared, function, code, after)
                assert (host.hardware(), host.files()) == (before, []), f"{function} {code!r}"
                assert host.instances() == there


def _once(
    host: Site, verb: Callable[[DeviceState], None], prepared: bool, function: str, code: Code, after: bool
) -> None:
    state = host.start()
    if prepared:
        prepare(state)
    host.twin.fault(function.removesuffix("_v2"), code=code, after=after)
    with suppress(DeviceError):
        verb(state)
    host.twin.clear_faults()
    fresh = host.start()
    report = recover(fresh, {ASKED.metadata.uid: ASKED})
    assert report.faults == {}
    fresh.prepare(ASKED, PATIENT)
    fresh.unprepare(claim_ref(ASKED), PATIENT)
    if function == "nvmlDeviceSetMigMode":
        # MIG that could not be switched off may stay on, and goes off when the whole GPU is wanted.
        fresh.prepare(WHOLE, PATIENT)
        fresh.unprepare(claim_ref(WHOLE), PATIENT)
    for each in (state, fresh):
        each.effects.journal.close()
