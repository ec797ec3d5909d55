"""What the golden table cannot tell: limits, what a selector reads, positions of errors, and input made to hurt."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import cel
from kube.cel import CostExceeded, SelectorFault, SelectorSyntaxError
from packing.dra.model import NANO, Attribute, AttributeKind
from tests.kube.cel import golden

ATTRIBUTES = {
    "gpu.example.com/type": Attribute(AttributeKind.STRING, ("gpu",)),
    "gpu.example.com/index": Attribute(AttributeKind.INT, (3,)),
}
CAPACITY = {"gpu.example.com/memory": 80 * 2**30 * NANO}


def matches(expression: str) -> bool:
    return cel.compile(expression).matches("gpu.example.com", ATTRIBUTES, CAPACITY, multiple=False)


def test_a_selector_is_compiled_once() -> None:
    assert cel.compile("true || false") is cel.compile("true || false")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('device.driver == "x"', set()),
        ("device.allowMultipleAllocations", set()),
        ('device.attributes["a"].x == 1', {"a/x"}),
        ('device.attributes["a"]["x"] == 1', {"a/x"}),
        ('has(device.attributes["a"].x)', {"a/x"}),
        ('"x" in device.attributes["a"]', {"a/x"}),
        ('device.attributes["a"].?x.orValue(1) == 1', {"a/x"}),
        ('device.attributes[?"a"].?x.orValue(1) == 1', {"a/x"}),
        ('device.capacity["a"].m.isGreaterThan(quantity("1"))', {"a/m"}),
        ('cel.bind(a, device.attributes["a"], a.x == 1 && a.y == 2)', {"a/x", "a/y"}),
        ('cel.bind(a, device.attributes, a["d"].x == 1)', {"d/x"}),
        ('cel.bind(a, device.attributes["a"].x, a == 1)', {"a/x"}),
        ('[1, 2].exists(i, device.attributes["a"].x == i)', {"a/x"}),
        ('cel.bind(device, {"driver": 1}, device.driver == 1)', set()),
        ('device.attributes["a"].x.y == 1', {"a/x"}),
        ('device.attributes["a"].size() == 1', None),
        ('device.attributes["a"].exists(k, k == "x")', None),
        ("device.attributes.size() == 1", None),
        ('device.attributes[device.driver].x == "gpu"', None),
        ('device.attributes["a"][device.driver] == "gpu"', None),
        ("device == device", None),
        ('cel.bind(a, device.attributes["a"], a.size() == 1)', None),
        ('cel.bind(a, device.attributes["a"], a[device.driver] == 1)', None),
        ('{"a": device.attributes["a"]}.a.x == 1', None),
        ('(true ? device.attributes["a"] : device.attributes["b"]).x == 1', None),
    ],
)
def test_what_a_selector_can_read_is_told(expression: str, names: set[str] | None) -> None:
    assert cel.compile(expression).reads == (None if names is None else frozenset(names))


def test_an_attribute_that_is_not_among_the_reads_never_matters() -> None:
    """Caching by what is read is sound: a device reduced to it has the same answer (every row of the table)."""
    from tests.kube.cel.test_golden import INPUTS, ROWS

    compared = 0
    for row in ROWS:
        if "refused" in row or golden.DEVICES[row["device"]].get("lists"):
            continue
        selector = cel.compile(row["expression"])
        if selector.reads is None:
            continue
        driver, attributes, capacity, multiple = INPUTS[row["device"]]
        less = {name: value for name, value in attributes.items() if name in selector.reads}
        held = {name: value for name, value in capacity.items() if name in selector.reads}
        try:
            answer = selector.matches(driver, less, held, multiple)
        except SelectorFault:
            assert "fault" in row, row
        else:
            assert answer == row["matches"], row
        compared += 1
    assert compared > 1000


@pytest.mark.parametrize(
    ("expression", "line", "column"),
    [("true &&", 1, 8), ("true\n&& foo", 2, 4), ("1 + 'a' == 2", 1, 3), ("#", 1, 1)],
)
def test_a_refusal_names_the_place(expression: str, line: int, column: int) -> None:
    with pytest.raises(SelectorSyntaxError) as refused:
        cel.compile(expression)
    assert (refused.value.line, refused.value.column) == (line, column)


def test_expressions_of_more_than_10_kib_are_refused_unparsed() -> None:
    with pytest.raises(SelectorSyntaxError, match="10241 bytes, and no more than 10240"):
        cel.compile("#" * 10241)
    assert matches("true" + " " * 10236)


@pytest.mark.parametrize("nested", ["({})", "[{}].size() > 0", "!({})", "true ? {} : true", "[1].all(x, {})"])
def test_deep_nesting_is_refused_or_answered(nested: str) -> None:
    expression = "true"
    while len(expression) < 5000:
        expression = nested.replace("{}", expression)
    try:
        matches(expression)
    except (SelectorSyntaxError, SelectorFault):
        return


@pytest.mark.parametrize(
    "expression",
    [
        "lists.range(1000000000).size() > 0",
        "lists.range(1000).all(x, lists.range(1000).all(y, true))",
        'cel.bind(s, lists.range(9999).map(x, "0123456789").join(), s.replace("", s).size() > 0)',
        'cel.bind(s, lists.range(9999).map(x, "0123456789").join(), "%s".format([s]).size() > 0 && "'
        + "%s" * 900
        + '".format(['
        + "s," * 900
        + "]).size() > 0)",
        "".join(f"cel.bind(a{n + 1}, a{n} + a{n}, " for n in range(60)).replace("a0 + a0", "[1] + [1]")
        + "a60.size() > 0"
        + ")" * 60,
        "".join(f"cel.bind(a{n + 1}, [a{n}, a{n}], " for n in range(1, 60)).join(["cel.bind(a1, [[1]], ", ""])
        + "a60 == [a59, a59]"
        + ")" * 60,
        "".join(f"cel.bind(a{n + 1}, [a{n}, a{n}], " for n in range(1, 60)).join(["cel.bind(a1, [[1]], ", ""])
        + '"%s".format([a60]) == ""'
        + ")" * 60,
        "".join(f"cel.bind(a{n + 1}, [a{n}, a{n}], " for n in range(1, 60)).join(["cel.bind(a1, [[1]], ", ""])
        + "dyn(a60).flatten(60).size() > 0"
        + ")" * 60,
        "".join(f"cel.bind(a{n + 1}, [a{n}, a{n}], " for n in range(1, 60)).join(["cel.bind(a1, [[1]], ", ""])
        + "[a60].indexOf([a59]) > 0"
        + ")" * 60,
    ],
)
def test_values_without_bound_end_as_too_costly(expression: str) -> None:
    with pytest.raises((CostExceeded, SelectorSyntaxError)):
        matches(expression)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|aa)+$", "(.*)*x"])
def test_no_pattern_takes_more_than_linear_time(pattern: str) -> None:
    assert not matches(f'lists.range(500).map(x, "aaaaaaaaaaaaaaaaaaaa!").join("").matches("^{pattern}$")')


@pytest.mark.parametrize(
    "expression",
    [
        f'int("{"9" * 5000}") > 0',
        f'int("{"0" * 5000}7") == 7',
        f"{'9' * 5000} > 0",
        f'quantity("{"9" * 5000}").isInteger()',
        f'quantity("1e{"9" * 30}").isInteger()',
        f'semver("{"9" * 5000}.0.0").major() > 0',
        f'duration("{"9" * 5000}s") > duration("1s")',
        f'"%.{"9" * 5000}f".format([1.5]) == ""',
        f'("%." + "{"9" * 5000}f").format([1.5]) == ""',
        f'timestamp(0).getHours("{"9" * 5000}:00") > 0',
        f'double("{"9" * 5000}") > 0.0',
        f'ip("{"9" * 5000}.1.1.1") == ip("1.1.1.1")',
        f'cidr("1.1.1.1/{"9" * 5000}") == cidr("1.1.1.1/8")',
        "cel.bind(l, [], {l: 1}.size() > 0)",
        "{optional.of([1]): 1}.size() > 0",
        '"\\ud83d" == ""',
    ],
)
def test_numbers_of_any_length_are_answered_or_refused(expression: str) -> None:
    try:
        matches(expression)
    except (SelectorSyntaxError, SelectorFault):
        return


@given(st.randoms(use_true_random=False))
def test_broken_expressions_raise_our_errors_alone(chance: random.Random) -> None:
    """Any mixture of real expressions is answered, refused or fails, and raises nothing else."""
    texts = [row["expression"] for row in chance.choices(list(CASES), k=3)]
    for _ in range(10):
        cut = [chance.randrange(len(text) + 1) for text in texts]
        mixed = (
            texts[0][: cut[0]] + texts[1][cut[1] :] + chance.choice(["", ")", "]", "'", '"', "&&", " in ", texts[2]])
        )
        try:
            matches(mixed)
        except (SelectorSyntaxError, SelectorFault):
            continue


CASES = [row for row in golden.cases() if "range(" not in row["expression"]]
