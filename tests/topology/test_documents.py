"""Odd YAML: whatever a stranger wrote, it is read or refused with one message, never with an error of the library."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import catalog
from topology.documents import load_document
from topology.errors import InvalidInputError
from topology.facts import Machine
from topology.machine import parse_machine
from topology.quality import set_quality

MACHINE = (Path(catalog.__file__).parent / "data" / "machines" / "rtx3090-2-nvlink.yaml").read_text()
TAGS = (
    "bool",
    "int",
    "float",
    "timestamp",
    "binary",
    "null",
    "str",
    "map",
    "seq",
    "set",
    "omap",
    "pairs",
    "merge",
    "x",
)
VALUES = (
    "x",
    "''",
    "{}",
    "[]",
    "[1]",
    "[{a: 1}]",
    "{a: 1}",
    "0x",
    "0b",
    "+",
    "-",
    "1:",
    "_",
    ".",
    "2026-99-99",
    ".inf",
)


@pytest.mark.parametrize("value", ["!!bool x", "!!int ''", "!!timestamp x", "!!float ''", "!!binary é", "2026-99-99"])
def test_scalars_that_break_inside_the_library_are_refused_as_no_yaml(value: str) -> None:
    with pytest.raises(InvalidInputError, match="is not YAML"):
        load_document(f"schema: {value}\n", "f", "gpu-topology/v1")


@pytest.mark.parametrize(
    "text", ["schema: s\nschema: s\n", "schema: s\na:\n- {b: 1, b: 2}\n", "schema: s\n'schema': x\n"]
)
def test_a_key_given_twice_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"line \d: repeats the key"):
        load_document(text, "f", "s")


@pytest.mark.parametrize("text", ["? [1]\n: 2\n", "? {a: 1}\n: 2\n"])
def test_a_key_that_is_no_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="no plain text"):
        load_document(text, "f", "s")


def test_a_long_schema_does_not_fill_the_message() -> None:
    with pytest.raises(InvalidInputError) as refused:
        load_document(f"schema: {'x' * 100_000}\n", "f", "s")
    assert len(str(refused.value)) < 400


def test_text_that_is_no_mapping_says_how_such_a_file_starts() -> None:
    with pytest.raises(InvalidInputError, match="is no YAML mapping; such a file starts with `schema: s`"):
        load_document("claim,node\nx,y\n", "f", "s")


@pytest.mark.parametrize("tag", TAGS)
def test_every_tag_on_every_value_is_read_or_refused(tag: str) -> None:
    for value in VALUES:
        for text in (f"schema: !!{tag} {value}\n", f"schema: s\na: !!{tag} {value}\n", f"!!{tag} {value}: s\n"):
            read(text, "s")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="schema: s\n-{}[]!&*?|>'\"#%@`,~<=0123456789.eE+_x\t\ud800é", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    read(text, "s")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, len(MACHINE) - 1),
    st.sampled_from(("!!int ''", "!!bool x", ".inf", ".nan", "[", ": ", "-1", "9" * 30)),
)
def test_a_machine_file_with_a_splinter_in_it_is_read_or_refused(at: int, splinter: str) -> None:
    try:
        machine = parse_machine(MACHINE[:at] + splinter + MACHINE[at:], "f")
    except InvalidInputError:
        return
    assert isinstance(machine, Machine)
    set_quality(machine)


def read(text: str, schema: str) -> None:
    try:
        assert isinstance(load_document(text, "f", schema), dict)
    except InvalidInputError as error:
        assert len(str(error)) < 1000  # noqa: PT017 - either outcome is right
