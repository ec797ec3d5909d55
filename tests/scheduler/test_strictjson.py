"""Strict JSON: what the standard reader accepts and no two readers agree on is refused, whatever it is made of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.strictjson import JsonFault, parse

TEXTS = st.text(alphabet='a:"\\\u00e9\u2028 {}[],\n', max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_has_no_fault_reads_as_the_standard_reader_reads_it(value: Any, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


def inserted(value: Any, at: list[int], pair: str) -> str:
    """The text of a value in which one object has one pair more, and whether a key is then there twice."""
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}:{inserted(item, at, pair)}" for key, item in value.items()]
        at[0] -= 1
        if at[0] == 0:
            parts.append(pair)
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(inserted(item, at, pair) for item in value) + "]"
    return json.dumps(value)


def has_duplicate(text: str) -> bool:
    found = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found.append(len({key for key, _ in pairs}) < len(pairs))
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    return any(found)


ESCAPED = st.sampled_from(
    ['"a":1', '"a":":::"', r'"\u0061":2', r'"\u003a":"::"', r'"\u003A":{"a:":null}', r'":\\u003a":3', '"":[]']
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.integers(1, 4), ESCAPED)
def test_a_key_given_twice_is_refused_wherever_and_however_it_is_written(value: Any, at: int, pair: str) -> None:
    text = inserted(value, [at], pair)
    if has_duplicate(text):
        with pytest.raises(JsonFault, match="given twice"):
            parse(text.encode())
    else:
        assert parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("body", "path", "problem"),
    [
        (b'{"a":{"b":1,"b":2}}', "$.a.b", "given twice"),
        (b'{"a":[{},{"x:y":1,"x:y":2}]}', '$.a[1]["x:y"]', "given twice"),
        (b'{"a":1,"\\u0061":1}', "$.a", "given twice"),
        (b'{"a":[0,123456789012345678901234567890]}', "$.a[1]", "integer of more than 64 bits"),
        (b'{"a":' + b"9" * 5000 + b"}", "$", "integer value out of range"),
        (b'{"a":1e999}', "$", "number out of range"),
        (b'{"a":NaN}', "$", "JSON is malformed"),
        (b'{"a":-Infinity}', "$", "JSON is malformed"),
        (b'{"a":"\xff"}', "$", "byte 6 is not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "$", "byte 0 is not UTF-8"),
        (b'{"a":"\\ud800"}', "$", "truncated"),
        (b"", "$", "truncated"),
        (b'{"a":1} {}', "$", "trailing characters"),
        (b'{"a":01}', "$", "malformed"),
        (b'{"a":"' + b"\x00" + b'"}', "$", "malformed"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "$" + ".a" * 100, "nested deeper than 100 levels"),
        (b"[" * 100_000, "$", "nested deeper than 100 levels"),
        (b"[" * 100_000 + b"]" * 100_000, "$", "nested deeper than 100 levels"),
    ],
)
def test_faults_are_named_with_their_path(body: bytes, path: str, problem: str) -> None:
    with pytest.raises(JsonFault) as caught:
        parse(body)
    assert problem in caught.value.problem
    assert caught.value.path.startswith(path[:100])


def test_a_long_key_is_not_repeated_in_full() -> None:
    key = "k" * 10_000
    with pytest.raises(JsonFault) as caught:
        parse(f'{{"{key}":1,"{key}":2}}'.encode())
    assert len(str(caught.value)) < 400
