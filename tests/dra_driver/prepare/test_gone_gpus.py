"""A GPU that falls off the bus takes no pod and no driver along: pods end, others start, nothing is left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dra_driver.assemble import NodeSide
from dra_driver.errors import GpuGoneError
from dra_driver.inventory import NodeGpus
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.model import Phase
from dra_driver.prepare.recover import recover
from dra_driver.prepare.resolve import claim_ref
from dra_driver.prepare.sentinel import Sentinel
from dra_driver.settings import Settings
from tests.dra_driver.prepare.kills import disagreements
from tests.dra_driver.prepare.sites import NODE, Site, claim, share

PATIENT = Patient()
LOST, WELL = "gpu-0-mig-3g40gb-9-0", "gpu-1-mig-3g40gb-9-0"
SHAPES = {
    "part": claim("one", LOST),
    "parts of two GPUs": claim("one", LOST, WELL),
    "whole": claim("one", "gpu-0"),
    "share": claim("one", share("gpu-0-time-slicing", 1)),
    "exclusive": claim("one", "gpu-0", strategy="exclusive"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pod_on_a_lost_gpu_can_end(host: Site, shape: str) -> None:
    state, asked = host.start(), SHAPES[shape]
    before = host.hardware()
    state.prepare(asked, PATIENT)
    host.twin.lose(0)
    for _ in range(2):
        state.unprepare(claim_ref(asked), PATIENT)
    assert not state.effects.cdi.claims()
    assert host.instances(1) == []
    # What could not be undone is held until it is.
    for record in state.effects.journal.entries().records.values():
        assert record.phase is Phase.UNPREPARING
        assert "part" in shape
    host.twin.recover(0)
    recover(host.start(), None)
    assert disagreements(host, state) == []
    assert (host.hardware(), host.files()) == (before, [])


def test_a_part_on_a_gpu_that_answers_again_by_itself_is_undone_then(host: Site) -> None:
    state, asked = host.start(), claim("one", LOST)
    before = host.hardware()
    state.prepare(asked, PATIENT)
    with host.twin.change() as machine:
        machine.gpus[0].lost = True
    state.unprepare(claim_ref(asked), PATIENT)
    with pytest.raises(GpuGoneError):
        state.prepare(asked, PATIENT)
    with host.twin.change() as machine:
        machine.gpus[0].lost = False
    assert host.instances(0) != []
    sentinel = Sentinel(state, dict, lambda: ())
    assert sentinel.check() == ()
    assert (host.hardware(), host.files()) == (before, [])


def test_the_driver_starts_while_a_claim_holds_a_gpu_that_nvml_has_no_more(host: Site) -> None:
    """It raised ValueError and the driver ended, at each start."""
    host.whole_host()
    asked = [claim("gone", "gpu-0"), claim("stays", "gpu-1")]
    settings = Settings(node=NODE, roots=host.roots)
    first = NodeSide.make(settings, host.nvml)
    first.inspection.look()
    for each in asked:
        first.state.prepare(each, PATIENT)
    host.twin.lose(0)
    assert isinstance(host.nvml, PynvmlNvml)
    host.nvml.close()
    again = PynvmlNvml()
    side = NodeSide.make(settings, again)
    assert len(side.inspection.look().gpus) == 7
    report = recover(side.state, None)
    assert sorted(report.kept) == sorted(each.metadata.uid for each in asked)
    side.state.prepare(claim("comer", "gpu-2"), PATIENT)
    for each in asked:
        side.state.unprepare(claim_ref(each), PATIENT)
    again.close()


def test_the_surprise_of_one_claim_stops_no_other_and_not_the_driver(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = host.start()
    one, other = claim("one", "gpu-0"), claim("other", "gpu-1")
    for each in (one, other):
        state.prepare(each, PATIENT)
    is_current = state.effects.cdi.is_current

    def surprised(record: object) -> bool:
        if getattr(record, "claim", None) == claim_ref(one):
            raise KeyError("surprise")
        return is_current(record)  # type: ignore[arg-type]

    monkeypatch.setattr(state.effects.cdi, "is_current", surprised)
    state.effects.cdi.remove(other.metadata.uid)
    report = recover(state, None)
    assert "KeyError" in report.faults[one.metadata.uid]
    assert list(report.repaired) == [other.metadata.uid]


def test_a_gpu_that_goes_while_a_claim_waits_for_it_is_told(host: Site) -> None:
    full = host.gpus
    seen: list[None] = []

    def node() -> NodeGpus:
        seen.append(None)
        return full if len(seen) == 1 else replace(full, gpus=full.gpus[1:])

    with pytest.raises(GpuGoneError, match="has just gone"):
        host.start(node=node).prepare(claim("one", "gpu-0"), PATIENT)
    assert host.files() == []
