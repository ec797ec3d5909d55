"""A configuration is taken whole and as meant, or refused with the path of the fault and what would be right."""

import msgspec
import pytest

from dra_driver.config.model import Interval, Settings, Strategy
from dra_driver.config.parse import MAX_BYTES, ConfigError, parse, settings
from dra_driver.errors import PermanentError

HEAD = {"apiVersion": "gpu.dovetail.dev/v1alpha1", "kind": "GpuConfig"}


def sharing(**fields):
    return {**HEAD, "sharing": fields}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (sharing(strategy="default"), Settings()),
        (sharing(strategy="exclusive"), Settings(strategy=Strategy.EXCLUSIVE)),
        (sharing(strategy="time-slicing"), Settings(strategy=Strategy.TIME_SLICING)),
        (
            sharing(strategy="time-slicing", timeSlicing={"interval": "Short"}),
            Settings(strategy=Strategy.TIME_SLICING, interval=Interval.SHORT),
        ),
        (sharing(strategy="mps", mps={}), Settings(strategy=Strategy.MPS)),
        (sharing(strategy="mps"), Settings(strategy=Strategy.MPS)),
        (
            sharing(strategy="mps", mps={"activeThreadPercentage": 25, "pinnedMemoryLimit": "10Gi"}),
            Settings(strategy=Strategy.MPS, active_thread_percentage=25, pinned_memory_bytes=10 * 2**30),
        ),
    ],
)
def test_sharing_comes_to_settings(parameters, expected):
    assert settings(parse(parameters).sharing) == expected


@pytest.mark.parametrize(
    ("text", "mib"),
    [("1Mi", 1), ("1.5Gi", 1536), ("10G", 9536), ("10M", 9), ("1T", 953674), ("999999.999Ti", 1048575998951)],
)
def test_a_limit_is_whole_mib_rounded_down(text, mib):
    found = settings(parse(sharing(strategy="mps", mps={"pinnedMemoryLimit": text})).sharing)
    assert found.pinned_memory_bytes == mib * 2**20


@pytest.mark.parametrize(
    "text", ["", "0", "1", "0Gi", "1M", "9M", "512", "1k", "1Ki", "-1Gi", "+1Gi", "1e9", "1 Gi", "1Gi\n"]
)
def test_what_is_no_amount_of_at_least_a_mib_is_refused(text):
    with pytest.raises(ConfigError, match=r"^\$\.sharing\.mps\.pinnedMemoryLimit: .*at least 1Mi"):
        parse(sharing(strategy="mps", mps={"pinnedMemoryLimit": text}))


@pytest.mark.parametrize(
    ("parameters", "path", "said"),
    [
        (None, "$", "fields here: apiVersion, kind, link, sharing"),
        ([], "$", "fields here"),
        ({}, "$.apiVersion", "is missing; write gpu.dovetail.dev/v1alpha1"),
        ({**HEAD, "kind": "MigDeviceConfig"}, "$.kind", "write GpuConfig"),
        ({**HEAD, "apiVersion": "resource.nvidia.com/v1beta1"}, "$.apiVersion", "write gpu.dovetail.dev/v1alpha1"),
        ({**HEAD, "sharring": {}}, "$.sharring", "fields here: apiVersion, kind, link, sharing"),
        (sharing(), "$.sharing.strategy", "is missing; write one of default, exclusive, mps, time-slicing"),
        (sharing(strategy="TimeSlicing"), "$.sharing.strategy", "write one of default"),
        (sharing(strategy="mps", mpsConfig={}), "$.sharing.mpsConfig", "fields here: strategy, timeSlicing, mps"),
        (sharing(strategy="mps", timeSlicing={}), "$.sharing.timeSlicing", "write `strategy: time-slicing` or remove"),
        (sharing(strategy="exclusive", mps={}), "$.sharing.mps", "write `strategy: mps` or remove"),
        (
            sharing(strategy="mps", mps={"activeThreadPercentage": 0}),
            "$.sharing.mps.activeThreadPercentage",
            "1 to 100",
        ),
        (
            sharing(strategy="mps", mps={"activeThreadPercentage": 101}),
            "$.sharing.mps.activeThreadPercentage",
            "1 to 100",
        ),
        (sharing(strategy="mps", mps={"activeThreadPercentage": True}), "$.sharing.mps.activeThreadPercentage", "bool"),
        ({**HEAD, "link": {"wish": "prefer", "minGBps": 1}}, "$.link.minGBps", "`wish: require`"),
        ({**HEAD, "link": {"wish": "require", "minGBps": float("nan")}}, "$.link.minGBps", "is nan"),
        ({**HEAD, "link": {"wish": "require", "minGBps": 10**500}}, "$.link.minGBps", "0.001 to 1000000"),
        ({**HEAD, "sharing": None}, "$.sharing", "got `null`; fields here: strategy"),
        (sharing(strategy="mps", mps=None), "$.sharing.mps", "got `null`"),
        ({**HEAD, 1: 2}, "$", "no text"),
        ({**HEAD, "kind": "\ud800"}, "$.kind", "surrogate"),
        ({**HEAD, "sharing": b"x"}, "$.sharing", "is a bytes"),
    ],
)
def test_a_fault_is_named_by_path_and_remedy(parameters, path, said):
    with pytest.raises(ConfigError) as fault:
        parse(parameters)
    assert fault.value.path == path
    assert said in str(fault.value)
    assert isinstance(fault.value, PermanentError)


@pytest.mark.parametrize(("over", "problem"), [(-1, "no field"), (0, "no field"), (1, "bytes long")])
def test_the_size_is_that_of_the_api_to_the_byte(over, problem):
    parameters = {**HEAD, "x": ""}
    parameters["x"] = "a" * (MAX_BYTES + over - len(msgspec.json.encode(parameters)))
    with pytest.raises(ConfigError, match=problem):
        parse(parameters)


def test_depth_is_bounded():
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(ConfigError, match="nested deeper"):
        parse({**HEAD, "sharing": deep})


def test_what_a_stranger_wrote_stays_short_and_on_one_line():
    with pytest.raises(ConfigError) as fault:
        parse({**HEAD, "kind": "\x1b[31m\n" + "x" * 9000})
    assert len(str(fault.value)) < 500
    assert str(fault.value).isprintable()
