"""Quantities mean what they mean to the API server: tables from apimachinery's quantity_test.go, and laws."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.quantity import BINARY, DECIMAL, MAX_BINARY, format_quantity, parse_quantity
from packing.dra.model import NANO, Amount
from topology.errors import InvalidInputError

MAX_INT64 = 2**63 - 1

PARSED = {
    # text: value as (digits, power of ten)
    "0": (0, 0),
    "0n": (0, 0),
    "0Ki": (0, 0),
    "0T": (0, 0),
    "1": (1, 0),
    "1Ki": (1024, 0),
    "8Ki": (8 * 1024, 0),
    "7Mi": (7 * 1024**2, 0),
    "6Gi": (6 * 1024**3, 0),
    "5Ti": (5 * 1024**4, 0),
    "4Pi": (4 * 1024**5, 0),
    "3Ei": (3 * 1024**6, 0),
    "100Ti": (100 * 1024**4, 0),
    "5n": (5, -9),
    "4u": (4, -6),
    "3m": (3, -3),
    "9": (9, 0),
    "8k": (8, 3),
    "50k": (5, 4),
    "7M": (7, 6),
    "6G": (6, 9),
    "40T": (4, 13),
    "2P": (2, 15),
    "1E": (1, 18),
    "1E-3": (1, -3),
    "1e3": (1, 3),
    "1E6": (1, 6),
    "1E18": (1, 18),
    "1e14": (1, 14),
    "100.035k": (100035, 0),
    "0.001": (1, -3),
    "0.0005k": (5, -1),
    "0.05000": (5, -2),
    "0.5e0": (5, -1),
    "0.5e-2": (5, -3),
    "10.035M": (10035, 3),
    "1.3E+6": (13, 5),
    "1.53E12": (153, 10),
    "1.7E18": (17, 17),
    "7.123456M": (7123456, 0),
    "6.987654321G": (6987654321, 0),
    "1.01E": (101, 16),
    # saturated and rounded
    "3.001n": (4, -9),
    "1.1E-9": (2, -9),
    "0.0000000001": (1, -9),
    "0.00000000050": (1, -9),
    "0.5e-9": (1, -9),
    "0.9n": (1, -9),
    "0.00000012345": (124, -9),
    "0.00000012354": (124, -9),
    "9Ei": (MAX_INT64, 0),
    "9223372036854775807Ki": (MAX_INT64, 0),
    "12E": (12, 18),
    # fractions of binary ones
    "100.035Ki": (10243584, -2),
    "0.5Mi": (512 * 1024, 0),
    "0.05Gi": (536870912, -1),
    "0.025Ti": (274877906944, -1),
    # "things written by trolls"
    "0.000000000001Ki": (2, -9),
    ".001": (1, -3),
    ".0001k": (100, -3),
    "1.": (1, 0),
    "1.G": (1, 9),
    ".": (0, 0),
}

CANONICAL = {
    # text: canonical form, of a decimal or of a binary amount as the text is
    "1.5": "1500m",
    "1.5Gi": "1536Mi",
    "1024Ki": "1Mi",
    "1000k": "1M",
    "0.1": "100m",
    "0.5Ki": "512",
    "1000000n": "1m",
    "18446744073709551616": "18446744073709551616",
    "1.2345": "1234500u",
    "100.035Ki": "102435840m",
    "8Ei": str(MAX_INT64),
    "1000E": "1e21",
    "-1.5": "-1500m",
    "-2Ki": "-2Ki",
    "0Ki": "0",
    "+1000m": "1",
}

REFUSED = ["", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i", "-3.01i", "-3.01e-", "1e", "1 Gi", "0x10"]
REFUSED += ["nan", "inf", "1_000", "\N{FULLWIDTH DIGIT ONE}", "--1", "1e101", "1" * 65, "1KiB"]


@pytest.mark.parametrize("sign", ["", "+", "-"])
@pytest.mark.parametrize(("text", "value"), PARSED.items())
def test_what_kubernetes_parses(sign: str, text: str, value: tuple[int, int]) -> None:
    digits, power = value
    assert parse_quantity(sign + text) == digits * 10 ** (power + 9) * (-1 if sign == "-" else 1)


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items())
def test_the_canonical_form(text: str, canonical: str) -> None:
    assert format_quantity(parse_quantity(text), binary=text.endswith("i")) == canonical


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_none_is_quoted(text: str) -> None:
    with pytest.raises(InvalidInputError) as told:
        parse_quantity(text)
    assert repr(text[:64]) in str(told.value)


@pytest.mark.parametrize(
    ("number", "nano"), [(3, 3 * NANO), (0.5, NANO // 2), (1e-7, 100), (1e22, 10**31), (-2, -2 * NANO)]
)
def test_numbers_of_json_and_yaml_are_read_as_their_text(number: float, nano: int) -> None:
    assert parse_quantity(number) == nano


@pytest.mark.parametrize("number", [float("nan"), float("inf"), True])
def test_what_is_no_amount_is_refused(number: float) -> None:
    with pytest.raises(InvalidInputError):
        parse_quantity(number)


numbers = st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,12})?", fullmatch=True)
exponents = st.integers(-30, 30).map(lambda power: f"e{power}")
suffixes = st.one_of(st.sampled_from([*DECIMAL, *BINARY]), exponents)


@given(numbers, suffixes)
def test_the_amount_is_the_value_rounded_up_to_nano(number: str, suffix: str) -> None:
    if suffix in BINARY:
        exact = min(Fraction(number) * 2 ** BINARY[suffix] * NANO, Fraction(MAX_BINARY * NANO))
    else:
        power = DECIMAL[suffix] if suffix in DECIMAL else int(suffix[1:])
        exact = Fraction(number) * Fraction(10) ** (power + 9)
    amount = parse_quantity(number + suffix)
    assert exact <= amount < exact + 1
    assert parse_quantity(f"-{number}{suffix}") == -amount


amounts = st.integers(-(10**30), 10**30).map(Amount)


@given(amounts)
def test_canonical_text_loses_nothing_and_is_canonical(amount: Amount) -> None:
    text = format_quantity(amount)
    assert parse_quantity(text) == amount
    assert format_quantity(parse_quantity(text)) == text
    assert "." not in text


@given(st.integers(-MAX_INT64, MAX_INT64).map(lambda whole: Amount(whole * NANO)) | amounts)
def test_binary_text_loses_nothing_that_the_api_could_hold(amount: Amount) -> None:
    text = format_quantity(amount, binary=True)
    if abs(amount) <= MAX_INT64 * NANO:
        assert parse_quantity(text) == amount
        assert not text.endswith("i") or int(text[:-2]) % 1024 or text.endswith("Ei")


@given(st.text(max_size=12))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    try:
        amount = parse_quantity(text)
    except InvalidInputError:
        return
    assert parse_quantity(format_quantity(amount)) == amount
