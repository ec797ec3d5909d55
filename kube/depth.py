"""JSON that is nested very deeply, which decoders refuse whole: a user can put 5,000 levels into a claim's parameters.

Pure, and without recursion.
"""

from __future__ import annotations

import re

MAX_DEPTH = 100
"""Levels of a driver's parameters that are read; a claim with more is malformed to us."""
KEPT_DEPTH = 2 * MAX_DEPTH
"""Levels of any text that are kept: more than MAX_DEPTH below the root of a list's parameters."""

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def shallow(text: bytes) -> bytes:
    """Return JSON with null for what lies deeper than KEPT_DEPTH."""
    kept: list[bytes] = []
    depth = begin = 0
    for token in _TOKENS.finditer(text):
        if text[token.start()] in b"[{":
            depth += 1
            if depth == KEPT_DEPTH + 1:
                kept += (text[begin : token.start()], b"null")
        elif text[token.start()] in b"]}":
            if depth == KEPT_DEPTH + 1:
                begin = token.end()
            depth -= 1
    kept.append(text[begin:])
    return b"".join(kept)


def too_deep(value: object) -> bool:
    """Whether a value is nested deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _within(outer)]
        if not level:
            return False
    return any(_within(outer) for outer in level)


def _within(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
