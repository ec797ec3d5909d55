"""Text to tokens: the lexer rules of CEL's grammar (cel-go parser/gen/CEL.g4)."""

from __future__ import annotations

import re
from typing import NamedTuple

from kube.cel.errors import SelectorSyntaxError

_HEX = "[0-9a-fA-F]"
_ESCAPE = rf"""\\(?:[abfnrtv"'\\?`]|[0-3][0-7][0-7]|[xX]{_HEX}{{2}}|u{_HEX}{{4}}|U{_HEX}{{8}})"""
_PLAIN = (
    rf'''"""(?:{_ESCAPE}|[^\\])*?"""|\'\'\'(?:{_ESCAPE}|[^\\])*?\'\'\''''
    rf"""|"(?:{_ESCAPE}|[^\\"\n\r])*"|'(?:{_ESCAPE}|[^\\'\n\r])*'"""
)
_RAW = r'''[rR](?:"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"[^"\n\r]*"|'[^'\n\r]*')'''
_RULES = re.compile(
    rf"""
    (?P<space>[\t\ \r\n\f]+|//[^\n]*)
    |(?P<bytes>[bB](?:{_RAW}|{_PLAIN}))
    |(?P<string>{_RAW}|{_PLAIN})
    |(?P<double>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<uint>(?:0x{_HEX}+|[0-9]+)[uU])
    |(?P<int>0x{_HEX}+|[0-9]+)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<op>==|!=|<=|>=|&&|\|\||[\[\]{{}}().,\-!?:+*/%<>])
    """,
    re.VERBOSE,
)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_ESCAPES = re.compile(rf"\\(?:([xX]{_HEX}{{2}}|u{_HEX}{{4}}|U{_HEX}{{8}})|([0-3][0-7][0-7])|(.))", re.DOTALL)


class Token(NamedTuple):
    """A token: `kind` is a group of the rules, or `end`."""

    kind: str
    text: str
    at: int


def error_at(text: str, at: int, reason: str) -> SelectorSyntaxError:
    """Return the error for an offset of a text."""
    return SelectorSyntaxError(reason, text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1)


def tokenize(text: str) -> list[Token]:
    """Split a text. Raises SelectorSyntaxError for what no rule matches."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _RULES.match(text, at)
        if match is None:
            raise error_at(text, at, f"unexpected character {text[at]!r}")
        kind = match.lastgroup
        assert kind is not None
        if kind != "space":
            found.append(Token(kind, match.group(), at))
        at = match.end()
    found.append(Token("end", "", len(text)))
    return found


def unquote(token: str) -> str:
    """Return the value of a string literal. Raises ValueError for an invalid code point."""
    body, raw = _body(token)
    return body if raw else _ESCAPES.sub(_character, body)


def unquote_bytes(token: str) -> bytes:
    """Return the value of a bytes literal. Raises ValueError for an escape that bytes have not."""
    body, raw = _body(token[1:])
    if raw:
        return body.encode()
    parts: list[bytes] = []
    last = 0
    for match in _ESCAPES.finditer(body):
        parts += [body[last : match.start()].encode(), bytes([_byte(match)])]
        last = match.end()
    return b"".join([*parts, body[last:].encode()])


def _body(token: str) -> tuple[str, bool]:
    raw = token[0] in "rR"
    token = token[raw:].replace("\r\n", "\n").replace("\r", "\n")
    width = 3 if len(token) >= 6 and token[:3] in ('"""', "'''") else 1
    return token[width:-width], raw


def _character(match: re.Match[str]) -> str:
    code = _code(match)
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise ValueError("invalid unicode code point")
    return chr(code)


def _byte(match: re.Match[str]) -> int:
    if (wide := match[1]) and wide[0] in "uU":
        raise ValueError("unable to unescape string")
    return _code(match)


def _code(match: re.Match[str]) -> int:
    if match[1]:
        return int(match[1][1:], 16)
    if match[2]:
        return int(match[2], 8)
    return _SIMPLE.get(match[3], ord(match[3]))
