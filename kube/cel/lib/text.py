"""Text: the strings extension of cel-go, version 2. Positions count code points."""

from __future__ import annotations

from collections.abc import Callable

from kube.cel.errors import SelectorFault
from kube.cel.lib.formatting import format_text
from kube.cel.limits import affordable
from kube.cel.values import Value

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_EN_QUAD, _HAIR_SPACE = 0x2000, 0x200A
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(_EN_QUAD, _HAIR_SPACE + 1)))
"""What Go takes for white space (Unicode's White_Space)."""
_QUOTED = str.maketrans(
    {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\""}
)


def _outside(index: int) -> SelectorFault:
    return SelectorFault(f"index out of range: {index}")


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise _outside(index)
    return text[index : index + 1]


def _index_of(text: str, part: str, offset: int = 0) -> int:
    if not part:
        return offset
    if offset < 0:
        raise _outside(offset)
    return text.find(part, offset)


def _last_index_of(text: str, part: str, *offset: int) -> int:
    if not part:
        return offset[0] if offset else len(text)
    if not offset:
        return text.rfind(part)
    if offset[0] < 0:
        raise _outside(offset[0])
    return -1 if offset[0] >= len(text) else text.rfind(part, 0, offset[0] + len(part))


def _substring(text: str, start: int, *end: int) -> str:
    stop = end[0] if end else len(text)
    if end and start > stop:
        raise SelectorFault(f"invalid substring range. start: {start}, end: {stop}")
    for index in (start, stop):
        if not 0 <= index <= len(text):
            raise _outside(index)
    return text[start:stop]


def _split(text: str, separator: str, limit: int = -1) -> tuple[str, ...]:
    if limit == 0:
        return ()
    if separator:
        return tuple(text.split(separator, limit - 1 if limit > 0 else -1))
    if limit < 0 or limit >= len(text):
        return tuple(text)
    return (*text[: limit - 1], text[limit - 1 :])


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    count = text.count(old)
    affordable(len(text) + len(new) * (count if limit < 0 else min(count, limit)))
    return text.replace(old, new, max(limit, -1))


def _join(values: tuple[Value, ...], separator: str = "") -> str:
    for value in values:
        if type(value) is not str:
            raise SelectorFault(f"join: invalid input: {value!r}")
    affordable(sum(map(len, values)) + len(separator) * len(values))
    return separator.join(values)


def _on_texts(function: str, run: Callable[[str, str], bool]) -> Callable[[Value, Value], bool]:
    def checked(text: Value, part: Value) -> bool:
        if type(text) is not str or type(part) is not str:
            raise SelectorFault(f"no such overload: {function}({type(text).__name__}, {type(part).__name__})")
        return run(text, part)

    return checked


BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    "contains_string": _on_texts("contains", lambda text, part: part in text),
    "starts_with_string": _on_texts("startsWith", str.startswith),
    "ends_with_string": _on_texts("endsWith", str.endswith),
    "string_char_at_int": _char_at,
    "string_index_of_string": _index_of,
    "string_index_of_string_int": _index_of,
    "string_last_index_of_string": _last_index_of,
    "string_last_index_of_string_int": _last_index_of,
    "string_lower_ascii": lambda text: text.translate(_LOWER),
    "string_upper_ascii": lambda text: text.translate(_UPPER),
    "string_replace_string_string": _replace,
    "string_replace_string_string_int": _replace,
    "string_split_string": _split,
    "string_split_string_int": _split,
    "string_substring_int": _substring,
    "string_substring_int_int": _substring,
    "string_trim": lambda text: text.strip(_SPACE),
    "string_format": format_text,
    "strings_quote": lambda text: f'"{text.translate(_QUOTED)}"',
    "list_join": _join,
    "list_join_string": _join,
}
