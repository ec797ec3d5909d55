"""One session, opened when first asked, opened again after the driver was away, usable from many threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pynvml
import pytest

from dra_driver.nvml.api import DriverNotLoadedError, GpuLostError, NvmlError
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.nvml.session import fault
from tests.dra_driver.twins import machine_below
from twin.codes import Code

MACHINE = "hgx-h100-4gpu"


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


@pytest.mark.usefixtures("no_library")
def test_a_library_that_is_not_there_is_named(tmp_path: Path) -> None:
    nvml = PynvmlNvml(tmp_path / "libnvidia-ml.so.1")
    with pytest.raises(DriverNotLoadedError, match=str(tmp_path)):
        nvml.system()


@pytest.mark.usefixtures("no_library")
def test_a_library_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    with pytest.raises(DriverNotLoadedError, match=r"libnvidia-ml\.so\.1"):
        PynvmlNvml(tmp_path / "libnvidia-ml.so.1").gpus()


def test_a_driver_that_comes_later_is_found_then(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (twin, nvml, _):
        twin.fault("nvmlInitWithFlags", code=Code.DRIVER_NOT_LOADED, times=2)
        for _ in range(2):
            with pytest.raises(DriverNotLoadedError, match="kernel driver is not loaded"):
                nvml.gpus()
        assert len(nvml.gpus()) == 4


def test_the_session_is_opened_again_when_nvml_has_forgotten_it(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (twin, nvml, library):
        nvml.gpus()
        pynvml.nvmlShutdown()
        assert nvml.mig_mode(twin.gpu(2).uuid) is not None
        assert library.calls["nvmlInitWithFlags"] == 2


def test_the_session_is_opened_again_after_the_driver_was_unloaded(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (twin, nvml, _):
        nvml.gpus()
        twin.fault("nvmlDeviceGetComputeMode", code=Code.DRIVER_NOT_LOADED)
        assert nvml.compute_mode(twin.gpu(0).uuid) == 0


def test_a_driver_that_stays_away_is_told_once_and_not_asked_for_ever(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (twin, nvml, library):
        nvml.gpus()
        twin.fault("*", code=Code.DRIVER_NOT_LOADED, times=-1)
        before = sum(library.calls.values())
        with pytest.raises(DriverNotLoadedError):
            nvml.compute_mode(twin.gpu(0).uuid)
        assert sum(library.calls.values()) - before <= 4


def test_threads_that_meet_a_reload_together_all_get_answers(tmp_path: Path) -> None:
    """One closes the dead session, none closes the new one."""
    with machine_below(tmp_path, "dgx-a100-40") as (twin, nvml, library):
        uuids = [facts.uuid for facts in twin.facts.gpus]
        nvml.gpus()
        for _ in range(5):
            pynvml.nvmlShutdown()
            together = threading.Barrier(8)

            def ask(uuid: str, together: threading.Barrier = together) -> bool:
                together.wait(timeout=10)
                return nvml.mig_mode(uuid) is not None

            with ThreadPoolExecutor(8) as pool:
                assert all(pool.map(ask, uuids))
        assert library.calls["nvmlInitWithFlags"] <= 1 + 5 * 8


def test_a_closed_session_is_opened_by_the_next_question(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (_, nvml, _):
        nvml.close()
        nvml.close()
        assert len(nvml.gpus()) == 4


@pytest.mark.parametrize("code", sorted({*Code} - {Code.SUCCESS}))
def test_every_code_is_an_error_with_a_text(code: Code) -> None:
    error = fault("nvmlCall", int(code))
    assert isinstance(error, NvmlError)
    assert error.code == code
    assert str(error).startswith("nvmlCall: ")
    assert len(str(error)) > len("nvmlCall: ")


def test_a_lost_gpu_is_looked_up_anew(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (twin, nvml, library):
        nvml.gpus()
        uuid = twin.gpu(1).uuid
        twin.lose(1)
        with pytest.raises(GpuLostError):
            nvml.compute_mode(uuid)
        twin.recover(1)
        assert nvml.compute_mode(uuid) == 0
        assert library.calls["nvmlDeviceGetHandleByUUID"] == 1
