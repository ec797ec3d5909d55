"""string.format(): clauses %s %d %f %e %b %o %x %X, as cel-go's strings extension of version 2 writes them (en_US)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

from kube.cel.convert import to_string
from kube.cel.errors import SelectorFault
from kube.cel.limits import affordable
from kube.cel.values import LISTS, Duration, Map, Timestamp, UInt, Value, type_of

PRECISION = 6
_DIGITS = 4
_CLAUSE = re.compile(r"(?:\.([0-9]*))?(.?)", re.DOTALL)
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SPECIAL = ("NaN", "Infinity", "-Infinity")

Clause = Callable[[Value, int], str]


def format_text(text: str, args: Sequence[Value]) -> str:
    """Fill in the clauses of a text. Raises SelectorFault."""
    parts: list[str] = []
    length = 0
    for clause in clauses(text, len(args)):
        parts.append(clause if isinstance(clause, str) else _filled(clause, args))
        length += len(parts[-1])
        affordable(length)
    return "".join(parts)


def clauses(text: str, given: int) -> list[str | tuple[int, str, int]]:
    """Split a format into texts and clauses (argument, letter, precision). Raises SelectorFault for a malformed one."""
    found: list[str | tuple[int, str, int]] = []
    at = count = 0
    while (percent := text.find("%", at)) >= 0:
        found.append(text[at:percent])
        if text[percent + 1 : percent + 2] == "%":
            found.append("%")
            at = percent + 2
            continue
        if count >= given:
            raise SelectorFault(f"index {count} out of range")
        match = _CLAUSE.match(text, percent + 1)
        assert match is not None
        precision, letter = match[1], match[2]
        if letter not in _CLAUSES or not letter or precision == "" or len(precision or "") > _DIGITS:
            raise SelectorFault(f"could not parse formatting clause {text[percent : match.end()]!r}")
        found.append((count, letter, PRECISION if precision is None else int(precision)))
        count += 1
        at = match.end()
    return [*found, text[at:]]


def _filled(clause: tuple[int, str, int], args: Sequence[Value]) -> str:
    at, letter, precision = clause
    if precision > 1000:
        raise SelectorFault(f"precision {precision} is too large")
    return _CLAUSES[letter](args[at], precision)


def _wrong(clause: str, value: Value) -> SelectorFault:
    return SelectorFault(f"error during formatting: {clause} clause cannot be used on {type_of(value)}")


def _text(value: Value, _precision: int = 0) -> str:
    if type(value) in LISTS:
        return f"[{_joined(map(_inner, value))}]"
    if isinstance(value, Map):
        pairs = sorted(((_map_key(key), _inner(held)) for key, held in value.items()), key=lambda pair: pair[0])
        return "{" + _joined(f"{key}:{held}" for key, held in pairs) + "}"
    try:
        return to_string(value)
    except SelectorFault:
        raise _wrong("string", value) from None


def _joined(parts: Iterable[str]) -> str:
    """Join the elements of a list; lists may share parts without end, so their text is bounded."""
    found: list[str] = []
    length = 0
    for part in parts:
        found.append(part)
        length += len(part)
        affordable(length)
    return ", ".join(found)


def _map_key(key: Value) -> str:
    if type(key) not in (str, bool, int, UInt):
        raise _wrong("map key", key)
    return _inner(key)


def _inner(value: Value) -> str:
    """Return an element of a list or map."""
    match value:
        case str():
            return go_quote(value)
        case bytes():
            return "b" + go_quote(_text(value))
        case float():
            return f"{value:.{PRECISION}f}" if math.isfinite(value) else go_quote(_go_special(value))
        case Timestamp():
            return f"timestamp({go_quote(to_string(value))})"
        case Duration():
            return f"duration({go_quote(to_string(value))})"
    return _text(value)


def _go_special(value: float) -> str:
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def go_quote(text: str) -> str:
    """Return a text as Go's `%q` writes it."""
    plain = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
    out: list[str] = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif char in plain:
            out.append(plain[char])
        elif char.isprintable():
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def _decimal(value: Value, _precision: int) -> str:
    if type(value) not in (int, UInt):
        raise _wrong("decimal", value)
    return str(int(value))


def _double(value: Value, clause: str) -> float:
    if type(value) is float:
        return value
    if type(value) is str and value in _SPECIAL:
        return float(value)
    raise _wrong(clause, value)


def _fixed(value: Value, precision: int) -> str:
    number = _double(value, "fixed-point")
    return f"{number:,.{precision}f}" if math.isfinite(number) else _special(number)


def _scientific(value: Value, precision: int) -> str:
    """Write a double with an exponent. Kubernetes takes the precision for a width (`%3e` instead of `%.3e`)."""
    number = _double(value, "scientific")
    if not math.isfinite(number):
        return _special(number).rjust(precision)
    mantissa, _, exponent = f"{number:.{PRECISION}e}".partition("e")
    power = f"{int(exponent):03d}" if int(exponent) < 0 else f"{int(exponent):02d}"
    return f"{mantissa}\u00d710{power.translate(_SUPERSCRIPT)}".rjust(precision)


def _special(number: float) -> str:
    return "NaN" if math.isnan(number) else ("∞" if number > 0 else "-∞")


def _binary(value: Value, _precision: int) -> str:
    if type(value) not in (int, UInt, bool):
        raise _wrong("binary", value)
    return format(int(value), "b")


def _octal(value: Value, _precision: int) -> str:
    if type(value) not in (int, UInt):
        raise _wrong("octal", value)
    return format(int(value), "o")


def _hex(value: Value, _precision: int) -> str:
    if type(value) in (str, bytes):
        return (value.encode() if type(value) is str else value).hex()
    if type(value) not in (int, UInt):
        raise _wrong("hex", value)
    return format(int(value), "x")


_CLAUSES: dict[str, Clause] = {
    "s": _text,
    "d": _decimal,
    "f": _fixed,
    "e": _scientific,
    "b": _binary,
    "x": _hex,
    "X": lambda value, precision: _hex(value, precision).upper(),
    "o": _octal,
}
