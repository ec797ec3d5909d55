"""Claims prepared, unprepared and recovered on a twin, the journal on this machine's disk: 8 GPUs with 7 parts each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dra_driver.prepare.effects import Patient
from dra_driver.prepare.model import Phase
from dra_driver.prepare.recover import recover
from dra_driver.prepare.resolve import claim_ref
from tests.dra_driver.prepare.kills import disagreements
from tests.dra_driver.prepare.sites import Site, claim, site

PATIENT = Patient()
PARTS = [claim(f"c{gpu}-{at}", f"gpu-{gpu}-mig-1g10gb-19-{at}") for gpu in range(8) for at in range(7)]


@pytest.mark.parametrize("device", ["gpu-0", "gpu-0-mig-1g10gb-19-0"], ids=["whole", "dynamic-mig"])
def test_prepare_and_unprepare(benchmark: BenchmarkFixture, tmp_path: Path, device: str) -> None:
    with site(tmp_path) as host:
        state, one = host.start(), claim("one", device)

        def both() -> None:
            state.prepare(one, PATIENT)
            state.unprepare(claim_ref(one), PATIENT)

        benchmark.pedantic(both, rounds=100, warmup_rounds=3)
        assert (host.files(), host.mig_enabled()) == ([], False)


def _prepared(host: Site) -> None:
    state = host.start()
    for each in PARTS:
        state.prepare(each, PATIENT)
    assert disagreements(host, state) == []


def test_recovery_of_56_complete_claims(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    with site(tmp_path) as host:
        _prepared(host)
        report = benchmark.pedantic(lambda: recover(host.start(), None), rounds=5)
        assert (len(report.kept), report.faults) == (56, {})


def test_recovery_that_undoes_56_half_made_claims(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    def half_made() -> tuple[tuple[Site], dict[str, object]]:
        _prepared(host)
        for path in (tmp_path / "cdi").iterdir():
            path.unlink()
        state = host.start()
        for record in state.effects.journal.entries().records.values():
            state.effects.journal.put(replace(record, phase=Phase.CI_CREATED))
        return (host,), {}

    with site(tmp_path) as host:
        report = benchmark.pedantic(lambda host: recover(host.start(), None), setup=half_made, rounds=3)
        assert (len(report.undone), report.faults) == (56, {})
        assert host.files() == []


def test_recovery_of_56_damaged_records(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    def damaged() -> tuple[tuple[Site], dict[str, object]]:
        for path in (tmp_path / "state/claims").iterdir():
            path.write_bytes(b"spoilt")
        return (host,), {}

    with site(tmp_path) as host:
        _prepared(host)
        report = benchmark.pedantic(lambda host: recover(host.start(), None), setup=damaged, rounds=3)
        assert (len(report.rebuilt), report.faults) == (56, {})
        assert disagreements(host, host.start()) == []
