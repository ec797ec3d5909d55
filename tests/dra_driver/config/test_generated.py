"""HI-7: whatever is written, it is taken or refused with a typed error, and the JSON Schema says the same."""

import json
import random

import pytest
from jsonschema import Draft202012Validator

from dra_driver.config.parse import MAX_BYTES, ConfigError, parse
from dra_driver.config.schema import json_schema
from kube.linkwish import decode_link

SEED = 7
GOOD = {"apiVersion": "gpu.dovetail.dev/v1alpha1", "kind": "GpuConfig"}
FIELDS = (
    "apiVersion",
    "kind",
    "link",
    "sharing",
    "strategy",
    "timeSlicing",
    "interval",
    "mps",
    "activeThreadPercentage",
    "pinnedMemoryLimit",
    "wish",
    "minGBps",
    "Sharing",
    "sharing ",
    "\u0455haring",
    "",
    "$ref",
    "__class__",
    "\x00",
)
SIZES = (
    "1Mi",
    "10Gi",
    "1.5Gi",
    "9M",
    "10M",
    "1G",
    "512",
    "0Gi",
    "1Ki",
    "-1Gi",
    "1e3",
    "1Gi\n",
    "999999.999Ti",
    "\uff11Gi",
)
SCALARS = (None, True, False, 0, 1, 50, 100, 101, -1, 10**30, 10**400, 0.001, 0.0001, 1.5, 10**6, 1e6 + 1, 1e308)
WORDS = ("", "x", "mps", "MPS", "time-slicing", "TimeSlicing", "exclusive", "default", "Short", "short", "Long", "none")
LONG = ("a" * 9000, "a" * 11000, "{" * 500, "\U0001d544" * 2000, "\u202emps", "&a *a", "!!python/object:os.system")


def scalar(draw):
    return draw.choice((draw.choice(SCALARS), draw.choice(WORDS), draw.choice(SIZES), draw.choice(LONG)))


def anything(draw, depth=0):
    kind = draw.random()
    if depth > 4 or kind < 0.6:
        return scalar(draw)
    if kind < 0.8:
        return [anything(draw, depth + 1) for _ in range(draw.randrange(3))]
    return {draw.choice(FIELDS): anything(draw, depth + 1) for _ in range(draw.randrange(4))}


def valid(draw):
    """A configuration that is good."""
    config = dict(GOOD)
    if draw.random() < 0.5:
        wish = draw.choice(("none", "prefer", "require"))
        config["link"] = {"wish": wish}
        if wish == "require" and draw.random() < 0.5:
            config["link"]["minGBps"] = draw.choice((0.001, 1, 450.5, 10**6))
    if draw.random() < 0.8:
        config["sharing"] = sharing = {"strategy": draw.choice(("default", "exclusive", "mps", "time-slicing"))}
        if sharing["strategy"] == "mps" and draw.random() < 0.8:
            limits = {"activeThreadPercentage": draw.randint(1, 100), "pinnedMemoryLimit": draw.choice(SIZES[:3])}
            sharing["mps"] = dict(draw.sample(list(limits.items()), draw.randrange(3)))
        if sharing["strategy"] == "time-slicing" and draw.random() < 0.8:
            sharing["timeSlicing"] = draw.choice(({}, {"interval": "Default"}, {"interval": "Long"}))
    return config


def mutated(draw, config):
    """A good configuration with something done to some place of it."""
    places = [config, *(each for each in config.values() if isinstance(each, dict))]
    places += [inner for each in places[1:] for inner in each.values() if isinstance(inner, dict)]
    place = draw.choice(places)
    move = draw.random()
    if "sharing" in config and move < 0.15:
        # Settings that go with another strategy.
        config["sharing"] = {**config["sharing"], draw.choice(("mps", "timeSlicing")): {}}
        return config
    if move < 0.3 and place:
        del place[draw.choice(list(place))]
    elif move < 0.6:
        place[draw.choice(FIELDS)] = anything(draw, 3)
    elif place:
        place[draw.choice(list(place))] = scalar(draw)
    return config


def generated(draw):
    kind = draw.random()
    if kind < 0.3:
        return valid(draw)
    return mutated(draw, valid(draw)) if kind < 0.8 else anything(draw)


def accepted(parameters):
    fault = refused(parameters)
    if fault is None:
        return True
    assert fault.path.startswith("$")
    assert len(str(fault)) < 1000
    assert str(fault).isprintable()
    return False


def refused(parameters):
    try:
        parse(parameters)
    except ConfigError as fault:
        return fault
    return None


@pytest.mark.parametrize(
    "count", [pytest.param(2_000, id="2,000"), pytest.param(100_000, id="100,000", marks=pytest.mark.soak)]
)
def test_hi_07_a_configuration_is_taken_or_refused_and_the_schema_agrees(count):
    draw = random.Random(SEED)
    validator = Draft202012Validator(json_schema())
    taken = 0
    for at in range(count):
        config = generated(draw)
        ours = accepted(config)
        # Bounds on size are not the schema's to say.
        if len(json.dumps(config)) <= MAX_BYTES:
            assert ours == validator.is_valid(config), f"seed {SEED}, configuration {at}: {json.dumps(config)[:500]}"
        taken += ours
    assert count // 4 < taken < 3 * count // 4


def test_the_scheduler_reads_the_link_of_all_that_the_driver_takes():
    draw = random.Random(SEED)
    seen = 0
    for _ in range(2_000):
        config = generated(draw)
        if accepted(config):
            terms = decode_link(config)
            assert (terms is not None) == ("link" in config)
            seen += terms is not None
        elif refused(config).path.startswith("$.link"):
            with pytest.raises(ValueError, match=r" - at `\$|out of range"):
                decode_link(config)
    assert seen > 200


@pytest.mark.parametrize("size", [MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1])
def test_a_good_configuration_is_never_near_the_limit_and_padding_cannot_hide(size):
    text = json.dumps({**GOOD, "pad": ""})
    config = {**GOOD, "pad": "a" * (size - len(text.replace(" ", "")))}
    with pytest.raises(ConfigError) as fault:
        parse(config)
    assert fault.value.path == ("$" if size > MAX_BYTES else "$.pad")
